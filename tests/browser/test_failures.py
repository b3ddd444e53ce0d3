"""Bad files, servers that refuse or do not answer, and what is shown until there is an answer."""

import pytest
from playwright.sync_api import expect

from captum_plq.web import WebSettings, create_app
from tests.browser.conftest import SIZES
from tests.support.serving import running


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.png", "not an image of a format that is read"),
        ("empty.png", "The file is empty"),
        ("half.png", "damaged"),
        ("no-face.png", "No face was found"),
        ("long.jpg", "The file has 11 MiB; at most 10 MiB can be taken."),
        ("<img src=x onerror=alert(1)>.png", "not an image of a format that is read"),
    ],
)
def test_a_bad_file_gets_a_sentence_and_the_result_before_stays(visit, files, name, words):
    page = (one := visit()).page
    one.send(files["good.png"])
    one.send(files[name])
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text(f"{name}: ")
    expect(problem).to_contain_text(words)
    expect(problem).to_be_in_viewport()
    expect(page.locator("#face-caption")).to_contain_text("good.png")
    older = page.get_by_text("This is still the answer to good.png.")
    expect(older).to_be_in_viewport()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    expect(page.locator("#verdict-box")).to_have_css("background-color", paper)  # no longer green
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    one.send(files["dark.png"])
    expect(problem).to_be_empty()
    expect(older).to_be_hidden()
    expect(page.locator("#reasons")).to_contain_text("too dark")


def test_too_many_photos_can_be_sent_again_after_the_wait(visit, files, assessor):
    with running(create_app(WebSettings(rate=6), assessor)) as port:
        one = visit(f"http://127.0.0.1:{port}/")
        page, nothing = one.page, {"photo": "no file"}
        while page.request.post(f"{one.url}api/photo", multipart=nothing).status != 429:
            pass
        one.send(files["good.png"])
        expect(page.get_by_role("alert")).to_contain_text(
            "More than 6 photos a minute came from this address"
        )
        again = page.get_by_role("button", name="Try again")
        expect(again).to_be_disabled()
        expect(again).to_be_enabled()
        again.click()
        expect(page.locator("#verdict")).to_have_text("Nothing to correct")
        expect(page.get_by_role("alert")).to_be_empty()


def test_a_server_that_does_not_answer_is_said_so(visit, files):
    page = (one := visit()).page
    page.route("**/api/photo", lambda route: route.abort())
    one.send(files["good.png"])
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/api/photo")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")


def test_a_failure_by_keyboard_leaves_the_keyboard_where_one_goes_on(visit, files):
    page = (one := visit()).page
    page.route("**/api/photo", lambda route: route.abort())
    one.send(files["good.png"])
    expect(page.locator("#older")).to_be_hidden()  # there is none
    again = page.get_by_role("button", name="Try again")
    again.focus()
    page.keyboard.press("Enter")
    one.settle()
    expect(again).to_be_focused()
    page.unroute("**/api/photo")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_be_focused()


@pytest.mark.parametrize("size", SIZES)
def test_while_a_photo_is_looked_at_the_answer_before_steps_back(visit, files, size):
    page, held = (one := visit(size=size)).page, []
    one.send(files["good.png"])
    page.route("**/api/photo", lambda route: held.append(route))
    page.set_input_files("#file", files["cap.png"])
    status = page.locator("#status")
    expect(status).to_have_text("Looking at cap.png …")
    assert status.evaluate(
        """(one) => { const box = one.getBoundingClientRect();
        return Math.min(box.top, box.left) >= 0 &&
            box.bottom <= innerHeight && box.right <= innerWidth; }"""
    )
    expect(page.locator("#result")).to_have_css("opacity", "0.4")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    expect(page.locator("#verdict")).to_have_text("Retake")
    expect(page.locator("#result")).to_have_css("opacity", "1")
    one.settle()


def test_several_files_at_once_are_refused(visit, files):
    page = (one := visit()).page
    one.send(files["good.png"])
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            for (const name of ["a.png", "b.png"]) data.items.add(new File(["x"], name));
            document.querySelector("#drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(page.get_by_role("alert")).to_have_text("Those were 2 files. Send one photo at a time.")
    expect(page.locator("#older")).to_be_visible()


def test_a_finger_is_not_asked_to_drop_a_photo(visit):
    page = visit(size="phone", has_touch=True, is_mobile=True).page
    expect(page.get_by_text("Choose a photo of a face, or take one.")).to_be_visible()
    expect(page.get_by_text("Drop a photo here")).to_be_hidden()
