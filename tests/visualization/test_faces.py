"""The figure of an explanation: local quality first, all text inside and legible."""

import matplotlib as mpl
import numpy as np
import pytest

from captum_plq.visualization import plot_faces

WORDS = "square over one eye\nQ = .63,\n.08 below a high-quality face"
IMAGE, MAP, PLACES = np.zeros((112, 112, 3)), np.zeros((112, 112)), np.zeros((7, 7))
LABELS = ["Q per place", "z, in standard\ndeviations", "pixel quality\n(absolute scale)"]


def figure_of(count, *, local, relative=False):
    given = {"local_maps": [PLACES] * count, "zscores": [PLACES] * count} if local else {}
    return plot_faces(
        [IMAGE] * count,
        [MAP] * count,
        [WORDS] * count,
        [MAP] * count if relative else None,
        notes=["Q̂ = 0.45"] * count,
        caption="mobilefacenet-dropout; m = 100, p = 0.5, weights l1, γ = 10.68 (calibration)",
        **given,
    )


def texts(figure):
    off = [axis for axis in figure.axes if not axis.axison]
    hidden = {t for axis in off for t in (*axis.get_xticklabels(), *axis.get_yticklabels())}
    return [t for t in set(figure.findobj(mpl.text.Text)) - hidden if t.get_text().strip()]


@pytest.mark.parametrize("count", [1, 4])
def test_local_quality_comes_first_and_each_kind_of_map_has_its_bar(count):
    bars = [axis for axis in figure_of(count, local=True).axes if axis.axison]
    side = "get_xlabel" if count == 1 else "get_ylabel"
    assert [getattr(bar, side)() for bar in bars] == LABELS
    bars = [axis for axis in figure_of(count, local=False).axes if axis.axison]
    assert [getattr(bar, side)() for bar in bars] == LABELS[2:]


@pytest.mark.parametrize(("local", "relative"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("count", [1, 4])
def test_text_is_legible_at_the_width_of_a_phone_and_stays_inside(count, local, relative):
    figure = figure_of(count, local=local, relative=relative)
    figure.draw_without_rendering()
    assert sum("Q̂ = 0.45" in text.get_text() for text in texts(figure)) == count
    if count == 4:
        scale = 390 / figure.get_figwidth() / 72  # pixels per point
        assert min(text.get_fontsize() for text in texts(figure)) * scale >= 7.9
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in texts(figure)]
    boxes = [box for box in boxes if box.width > 1]  # drawn
    for box in boxes:
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1
    for i, box in enumerate(boxes):
        assert not any(box.shrunk(0.9, 0.9).overlaps(other) for other in boxes[:i])


def test_columns_are_of_one_width():
    """The names of rows, longer than a column, do not move the first."""
    figure = figure_of(4, local=True)
    figure.draw_without_rendering()
    places = [axis.get_position() for axis in figure.axes[:16]]
    assert np.ptp([place.width for place in places]) < 1e-6
    gaps = np.diff([place.x0 for place in places[:4]])
    assert np.ptp(gaps) < 1e-6


@pytest.mark.parametrize("wrong", [{"titles": []}, {"notes": ["a", "b"]}, {"local_maps": []}])
def test_other_numbers_are_refused(wrong):
    given = {"images": [IMAGE], "quality_maps": [MAP], "titles": ["a"], **wrong}
    with pytest.raises(ValueError, match="as many"):
        plot_faces(**given)
    with pytest.raises(ValueError, match="as many"):
        plot_faces([], [], [])
