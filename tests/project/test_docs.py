"""The documents say what the results say, and link to what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COPIES = [DOCS / name for name in ("_build", "benchmarks", "models")]  # of `make docs`
PAGES = sorted(path for path in DOCS.rglob("*.md") if not any(map(path.is_relative_to, COPIES)))
DOCUMENTS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "benchmarks" / name for name in ("README.md", "training/README.md")),
    *(ROOT / "captum_plq" / "models" / "weights").glob("*.md"),
]
NETWORKS = ("dlib", "edgeface", "mobilefacenet")


def rows(path):
    return [line for line in path.read_text("utf-8").splitlines() if line.startswith("| ")]


def test_the_estimators_table_is_that_of_the_results():
    shown = [
        line for line in rows(ROOT / "docs" / "estimators.md") if line[2:].startswith(NETWORKS)
    ]
    assert len(shown) == 12
    results = rows(ROOT / "benchmarks" / "results" / "estimators.md")
    assert not set(shown) - set(results)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    words = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(((?!https?:|#)[^)#]+)[^)]*\)", words)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def words(page):
    """Words of running text: without front matter, code, directives, displayed maths and tables."""
    text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text("utf-8"), flags=re.DOTALL)
    text = re.sub(r"(?ms)^ *(`{3,}).*?^ *\1 *$|\$\$.*?\$\$|^\|.*?$", "", text)
    return len(text.split())


def test_pages_are_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900
    tutorials = {page.stem: words(page) for page in (DOCS / "tutorials").glob("*.md")}
    assert tutorials["first_map"] <= 300  # it promises five minutes
    assert max(tutorials.values()) <= 900, tutorials
