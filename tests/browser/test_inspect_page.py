"""The page that ``captum-plq inspect --html`` writes, opened from disk."""

import shutil

import pytest

pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
pytest.importorskip("cyclopts", reason="needs the extra [cli]")

from captum_plq.cli import main
from captum_plq.gallery import ScoreSettings, score_gallery
from tests.browser.conftest import SIZES
from tests.browser.test_accessible import CONTRASTS

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    """The page of seven photos: good ones, covered ones, and files that are none."""
    folder = tmp_path_factory.mktemp("gallery")
    deep = folder / "photos" / "a-rather-long-name-of-a-folder" / "2026-11-28"
    deep.mkdir(parents=True)
    for name in ("good.png", "cap.png", "mouth.png", "dark.png", "no-face.png", HOSTILE):
        shutil.copy(files[name], deep / name)
    settings = ScoreSettings(workers=0, feedback=True)
    score_gallery(folder / "photos", folder / "result", settings)
    page = folder / "page.html"
    assert main(["inspect", str(folder / "result"), "--html", str(page), "--faces", "2"]) == 0
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_can_be_read(visit, written, tmp_path, size, scheme):
    page = visit(written.as_uri(), size=size, scheme=scheme).page
    page.screenshot(path=tmp_path / "page.png", full_page=True)  # to be looked at
    pictures = page.locator("img").all()
    assert len(pictures) == 8  # of four faces, each with its map
    for picture in pictures:
        assert picture.evaluate("one => one.complete && one.naturalWidth") > 0
        assert picture.get_attribute("alt")
    width = SIZES[size][0]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for table in page.locator("table").all():
        wide = "one => [one.scrollWidth, one.parentElement.clientWidth]"
        needed, given = table.evaluate(wide)
        assert needed <= given, table.inner_text()[:60]
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    text = page.locator("body").inner_text()
    assert HOSTILE in text
    assert "told: lower face covered" in text
