"""What a person does with the page, in order: a photo, reasons, a retake, "what if"."""

import base64
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SIZES


def lit(page):
    return set(page.locator("g.lit").evaluate_all("all => all.map(one => one.dataset.region)"))


def test_a_good_photo_has_nothing_to_correct(visit, files):
    page = (one := visit()).page
    one.send(files["good.png"])
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    expect(page.locator("#verdict")).to_be_focused()
    expect(page.locator("#verdict")).to_be_in_viewport()
    expect(page.locator("#status")).to_contain_text("Nothing to correct. Quality 8")
    expect(page.locator("#reasons-box")).to_be_hidden()
    expect(page.locator("#what-if")).to_be_hidden()  # no region loses anything
    face = page.locator("#stage .photo")
    assert face.get_attribute("alt").endswith("nothing to correct.")
    for picture in page.locator("#stage img").all():
        assert picture.evaluate("image => image.complete && image.naturalWidth") >= 300
    expect(page.locator("#regions tbody tr")).to_have_count(9)
    assert one.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_covered_mouth_is_said_and_shown_by_pointer_and_by_keyboard(visit, files, size):
    page = (one := visit(size=size)).page
    one.send(files["mouth.png"])
    expect(page.locator("#verdict")).to_have_text("Retake")
    reason = page.locator("#reasons li")
    expect(reason).to_have_count(1)
    expect(reason).to_contain_text("The lower face is covered")
    expect(reason).to_contain_text("of what is lost")
    assert lit(page) == set()
    reason.hover()
    assert lit(page) == {"mouth", "chin"}
    expect(page.locator(".tag")).to_have_text("Mouth + chin and jaw")
    page.mouse.move(0, 0)
    assert lit(page) == set()
    page.keyboard.press("Tab")  # from the verdict, which has the focus
    button = page.get_by_role("button", name="Show on the face: Mouth + chin and jaw")
    expect(button).to_be_focused()
    assert lit(page) == {"mouth", "chin"}
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#stage")).to_be_in_viewport()
    page.keyboard.press("Tab")
    assert lit(page) == {"mouth", "chin"}  # held
    page.get_by_role("button", name="Nose").hover()
    assert lit(page) == {"nose"}
    row = page.locator("#regions tbody tr").first
    expect(row).to_contain_text("Mouth")
    expect(row).to_contain_text("very unusual")


def test_what_q_means_stands_under_the_verdict_and_is_explained(visit, files, assessor):
    page, meaning = (one := visit()).page, None
    for name, words in {
        "mouth.png": r"Lower than all good faces; 1 in \d+ such images fails at FMR 1e-3 .+ %\)\.",
        "good.png": r"\d+(st|nd|rd|th) percentile of good faces; .+ fails at FMR 1e-3 .+ %\)\.",
    }.items():
        one.send(files[name])
        expect(page.locator("#meaning")).to_have_text(re.compile(words))
        meaning = assessor.photo(files[name].read_bytes())["meaning"]
        expect(page.locator("#meaning")).to_have_text(re.compile(re.escape(meaning["words"][1:])))
        expect(page.locator("#meaning")).to_be_in_viewport()
    page.get_by_text("What the numbers mean").click()
    expect(page.locator("#measured-on")).to_have_text(meaning["measured_on"])
    expect(page.locator("#measured-on")).to_be_visible()


def test_outlines_lie_where_the_regions_are(visit, files):
    page = (one := visit()).page
    one.send(files["mouth.png"])
    stage = page.locator("#stage").bounding_box()
    for name, (left, top, right, bottom) in {
        "mouth": (0.25, 0.65, 0.75, 1.0),
        "forehead": (0.0, 0.0, 1.0, 0.5),
        "left_eye": (0.5, 0.25, 0.95, 0.6),  # of the person: on the right
    }.items():
        box = page.locator(f"g[data-region={name}] polygon").last.bounding_box()
        assert left - 0.02 <= (box["x"] - stage["x"]) / stage["width"]
        assert (box["x"] + box["width"] - stage["x"]) / stage["width"] <= right + 0.02
        assert top - 0.02 <= (box["y"] - stage["y"]) / stage["height"]
        assert (box["y"] + box["height"] - stage["y"]) / stage["height"] <= bottom + 0.02


def test_the_slider_sets_how_much_of_the_map_is_seen(visit, files):
    page = (one := visit()).page
    one.send(files["cap.png"])
    slider, shown = page.get_by_label("Map over the face"), page.locator("#stage .map")
    expect(shown).to_have_css("opacity", "0.7")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(shown).to_have_css("opacity", "0.65")
    expect(page.locator("#opacity-value")).to_have_text("65 %")
    page.keyboard.press("Home")
    expect(shown).to_have_css("opacity", "0")
    bar = page.get_by_role("img", name="Colours of the map")
    assert "standard deviations worse" in bar.get_attribute("aria-label")
    assert bar.evaluate("bar => getComputedStyle(bar).backgroundImage").startswith("linear-")
    one.send(files["mouth.png"])
    expect(shown).to_have_css("opacity", "0")  # as it was set


