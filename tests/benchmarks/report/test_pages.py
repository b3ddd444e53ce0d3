"""All committed pages are what the committed results give."""

import shutil
from pathlib import Path

import pytest

from benchmarks.report.pages import write_pages

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for path in RESULTS.glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    write_pages(folder)
    return folder


@pytest.mark.parametrize("name", sorted(p.name for p in RESULTS.iterdir() if p.suffix != ".json"))
def test_page_is_up_to_date(rebuilt, name):
    path = rebuilt / name
    if not path.exists() and name.endswith(".png"):
        pytest.skip("an example, made when its protocol runs")
    if path.suffix == ".png":
        assert path.stat().st_size > 5000
    else:
        assert path.read_text("utf-8") == (RESULTS / name).read_text("utf-8")
