"""The commands that score maps of faces, one entry each."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.old_study_cli import add_study_options, run_studies
from benchmarks.protocols.captum_metrics_cli import add_captum_metrics
from benchmarks.protocols.edc_cli import add_edc
from benchmarks.protocols.inpainting_cli import add_inpainting
from benchmarks.protocols.out_of_domain_cli import add_misfit
from benchmarks.protocols.random_mask_cli import add_random_mask
from benchmarks.protocols.recognition_cli import add_recognition
from benchmarks.protocols.sanity_cli import add_sanity
from benchmarks.protocols.standards_cli import add_standards
from benchmarks.report.amend import add_amend

__all__ = ["add_faithfulness"]


def add_faithfulness(protocols: Any) -> None:
    """Adds every protocol of this kind to the subparsers of the command line."""
    add_random_mask(protocols)
    add_inpainting(protocols, add_study_options, run_studies)
    add_misfit(protocols, add_study_options, run_studies)
    add_standards(protocols, add_study_options, run_studies)
    add_sanity(protocols, add_study_options, run_studies)
    add_captum_metrics(protocols, add_study_options, run_studies)
    add_recognition(protocols)
    add_edc(protocols)
    add_amend(protocols)
