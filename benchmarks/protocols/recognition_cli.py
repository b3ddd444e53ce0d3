"""The command line of recognition along a map."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_study_cli import add_study_options, how_many, run_studies, words
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.curves import IMPUTERS
from benchmarks.protocols.recognition import (
    METRICS,
    RANDOM_ORDERS,
    Recognition,
    clean_threshold,
    embed,
    with_errors,
)
from benchmarks.protocols.recognition_report import (
    mean_recognition_curves,
    write_recognition_report,
)
from benchmarks.subjects.face_sets import FaceSets, PairSets, pair_sets, quick_pair_sets
from captum_plq.models import FaceModel, ModelSpec, load_model

__all__ = ["add_recognition"]


def add_recognition(protocols: Any) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("recognition", help="is a face recognised as pixels go by a map?")
    add_study_options(parser)
    add = parser.add_argument
    add("--pairs", type=Path, metavar="FILE", help="CSV: fold,first,second,mated (with --images)")
    add("--imputers", default=list(IMPUTERS), type=words, help="default: all four")
    add("--steps", default=Recognition.steps, type=int, help="along a curve (default: 20)")
    add("--orders", default=Recognition.orders, type=int, help="random ones (default: 10)")
    add("--fmr", default=1e-3, type=float, help="of clean pairs, for the threshold (default: .001)")
    add("--matcher", help="network that recognises (default: the one that is explained)")
    parser.set_defaults(run=_recognition)


def _draw(given: argparse.Namespace, spec: ModelSpec) -> PairSets:
    if (given.images is None) != (given.pairs is None):
        raise ValueError("--images and --pairs go together: give both, or neither.")
    faces, reference = how_many(given)
    if given.images is None:
        return quick_pair_sets(spec, faces, reference, given.seed)
    return pair_sets(given.images, given.pairs, spec, faces, reference, given.seed)


def _recognition(given: argparse.Namespace) -> int:
    matcher = None if given.matcher is None else load_model(given.matcher).eval().to(given.device)
    faces_of: list[PairSets] = []

    def protocol(faces: FaceSets) -> Recognition:
        faces_of[:] = [pairs := cast("PairSets", faces)]
        return Recognition(
            dict(zip(pairs.names, pairs.gallery, strict=True)),
            tuple(given.imputers),
            given.steps,
            given.orders,
            given.seed,
            matcher,
            "" if matcher is None else matcher.spec.name,
        )

    def finish(study: Study, context: StudyContext) -> None:
        (pairs,) = faces_of
        threshold = (
            _threshold(matcher or context.model, pairs, given.fmr, given.batch)
            if pairs.several_people
            else None
        )
        done = Study(study.header, study.sessions, study.failed, with_errors(study.rows, threshold))
        record = summarise(
            done,
            (RANDOM_ORDERS, *context.methods),
            list(METRICS),
            ("imputer",),
            compared=("fnmr_gain", "similarity_gain"),
            seed=given.seed,
        )
        record["groups"] = [f"imputer={name}" for name in given.imputers]
        count = len(pairs.names)
        record["threshold"] = {
            "cosine": threshold,
            "fmr": given.fmr,
            "non_mated_pairs": count * (count - 1),
        }
        record["curves"] = mean_recognition_curves(done)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)

    run_studies(given, protocol, finish, _draw)
    for path in write_recognition_report(given.output):
        print(path)
    return 0


def _threshold(model: FaceModel, pairs: PairSets, fmr: float, batch: int) -> float:
    """Of the network that recognises, on the clean images."""
    parameter = next(model.parameters())
    probes, gallery = (
        torch.cat([embed(model, part.to(parameter)) for part in side.split(batch)])
        for side in (pairs.images, pairs.gallery)
    )
    return clean_threshold(probes, gallery, fmr)
