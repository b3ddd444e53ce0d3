"""Overviews of a photo and of a run."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from captum_plq.visualization import plot_contact_sheet, plot_detections

IMAGES = [np.full((32, 24, 3), 40 * i, dtype=np.uint8) for i in range(5)]
TITLES = [f"$name_{i}.jpg\nQ = .7{i}" for i in range(5)]


def texts(figure):
    return [t.get_text() for t in (*figure.texts, *(t for a in figure.axes for t in a.texts))]


def test_weak_detections_are_told_apart_in_more_than_colour():
    photo = np.zeros((300, 4000, 3), dtype=np.uint8)
    figure = plot_detections(photo, [(5, -9, 50, 50), (90, 9, 99, 60)], ["a", "b"], [False, True])
    assert texts(figure) == ["1: a", "2, weak: b"]
    sure, weak = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert (sure.get_linestyle(), weak.get_linestyle()) == ("-", "--")
    assert (weak.get_xy(), weak.get_width()) == ((90, 9), 9)
    width, height = figure.canvas.get_width_height()
    assert (width, height) == (1600, 120)


@pytest.mark.parametrize("kind", ["local_maps", "quality_maps", None])
def test_a_sheet_has_a_cell_for_each_face(kind):
    maps = {"local_maps": np.zeros((5, 7, 7)), "quality_maps": np.full((5, 32, 24), 0.5)}
    given = {} if kind is None else {kind: list(maps[kind])}
    figure = plot_contact_sheet(IMAGES, TITLES, columns=2, caption="five faces", **given)
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    step = 1 if kind is None else 2
    assert len(drawn) >= 5 * step
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(drawn[step * i], image)
    assert [t for t in texts(figure) if t in TITLES] == TITLES
    assert "five faces" in texts(figure)
    figure.canvas.draw()


def test_what_does_not_fit_is_refused():
    for images, titles in (([], []), (IMAGES, TITLES[1:]), ([IMAGES[0], IMAGES[1][1:]], ["", ""])):
        with pytest.raises(ValueError, match="images of one size"):
            plot_contact_sheet(images, titles)
    nan = [np.full((7, 7), np.nan)] * 5
    with pytest.raises(ValueError, match="NaN"):
        plot_contact_sheet(IMAGES, TITLES, local_maps=nan)
