"""Contrast, names, landmarks, keyboard and width, computed in the browser."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SIZES

HERE = Path(__file__).parent
CONTRASTS = (HERE / "contrasts.js").read_text("utf-8")

FAULTS = (HERE / "faults.js").read_text("utf-8")


@pytest.fixture
def full(visit, files):
    """The page with everything on it: reasons, before and after, "what if", a bad file."""

    def opened(size="desktop", scheme="light"):
        one = visit(size=size, scheme=scheme)
        one.send(files["cap.png"])
        one.send(files["mouth.png"])
        one.page.get_by_role("button", name="Paint over and score").click()
        expect(one.page.locator("#what-if-answer")).to_be_visible()
        one.page.locator("summary").click()
        one.send(files["notes.png"])
        expect(one.page.get_by_role("alert")).not_to_be_empty()
        return one.page

    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(full, scheme):
    page = full(scheme=scheme)
    page.locator(".reasons button").focus()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 80
    assert [one for one in contrasts if one[0] < 4.5] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 19, 24)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("size", SIZES)
def test_everything_has_a_name_and_a_place(visit, full, size):
    assert visit(size=size).page.evaluate(FAULTS) == []
    assert full(size).evaluate(FAULTS) == []


def test_what_a_screen_reader_is_told(visit, files):
    one = visit()
    page = one.page
    page.get_by_role("status").first.evaluate(
        """(status) => { window.told = [];
        const note = () => status.textContent && told.push(status.textContent);
        new MutationObserver(note).observe(status, { childList: true }); }"""
    )
    one.send(files["mouth.png"])
    first, last = page.evaluate("told")
    assert first == "Looking at mouth.png …"
    assert last.startswith("Retake. Quality ")
    assert "The lower face is covered" in last
    snapshot = page.locator("#result").aria_snapshot()
    for words in ('article "Retake"', 'heading "One reason"', 'img "The face, cut out', "table"):
        assert words in snapshot


def test_all_of_it_works_by_keyboard(visit, files):
    page = (one := visit()).page

    def tab_to(what, presses=40):
        for _ in range(presses):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == what:
                return
        raise AssertionError(f"{what} is not reached")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the photo")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the photo")).to_be_in_viewport()
    tab_to("file")
    outline = "getComputedStyle(document.querySelector('label.button')).outlineStyle"
    assert page.evaluate(outline) == "solid"  # of what stands for the field
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(files["mouth.png"])
    one.settle()
    expect(page.locator("#verdict")).to_be_focused()
    for what in ("retake", "forget", "opacity", "what-if-region"):
        tab_to(what)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#what-if-answer")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Mouth", exact=True)).to_be_focused()
    expect(page.locator("g.lit")).to_have_attribute("data-region", "mouth")


@pytest.mark.parametrize("width", [320, 390, 700, 1280])
def test_nothing_is_wider_than_the_window(full, width):
    page = full("phone" if width < 500 else "desktop")
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = """(width) => [...document.querySelectorAll("main *")].filter((element) =>
        element.checkVisibility() && !element.closest(".hidden, svg") &&
        element.getBoundingClientRect().right > width + 0.5).map((one) => one.outerHTML)"""
    assert page.evaluate(outside, width) == []


def test_nothing_moves_where_motion_is_not_wanted(visit):
    page = visit().page
    assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((element) =>
            parseFloat(getComputedStyle(element).transitionDuration) > 0).length"""
    )
    assert moving == 0


def test_without_scripts_there_is_a_sentence(visit):
    page = visit(java_script_enabled=False).page
    expect(page.locator("noscript p")).to_be_visible()
    assert "This page needs JavaScript." in page.locator("main").inner_text()
