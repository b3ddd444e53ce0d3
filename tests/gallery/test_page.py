"""The page on galleries: its queries run on a result, and it names all columns and reasons."""

import re
from pathlib import Path

import pytest

from captum_plq.gallery import read_result
from captum_plq.preparation import REASONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how_to" / "gallery.md"


def test_the_queries_run(undisturbed, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(undisturbed.parent)
    found = re.findall(r'duckdb\.sql\("(.*)"\)', PAGE.read_text("utf-8"))
    lowest, lost = (duckdb.sql(query).fetchall() for query in found)
    qualities = [quality for _, quality in lowest]
    assert qualities == sorted(qualities)
    assert len(lost[0]) == 1 + len(read_result(undisturbed).regions)


def test_all_columns_and_reasons_are_named(undisturbed):
    text = PAGE.read_text("utf-8")
    for word in (*read_result(undisturbed).table().column_names, *REASONS):
        assert f"`{word}`" in text or word.startswith("lost_")
