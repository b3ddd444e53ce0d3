"""The commands that score maps of faces, one entry each."""

from __future__ import annotations

from typing import Any

from benchmarks.amend import add_amend
from benchmarks.captum_metrics_cli import add_captum_metrics
from benchmarks.curves_cli import add_curves
from benchmarks.edc_cli import add_edc
from benchmarks.inpainting_cli import add_inpainting
from benchmarks.map_time_cli import add_map_time
from benchmarks.misfit_cli import add_misfit
from benchmarks.random_mask_cli import add_random_mask
from benchmarks.recognition_cli import add_recognition
from benchmarks.sanity_cli import add_sanity
from benchmarks.standards_cli import add_standards
from benchmarks.study_cli import add_study_options, run_studies

__all__ = ["add_faithfulness"]


def add_faithfulness(protocols: Any) -> None:
    """Adds every protocol of this kind to the subparsers of the command line."""
    add_random_mask(protocols)
    add_inpainting(protocols, add_study_options, run_studies)
    add_misfit(protocols, add_study_options, run_studies)
    add_curves(protocols, add_study_options, run_studies)
    add_standards(protocols, add_study_options, run_studies)
    add_sanity(protocols, add_study_options, run_studies)
    add_captum_metrics(protocols, add_study_options, run_studies)
    add_recognition(protocols)
    add_edc(protocols)
    add_map_time(protocols)
    add_amend(protocols)
