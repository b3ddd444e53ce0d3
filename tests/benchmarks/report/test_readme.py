"""The README files' tables are those of the results."""

import json
from pathlib import Path

import pytest

from benchmarks.report.readme import PAGES, TABLES, refreshed

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_up_to_date(page):
    text = (ROOT / page).read_text("utf-8")
    assert "<!-- table " in text
    assert refreshed(text, RESULTS) == text, "run: python -m benchmarks readme"


def test_what_stands_between_is_replaced_and_the_rest_kept():
    page = "before\n<!-- table cost -->\nold numbers\n<!-- end -->\nafter <!-- end -->\n"
    made = refreshed(page, RESULTS)
    assert made.startswith("before\n<!-- table cost -->\n\n|")
    assert made.endswith("|\n\n<!-- end -->\nafter <!-- end -->\n")
    assert "old numbers" not in made
    with pytest.raises(ValueError, match="no table 'costs'; there are cost, cost-in-short"):
        refreshed("<!-- table costs -->\n<!-- end -->", RESULTS)


@pytest.mark.parametrize(
    ("table", "row", "column", "file", "path"),
    [
        ("cost", "IResNet-18, batch 1", 2, "speed-iresnet18-cpu-b1", "plq-balanced"),
        ("cost-in-short", "IResNet-18", 2, "speed-iresnet18-cpu-b1", "plq-closed-form"),
        ("squares-mobilefacenet_y1", "PLQ, relative", 3, "random-mask-mobilefacenet_y1", "noise"),
    ],
)
def test_numbers_are_those_of_the_files(table, row, column, file, path):
    record = json.loads((RESULTS / f"{file}.json").read_text("utf-8"))
    if file.startswith("speed"):
        (expected,) = [m["ratio"]["median"] for m in record["methods"] if m["name"] == path]
    else:
        expected = record["estimates"]["auroc"]["plq-relative"][f"middle={path}"]["mean"]
    (line,) = [x for x in TABLES[table](RESULTS) if x.startswith(f"| {row} |")]
    assert float(line.split("|")[1 + column]) == pytest.approx(expected, abs=0.0051)
