"""What the page says of a face that is cut off, and of what is perhaps none."""

import dataclasses

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from captum_plq.faces import detect_faces


def test_a_cut_off_face_and_what_is_perhaps_none_are_said(visit, files, tmp_path, monkeypatch):
    page = (one := visit()).page
    portrait = np.array(Image.open(files["good.png"]))
    left, _, right, _ = detect_faces(portrait)[0].box
    Image.fromarray(portrait[:, left + (right - left) // 3 :]).save(tmp_path / "cut.png")
    one.send(tmp_path / "cut.png")
    expect(page.locator("#verdict")).to_have_text("Retake")
    reason = page.locator("#reasons li").first
    expect(reason).to_contain_text("The face is cut off by the photo's edge: move back")
    expect(reason).to_contain_text("% of the face lies beyond the edge.")
    expect(reason.locator(".badge")).to_have_count(0)

    def faintly(image):
        return [dataclasses.replace(face, score=0.1) for face in detect_faces(image)]

    monkeypatch.setattr("captum_plq.faces.aligned.detect_faces", faintly)
    one.send(files["mouth.png"])
    expect(page.locator("#verdict")).to_have_text("Perhaps no face")
    expect(page.locator("#verdict-words")).to_contain_text("may be no face")
    expect(page.locator("#retake")).to_have_text("Retake")
    expect(page.locator("#status")).to_contain_text("whole face visible")
    reasons = page.locator("#reasons li")
    expect(reasons.first).to_contain_text("Detector score 0.10")
    for i in range(reasons.count()):
        expect(reasons.nth(i).locator(".badge")).to_have_text("Weak evidence")
    assert reasons.count() == 1
    expect(page.locator("#compare")).to_be_hidden()
