"""The camera: a photo from it, and what is said where there is none."""

import pytest
from playwright.sync_api import expect

from captum_plq.web import WebSettings, create_app
from tests.browser.conftest import SIZES
from tests.support.serving import running


@pytest.mark.parametrize("size", SIZES)
def test_a_photo_from_the_camera_and_another(visit, size):
    page = (one := visit(size=size, permissions=["camera"])).page
    page.get_by_role("button", name="Use the camera").click()
    take = page.get_by_role("button", name="Take the photo")
    expect(take).to_be_focused()
    assert page.locator("#video").evaluate("video => video.videoWidth") >= 640
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    one.settle()
    expect(page.locator("#camera")).to_be_hidden()
    assert page.locator("#video").evaluate("video => video.srcObject") is None
    page.get_by_role("button", name="Check another photo").click()
    expect(take).to_be_focused()  # the camera again
    page.keyboard.press("Enter")
    expect(page.locator("#compare")).to_be_visible()
    one.settle()


def test_the_camera_can_be_closed_by_keyboard(visit):
    page = visit(permissions=["camera"]).page
    button = page.get_by_role("button", name="Use the camera")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Take the photo")).to_be_focused()
    tracks = page.evaluate_handle("document.querySelector('#video').srcObject.getTracks()")
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    assert tracks.evaluate("all => all.map(one => one.readyState)") == ["ended"]


def test_a_camera_that_comes_after_it_was_closed_is_let_go(visit):
    page = visit(permissions=["camera"]).page
    page.evaluate(
        """() => {
            const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => {
                window.given = await real(wanted);
                await new Promise((go) => { window.go = go; });
                return given;
            };
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
    while not page.evaluate("Boolean(window.go)"):
        page.wait_for_timeout(50)
    page.evaluate("go()")
    assert page.evaluate("given.getTracks().map((one) => one.readyState)") == ["ended"]
    expect(page.locator("#camera")).to_be_hidden()
    assert page.locator("#video").evaluate("video => video.srcObject") is None


def test_a_camera_that_is_not_allowed_is_said_so(visit):
    page = visit().page
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The camera was not allowed.")
    expect(page.get_by_text("Choose a photo", exact=True)).to_be_visible()


def test_without_a_secure_address_there_is_a_sentence_in_place_of_the_button(
    visit, files, assessor
):
    settings = WebSettings(proxied_as="photos.example", rate=1000)
    with running(create_app(settings, assessor)) as port:
        one = visit(f"http://photos.example:{port}/")
        page = one.page
        expect(page.get_by_text("The camera works only at a secure address")).to_be_visible()
        expect(page.get_by_role("button", name="Use the camera")).to_be_hidden()
        expect(page.locator("#limits")).to_contain_text(f"It goes to photos.example:{port} alone")
        one.send(files["good.png"])
        expect(page.locator("#verdict")).to_have_text("Nothing to correct")