def test_a_retake_stands_beside_the_photo_before(visit, files):
    page = (one := visit()).page
    one.send(files["cap.png"])
    expect(page.locator("#compare")).to_be_hidden()
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Retake").click()
    choosing.value.set_files(files["good.png"])
    one.settle()
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    pair = page.locator("#compare-pair figure")
    expect(pair).to_have_count(2)
    expect(pair.nth(0)).to_contain_text("Retake")
    expect(pair.nth(1)).to_contain_text("Nothing to correct")
    before, after = (int(re.search(r"Quality (\d+)", text)[1]) for text in pair.all_inner_texts())
    expect(page.locator("#compare-words")).to_have_text(
        f"Quality {before} of 100 before, {after} now: {after - before} points better."
    )
    expect(page.locator("#status")).to_contain_text("points better")
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("#result")).to_be_hidden()
    assert page.locator("img").count() == 0
    one.send(files["good.png"])
    expect(page.locator("#compare")).to_be_hidden()


def test_what_if_paints_over_the_worst_region_and_calls_it_an_illustration(visit, files):
    page = (one := visit()).page
    one.send(files["mouth.png"])
    expect(page.get_by_label("Region", exact=True)).to_have_value("mouth,chin")
    page.get_by_role("button", name="Paint over and score").click()
    answer = page.locator("#what-if-answer")
    expect(answer).to_contain_text("Inpainting invents pixels")
    expect(answer.locator(".mark")).to_have_text("Illustration")
    alt = r"An illustration: .* mouth \+ chin and jaw painted over\. Quality \d+ of 100\."
    expect(answer.locator("img").last).to_have_attribute("alt", re.compile(alt))
    expect(page.locator("#what-if-status")).to_contain_text("than the photo")
    first, second = answer.locator("img").evaluate_all("all => all.map(one => one.src)")
    assert first != second
    page.get_by_label("Region", exact=True).select_option("nose")
    page.get_by_role("button", name="Paint over and score").click()
    expect(answer).to_contain_text("Painted over: nose")
    one.send(files["cap.png"])
    expect(answer).to_be_hidden()


def test_of_two_photos_in_a_row_the_second_counts(visit, files):
    page, held = (one := visit()).page, []
    page.route("**/api/photo", lambda route: route.continue_() if held else held.append(route))
    page.set_input_files("#file", files["cap.png"])
    expect(page.locator("#status")).to_contain_text("Looking at cap.png")
    page.set_input_files("#file", files["good.png"])
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    one.settle()
    expect(page.locator("#compare")).to_be_hidden()


def test_what_a_network_without_calibration_does_not_know_is_left_out(visit, files, assessor):
    page = (one := visit()).page

    def poorer(name):
        answer = assessor.photo(files[name].read_bytes())
        answer.update(
            map=None, map_scale=None, scaled_quality=None, worst_region=None, meaning=None
        )
        answer.update(
            standard_error=0.004,
            local_quality=None,
            warnings=["2 faces were found.", "<b>Cut off</b>."],
        )
        for region in answer["regions"].values():
            region.update(lost=None, unusual=None)
        for reason in answer["reasons"]:
            reason.update(regions=[], share=None, lost=None, unusual=None, weak=True)
            reason["evidence"] = "weak evidence; luminance mean 0.1"
        return answer

    answers = [poorer("mouth.png"), poorer("good.png")]
    page.route("**/api/photo", lambda route: route.fulfill(json=answers.pop(0)))
    one.send(files["mouth.png"])
    expect(page.locator("#score")).to_have_text(re.compile(r"Q = 0\.\d{3}"))
    expect(page.locator("#summary")).to_contain_text("Standard error: 0.0040 of Q.")
    expect(page.get_by_role("list", name="Please note").get_by_role("listitem")).to_have_text(
        ["2 faces were found.", "<b>Cut off</b>."]
    )
    reason = page.locator("#reasons li")
    expect(reason).to_contain_text("Weak evidence Luminance mean 0.1.")
    expect(reason.get_by_role("button")).to_have_count(0)
    page.get_by_text("What the numbers mean").click()
    for part in ("#map-tools", "#regions-box", "#what-if", ".meter", "#meaning", "#measured-on"):
        expect(page.locator(part)).to_be_hidden()
    one.send(files["good.png"])
    expect(page.locator("#compare-words")).to_have_text(
        re.compile(r"Q = 0\.\d{3} before, 0\.\d{3} now: 0\.\d{3} of Q better\.")
    )


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_photo_can_be_dropped_and_pasted(visit, files, how):
    page = (one := visit()).page
    content = base64.b64encode(files["good.png"].read_bytes()).decode()
    page.evaluate(
        """([content, how]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "mine.png", { type: "image/png" }));
            const passed = { dataTransfer: data, clipboardData: data, bubbles: true };
            const kind = how === "drop" ? DragEvent : ClipboardEvent;
            document.querySelector("#drop").dispatchEvent(new kind(how, passed));
        }""",
        [content, how],
    )
    expect(page.locator("#verdict")).to_have_text("Nothing to correct")
    expect(page.locator("#face-caption")).to_contain_text("mine.png")
    one.settle()
