"""The command line of the sanity checks, and their page."""

from __future__ import annotations

import argparse
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_metric_report import write_metric_report
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import table, write_json
from benchmarks.protocols.inpainting_cli import AddOptions, RunStudies
from benchmarks.protocols.sanity import METRICS, RULE, Sanity, verdicts
from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import merge_channels
from captum_plq.metrics.repeatability import Repeatability, repeatability

__all__ = ["add_sanity", "repeatability_over_passes"]

_PASSES = (10, 30, 100, 300)
_FACES = 32


def add_sanity(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("sanity", help="do maps depend on the weights and the image?")
    add_options(parser)
    default = Sanity()
    add = parser.add_argument
    add("--samples", default=default.samples, type=int, help="noisy copies (default: 5)")
    add("--stages", default=default.stages, type=int, help="depths of randomising (default: 6)")
    add("--others", default=default.others, type=int, help="faces to compare with (default: 8)")
    parser.set_defaults(run=lambda given: _sanity(given, run))


def _sanity(given: argparse.Namespace, run: RunStudies) -> int:
    protocol = Sanity(given.samples, Sanity.noise, given.stages, given.others, given.seed)

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study, context.methods, list(METRICS), (), compared=("weights",), seed=given.seed
        )
        record["verdicts"] = verdicts(record["estimates"])
        record["repeatability"] = repeatability_over_passes(context)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)

    run(given, lambda _: protocol, finish)
    rule = ", ".join(f"`{metric}` < {bound:g}" for metric, bound in RULE.items())
    introduction = [
        "Sanity",
        "Means over faces; in brackets 95 % bootstrap intervals over faces. A map passes if "
        f"{rule}, each with the whole of its interval. *random* and *centre* ignore the network: "
        "they must fail.",
    ]
    print(write_metric_report(given.output, "sanity", introduction, METRICS, extra=_more))
    return 0


def repeatability_over_passes(context: StudyContext) -> dict[str, list[dict[str, Any]]]:
    """How Q and the maps of PLQ repeat over three seeds, by the number of passes.

    Args:

        context (StudyContext): With at least two reference faces; the first 32 are explained.

    Returns:
        *dict*: ``"node"`` and ``"serfiq"``, the target scalar → one entry for each m.
    """
    subject = context.subject
    images = torch.cat(subject.reference_batches())[:_FACES]

    def of(target: Any) -> tuple[Repeatability, ...]:
        def assess(passes: int, seed: int) -> tuple[Tensor, Tensor]:
            serfiq = SERFIQ(subject.model, passes=passes, dropout=subject.dropout, seed=seed)
            plq = PixelQualityAttribution(serfiq, target_scalar=target)
            maps, quality = [], []
            for part in images.split(subject.batch):
                attributions, own = plq.attribute(part, return_quality=True)
                maps.append(merge_channels(cast("Tensor", attributions)))
                quality.append(own)
            return torch.cat(maps), torch.cat(quality)

        return repeatability(assess, _PASSES)

    return {target: [_rounded(x) for x in of(target)] for target in ("node", "serfiq")}


def _rounded(found: Repeatability) -> dict[str, Any]:
    numbers = {
        name: float(f"{getattr(found, name):.5g}")
        for name in ("map_spearman", "map_difference", "quality_spearman", "quality_difference")
    }
    return {"passes": found.passes, **numbers}


def _more(record: dict[str, Any]) -> list[str]:
    rows = [
        [name, "passes" if not failed else f"fails: {', '.join(failed)}"]
        for name, failed in record["verdicts"].items()
    ]
    lines = ["### Verdict", "", *table(["method", "verdict"], rows, words=2), ""]
    lines += [
        "### Repeatability over three seeds of the dropout masks",
        "",
        f"On at most {_FACES} of the reference faces; means over pairs of seeds. A relative "
        "difference is the length of the difference over the mean length of both.",
        "",
    ]
    head = ["target scalar", "m", "maps, Spearman", "maps, difference", "Q, Spearman",
            "Q, difference"]  # fmt: skip
    cells = [
        [
            target,
            str(x["passes"]),
            f"{x['map_spearman']:.4f}",
            f"{x['map_difference']:.4f}",
            f"{x['quality_spearman']:.3f}",
            f"{x['quality_difference']:.4f}",
        ]
        for target, found in record["repeatability"].items()
        for x in found
    ]
    return [*lines, *table(head, cells), ""]
