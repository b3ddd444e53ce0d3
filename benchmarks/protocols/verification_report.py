"""The verification table, made anew from all results in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.verification import VerificationResult

__all__ = ["verification_markdown", "write_verification_report"]

_HEAD = ["network", "images", "accuracy", "± sd", "cosine, mated", "non-mated", "pairs", "left out"]


def write_verification_report(directory: Path) -> Path:
    """Writes ``verification.md`` over all ``verification-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "verification-*.json")
    text = directory / "verification.md"
    results = [VerificationResult.from_json(record) for record in records]
    text.write_text(verification_markdown(results), encoding="utf-8")
    return text


def verification_markdown(results: Sequence[VerificationResult]) -> str:
    """One table over all results, with how it was measured above and the conditions below."""
    lines = [
        "# Verification",
        "",
        "Are two images of the same person? By the cosine of their embeddings, no flipped image "
        "added, the threshold of each fold being the best on all other folds. Mean and standard "
        "deviation over the folds.",
        "",
        *table(_HEAD, [_cells(result) for result in results], 2),
        "",
        *(f"- **{result.model}**: {_about(result)}" for result in results),
    ]
    return "\n".join(lines) + "\n"


def _cells(result: VerificationResult) -> list[str]:
    return [
        result.model,
        result.images,
        number(result.accuracy, ".4f"),
        number(result.deviation, ".4f"),
        number(result.mated, ".3f"),
        number(result.non_mated, ".3f"),
        number(sum(fold.pairs for fold in result.folds), "d"),
        number(result.pairs_left_out, "d"),
    ]


def _about(result: VerificationResult) -> str:
    folds = ", ".join(f"{fold.accuracy:.4f} at {fold.threshold:.3f}" for fold in result.folds)
    return (
        f"{result.source}. {result.pairs}, {result.faces} images "
        f"({len(result.left_out)} unusable); by fold, at its threshold: {folds}. "
        f"{result.conditions.line()}; {result.conditions.date}."
    )
