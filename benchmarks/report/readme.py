"""Write the tables and figures of the documents from results: ``python -m benchmarks readme``.

Whatever stands between ``<!-- table NAME -->`` and ``<!-- end -->`` on a page is replaced.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks.harness.pages import table
from benchmarks.harness.protocol import read_record
from benchmarks.report.data_flow import data_flow_figure
from captum_plq.cli.demo import run_demo

PAGES = ("README.md", "benchmarks/README.md", "docs/how_to/speed.md")
FIGURES = ("docs/figures/demo.png", "docs/figures/data_flow.png")

_NETWORKS = (
    "mobilefacenet_y1", "mobilefacenet_foamliu", "mobilefacenet-dropout", "mobilefacenet-places"
)  # fmt: skip
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
    "PLQ, sampling (paper)": "plq",
    "PLQ, balanced": "plq-balanced",
    "PLQ, closed form": "plq-closed-form",
    "SER-FIQ, then gradient": "naive-plq",
    "IntegratedGradients, 50 steps": "integrated-gradients",
    "SER-FIQ alone, 100 full passes": "official-serfiq",
}
_SHORT = ("IResNet-18", "IResNet-100", "ViT-S")
_SHORT_METHODS = ("PLQ, sampling (paper)", "PLQ, closed form", "IntegratedGradients, 50 steps")
_SQUARES = {
    "local quality": "local",
    "local quality, standardised": "local-z",
    "the same, outlines from the image": "local-z-guided",
    "PLQ, paper's map": "plq",
    "PLQ, relative": "plq-relative",
    "PLQ, relative, smoothed": "plq-relative-smooth",
    "PLQ, 4 directions, relative": "plq-directions-4-relative",
    "PLQ, 4 directions, relative, smoothed": "plq-directions-4-relative-smooth",
    "gradient without quality, relative": "saliency-sum-relative",
    "distance from eigenfaces, no network": "eigenface",
    "random weights: local quality": "local (random weights)",
    "random weights: local quality, standardised": "local-z (random weights)",
    "random weights: the same, outlines from the image": "local-z-guided (random weights)",
    "random weights: paper's map": "plq (random weights)",
    "random weights: relative": "plq-relative (random weights)",
    "random weights: relative, smoothed": "plq-relative-smooth (random weights)",
}
_LEVELS = {
    "Q itself": "Q",
    "local quality": "local",
    "local quality, standardised": "local-z",
    "PLQ, paper's map": "plq",
    "PLQ, relative": "plq-relative",
    "gradient without quality": "saliency-sum",
    "distance from eigenfaces": "eigenface",
    "random weights: local quality": "local (random weights)",
    "random weights: paper's map": "plq (random weights)",
}
_FILLS = {"black": "black", "mean colour": "mean", "noise": "noise", "another face": "texture",
          "blur": "blur"}  # fmt: skip


def _cost(
    networks: Iterable[str], batches: Sequence[int], methods: Sequence[str], results: Path
) -> list[str]:
    """Return time relative to Saliency, network by method, from the speed protocol."""
    rows = []
    for name, batch in product(networks, batches):
        record = read_record(results / f"speed-{_SPEED[name]}-cpu-b{batch}.json")
        ratios = {m["name"]: m["ratio"] for m in record["methods"]}
        cells = [ratios.get(_TIMED[method]) for method in methods]
        row = [name + f", batch {batch}" * (len(batches) > 1)]
        rows.append(row + ["" if x is None else _ratio(x["median"]) for x in cells])
    return table(["", *methods], rows)


def _squares(model: str, results: Path) -> list[str]:
    """Return the AUROC of squares on one network, method by fill, from the random masks."""
    auroc = read_record(results / f"random-mask-{model}.json")["estimates"]["auroc"]
    rows = [
        [words, *(_share(auroc[method][f"middle={fill}"]["mean"]) for fill in _FILLS.values())]
        for words, method in _SQUARES.items()
        if method in auroc
    ]
    return table(["", *_FILLS], rows)


def _levels(model: str, results: Path) -> list[str]:
    """Return how the means of maps rank images on one network, from the protocol level."""
    record = read_record(results / f"level-{model}.json")
    degradations, estimates = record["settings"]["degradations"], record["estimates"]
    rows = []
    for words, method in _LEVELS.items():
        if method not in estimates["auroc"]:
            continue
        cells = [estimates["auroc"][method][f"condition={name}"] for name in degradations]
        cells.append(estimates["spearman"][method]["all"])
        rows.append([words, *(_share(cell["mean"]) for cell in cells)])
    return table(["", *degradations, "Spearman with Q"], rows)


TABLES: dict[str, Callable[[Path], list[str]]] = {
    "cost": partial(_cost, _SPEED, (1, 8), tuple(_TIMED)),
    "cost-in-short": partial(_cost, _SHORT, (1,), _SHORT_METHODS),
    **{f"squares-{model}": partial(_squares, model) for model in _NETWORKS},
    **{f"level-{model}": partial(_levels, model) for model in _NETWORKS},
}
"""Name of a table → its lines, made from a folder of results."""


def refreshed(text: str, results: Path) -> str:
    """Return a page with its tables made anew.

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
    """Make the figures: that of ``captum-plq demo``, and the paper's Fig. 1.

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


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0").replace("-0.", "-.")
