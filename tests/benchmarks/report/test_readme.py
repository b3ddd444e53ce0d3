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
    assert refreshed(made, RESULTS) == made


def test_a_table_that_nothing_makes():
    with pytest.raises(ValueError, match="no table 'costs'; there are cost, cost-in-short"):
        refreshed("<!-- table costs -->\n<!-- end -->", RESULTS)


def test_numbers_are_those_of_the_files():
    speed = json.loads((RESULTS / "speed-iresnet18-cpu-b1.json").read_text("utf-8"))
    ratio = {m["name"]: m["ratio"]["median"] for m in speed["methods"]}
    for name, column, method in (
        ("cost", 2, "plq-balanced"),
        ("cost-in-short", 2, "plq-closed-form"),
    ):
        (row,) = [
            x
            for x in TABLES[name](RESULTS)
            if x.startswith(("| IResNet-18 ", "| IResNet-18, batch 1"))
        ]
        assert row.split("|")[1 + column].strip() == f"{ratio[method]:.2f}"
    masks = json.loads((RESULTS / "random-mask-mobilefacenet_y1.json").read_text("utf-8"))
    auroc = masks["estimates"]["auroc"]["plq-relative"]["middle=noise"]["mean"]
    (row,) = [
        x for x in TABLES["squares-mobilefacenet_y1"](RESULTS) if x.startswith("| PLQ, relative |")
    ]
    assert float(row.split("|")[4]) == pytest.approx(auroc, abs=0.005)
