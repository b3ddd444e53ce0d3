"""``captum-plq inspect``: what it tells and writes."""

import pytest

pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
pytest.importorskip("cyclopts", reason="needs the extra [cli]")

from captum_plq.faces import sample_face
from captum_plq.gallery import ScoreSettings, score_gallery


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Two faces, one of them covered, and a file that is none."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("gallery")
    (folder / "photos").mkdir()
    chip = sample_face().chip
    Image.fromarray(chip).save(folder / "photos" / "a.png")
    Image.fromarray(chip // 5).save(folder / "photos" / "dark.png")
    (folder / "photos" / "text.png").write_text("no image")
    score_gallery(folder / "photos", folder / "result", ScoreSettings(aligned=True, workers=0))
    return folder / "result"


def test_it_tells_and_writes_what_was_found(run, result, tmp_path, capsys):
    page, rows = tmp_path / "page.html", tmp_path / "rows.csv"
    assert run("inspect", result, "--html", page, "--csv", rows, "--faces", "1") == 0
    captured = capsys.readouterr()
    assert "3 rows of 3 images; 2 faces with a quality" in captured.out
    assert "quality lost" in captured.out
    assert "1  not an image  text.png" in captured.out
    assert f"{rows}: 3 rows" in captured.out
    assert captured.err == ""
    text = page.read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<img ") == 4  # two faces with the maps that were computed
    assert text.index("dark.png") < text.index("Highest quality") < text.rindex("a.png")
    assert len(rows.read_text("utf-8").splitlines()) == 4


def test_without_the_network_the_page_says_so(run, result, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert run("inspect", result, "--html", page, "--model", "iresnet50") == 0
    assert "Only maps that the run has kept are shown" in capsys.readouterr().err
    assert page.read_text("utf-8").count("<img ") == 2


def test_what_is_no_result_or_must_not_be_replaced(run, result, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("something else")
    assert run("inspect", tmp_path) == 1
    assert run("inspect", result, "--html", tmp_path / "mine.html") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "is not the result of `captum-plq score`" in first
    assert "of another kind" in second
    assert (tmp_path / "mine.html").read_text() == "something else"
