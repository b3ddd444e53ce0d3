"""Sphinx's configuration: `make docs`. Notebooks are run, and any error or warning fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

import captum_plq

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "captum_plq"
author = "The captum_plq authors"
copyright = "The captum_plq authors"
version = release = captum_plq.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "conf.py"]

html_theme = "furo"
html_title = "captum_plq"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say them
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Pages that live outside this folder, because that is where one looks for them in the repository:
# copied here, with their pictures, for each build.
COPIED = {
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/training/README.md": "benchmarks/training/index.md",
    **{
        f"captum_plq/models/weights/{name}.md": f"models/{name}.md"
        for name in ("mobilefacenet-places", "mobilefacenet-dropout")
    },
    **{
        f"benchmarks/results/{path.name}": f"benchmarks/results/{path.name}"
        for pattern in ("*.md", "*.png", "training-*.json")
        for path in sorted((ROOT / "benchmarks" / "results").glob(pattern))
    },
}


def copy_pages(_: Sphinx) -> None:
    """Copies what :data:`COPIED` names; what it no longer names goes."""
    for folder in ("benchmarks", "models"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)
    for source, target in COPIED.items():
        (DOCS / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, DOCS / target)


def follow_copies(_: Sphinx, docname: str, text: list[str]) -> None:
    """Turns links that leave this folder into links to the copies, and theirs back.

    Of a link to any other file of the repository its words stay, and the file's name.
    """
    origin = next((s for s, t in COPIED.items() if t == f"{docname}.md"), f"docs/{docname}.md")
    here = (ROOT / origin).parent

    def follow(link: re.Match[str]) -> str:
        path, _, anchor = link[2].partition("#")
        file = (here / path).resolve()
        if "://" in path or not path or not file.is_relative_to(ROOT) or not file.is_file():
            return link[0]
        name = file.relative_to(ROOT).as_posix()
        if name in COPIED:
            target = COPIED[name]
        elif file.is_relative_to(DOCS):
            target = file.relative_to(DOCS).as_posix()
        else:
            return link[1] if f"`{name}`" == link[1] else f"{link[1]} (`{name}`)"
        up = "../" * docname.count("/")
        return f"[{link[1]}]({up}{target}{'#' + anchor if anchor else ''})"

    text[0] = re.sub(r"\[([^\]]*)\]\(([^()\s]+)\)", follow, text[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", follow_copies)
