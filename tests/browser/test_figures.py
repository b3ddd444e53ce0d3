"""The screenshots of the documentation; with ``--figures docs/figures`` they are renewed."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SIZES


def at_top(page):
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


@pytest.mark.parametrize("size", SIZES)
def test_a_good_photo(visit, files, figures, size):
    page = (one := visit(size=size)).page
    one.send(files["good.png"])
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    if size == "desktop":
        at_top(page)
    figures(page, f"web-good-{size}")


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]
)
def test_a_refused_photo(visit, files, figures, size, scheme):
    page = (one := visit(size=size, scheme=scheme)).page
    one.send(files["cap.png"])
    expect(page.locator("#verdict")).to_have_text("Retake")
    if size == "desktop":
        at_top(page)
        page.locator("#reasons li").first.hover()
    figures(page, f"web-refused-{size}{'' if scheme == 'light' else '-dark'}")


@pytest.mark.parametrize("size", SIZES)
def test_a_bad_file(visit, files, figures, size):
    page = (one := visit(size=size)).page
    one.send(files["notes.png"])
    expect(page.get_by_role("alert")).not_to_be_empty()
    figures(page, f"web-bad-file-{size}")


def test_a_retake(visit, files, figures):
    page = (one := visit()).page
    one.send(files["cap.png"])
    one.send(files["good.png"])
    page.locator("#compare").scroll_into_view_if_needed()
    figures(page, "web-retake-desktop")


def test_what_if(visit, files, figures):
    page = (one := visit()).page
    one.send(files["cap.png"])
    page.get_by_role("button", name="Paint over and score").click()
    expect(page.locator("#what-if-answer")).to_be_visible()
    page.locator("#what-if").evaluate("one => one.scrollIntoView({ block: 'end' })")
    page.mouse.move(0, 0)
    figures(page, "web-what-if-desktop")
