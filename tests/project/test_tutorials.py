"""The documentation's notebooks: `make docs` runs them; here they are read, and run when asked."""

import ast
import re
import warnings

import pytest

from tests.project.test_docs import DOCS, PAGES

NOTEBOOKS = [path for path in PAGES if "{code-cell}" in path.read_text("utf-8")]
_NAMED = [path.relative_to(DOCS).as_posix() for path in NOTEBOOKS]


def cells(path):
    """The code of each cell, its options and IPython's own lines left out."""
    found = re.findall(r"```\{code-cell\}[^\n]*\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    return [re.sub(r"(?m)^(:\w+:.*|%.*)$", "", cell) for cell in found]


def test_there_are_all_of_them():
    assert {"index.md", "method.md"} <= set(_NAMED)
    assert sum(name.startswith("tutorials/") for name in _NAMED) >= 7


@pytest.mark.parametrize("name", _NAMED)
def test_cells_are_code_of_lines_that_fit_and_what_a_page_names_is_there(name):
    path = DOCS / name
    assert cells(path)
    for cell in cells(path):
        ast.parse(cell)
        assert max(map(len, cell.splitlines())) <= 100
    for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", path.read_text("utf-8")):
        root = DOCS if target.startswith("/") else path.parent
        page = root / f"{target.lstrip('/')}.md"
        assert page.exists() or re.match("/?(benchmarks|models)/", target), target


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text("utf-8").splitlines()
    names = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES}
    assert not names - {"index", *contents}


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMED)
def test_cells_run(name, monkeypatch):
    pytest.importorskip("quantus", reason="needs what `make docs` installs")
    path = DOCS / name
    monkeypatch.chdir(path.parent)
    names: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in cells(path):
            exec(compile(cell, name, "exec"), names)
