"""Tables and figures of the documents, made from results: ``python -m benchmarks readme``.

A table of a README file stands between ``<!-- table NAME -->`` and ``<!-- end -->``; what is there
is replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.tables import table
from benchmarks.report.data_flow import data_flow_figure
from captum_plq.cli.demo import run_demo

__all__ = ["FIGURES", "PAGES", "TABLES", "refresh_figures", "refreshed"]

PAGES = ("README.md", "benchmarks/README.md")
FIGURES = ("docs/figures/demo.png", "docs/figures/data_flow.png")

_MASKS = ("mobilefacenet_y1", "mobilefacenet_foamliu", "mobilefacenet-dropout")
_SPEED = {
    "IResNet-18": "iresnet18",
    "IResNet-50": "iresnet50",
    "IResNet-100": "iresnet100",
    "InceptionResnetV1": "inception-resnet-v1",
    "ViT-S": "vit-s",
    "ConvNeXt-T": "convnext-t",
    "dlib's ResNet-29": "dlib",
}
_TIMED = {
    "sampling (paper)": "plq",
    '`"balanced"`': "plq-balanced",
    '`"closed-form"`': "plq-closed-form",
    "SER-FIQ, then gradient": "naive-plq",
    "IntegratedGradients, 50 steps": "integrated-gradients",
    "SER-FIQ by 100 full passes": "official-serfiq",
}
_SQUARES = {
    "plq, as in the paper": "plq",
    "relative": "plq-relative",
    "relative, smoothed": "plq-relative-smooth",
    "relative, 4 directions": "plq-directions-4-relative",
    "the same, smoothed": "plq-directions-4-relative-smooth",
    "relative, of Σe: no quality": "saliency-sum-relative",
    "paper's map, random weights": "plq (random weights)",
    "relative, random weights": "plq-relative (random weights)",
    "the same, smoothed, random weights": "plq-relative-smooth (random weights)",
}
_FILLS = ("black", "mean", "noise", "texture", "blur")


def _cost(results: Path) -> list[str]:
    """Time as a ratio to Saliency, network × method, from the speed protocol."""
    rows = []
    for name, model in _SPEED.items():
        for batch in (1, 8):
            record = _record(results / f"speed-{model}-cpu-b{batch}.json")
            ratios = {m["name"]: m["ratio"] for m in record["methods"]}
            cells = [ratios.get(method) for method in _TIMED.values()]
            texts = ["" if x is None else _ratio(x["median"]) for x in cells]
            rows.append([f"{name}, batch {batch}", *texts])
    return table(["", *_TIMED], rows)


def _squares(results: Path) -> list[str]:
    """AUROC of squares, method × network, from the random masks."""
    records = {model: _record(results / f"random-mask-{model}.json") for model in _MASKS}
    rows = []
    for words, method in _SQUARES.items():
        found = [record["estimates"]["auroc"].get(method) for record in records.values()]
        if not any(found):
            continue
        cells = [
            "" if own is None else " / ".join(_share(own[f"middle={x}"]["mean"]) for x in _FILLS)
            for own in found
        ]
        rows.append([words, *cells])
    return table(["", *_MASKS], rows)


TABLES: dict[str, Callable[[Path], list[str]]] = {"cost": _cost, "squares": _squares}
"""Name of a table → its lines, made from a folder of results."""


def refreshed(text: str, results: Path) -> str:
    """A page with its tables made anew.

    Args:

        text (str): The page.
        results (Path): The folder of results.

    Returns:
        *str*: the page; the same if its tables were up to date.

    Raises:
        ValueError: for a table that nothing makes.
        FileNotFoundError: if results are missing.
    """

    def made(place: re.Match[str]) -> str:
        name = place[1]
        if name not in TABLES:
            raise ValueError(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
        return "\n".join([f"<!-- table {name} -->", "", *TABLES[name](results), "", "<!-- end -->"])

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


def refresh_figures(root: Path) -> list[Path]:
    """Makes the figures: that of ``captum-plq demo``, and the paper's Fig. 1.

    Args:

        root (Path): Of the repository.

    Returns:
        *list[Path]*: the figures.
    """
    demo, data_flow = (root / name for name in FIGURES)
    with tempfile.TemporaryDirectory() as folder:
        run_demo(Path(folder))
        (figure,) = Path(folder).glob("*.png")
        shutil.copyfile(figure, demo)
    data_flow_figure().savefig(data_flow, dpi=110)
    return [demo, data_flow]


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
