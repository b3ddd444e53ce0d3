"""Figures show absolute qualities, whatever the image."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from captum_plq.visualization import plot_faces, plot_quality_map, plot_quality_maps

IMAGE = np.full((4, 6, 3), 200, np.uint8)
DIM = np.linspace(0.1, 0.2, 24).reshape(4, 6)


def assert_absolute(axis, quality_map):
    """A map of 0.1 to 0.2 is drawn as just that, not stretched over all colours."""
    (picture,) = axis.images
    np.testing.assert_array_equal(picture.get_array(), quality_map)
    assert picture.get_clim() == (0.0, 1.0)
    (low, high) = picture.to_rgba([0.0, 1.0], norm=False)
    assert low[0] > 2 * low[1]  # red
    assert high[1] > 2 * high[0]  # green


def test_one_image_stands_beside_its_maps(tmp_path):
    before = dict(mpl.rcParams)
    figure, axes = plot_quality_map(
        (IMAGE + 0.4).tolist(), DIM.tolist(), DIM + 0.5, title="a$_{x$", caption="my$net_{$"
    )
    np.testing.assert_array_equal(axes[0].images[0].get_array(), IMAGE)
    assert_absolute(axes[1], DIM)
    assert_absolute(axes[2], DIM + 0.5)
    titles = ["a$_{x$", "pixel quality", "relative to\nreference faces"]
    assert [axis.get_title() for axis in axes] == titles
    assert figure.get_supxlabel() == "my$net_{$"
    (bar,) = set(figure.axes) - set(axes)
    assert bar.get_ylabel() == "pixel quality\n(absolute scale)"
    assert bar.get_ylim() == (0.0, 1.0)
    figure.savefig(tmp_path / "map.png")  # what would be mathematics is drawn as it is
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert plot_quality_map(IMAGE, DIM)[1].shape == (2,)


@pytest.mark.parametrize("relative", [None, [DIM + 0.1, DIM + 0.2]])
def test_many_images_stand_above_their_maps(relative):
    maps, rows = [DIM, 0 * DIM], 2 if relative is None else 3
    figure, axes = plot_quality_maps([IMAGE] * 2, maps, ["a", "b"], relative, caption="net")
    assert axes.shape == (rows, 2)
    assert [axis.get_title() for axis in axes[0]] == ["a", "b"]
    for row, shown in zip(axes[1:], [maps, relative], strict=False):
        for axis, quality_map in zip(row, shown, strict=True):
            assert_absolute(axis, quality_map)
    assert len(set(figure.axes) - set(axes.ravel())) == 1  # one colour bar for all
    wide = plot_faces([IMAGE] * 2, maps, ["a", "b"], relative)
    tall = plot_faces([IMAGE], maps[:1], ["a"], relative and relative[:1])
    assert [len(f.axes) for f in (wide, tall)] == [2 * rows + 1, rows + 1]


def texts(figure):
    off = [axis for axis in figure.axes if not axis.axison]
    hidden = {t for axis in off for t in (*axis.get_xticklabels(), *axis.get_yticklabels())}
    return [t for t in set(figure.findobj(mpl.text.Text)) - hidden if t.get_text()]


@pytest.mark.parametrize("count", [1, 4])
def test_text_is_legible_at_the_width_of_a_phone_and_stays_inside(count):
    title = "square over one eye\nQ = 0.635 ± 0.002\nQ̂ = 0.45"
    figure = plot_faces(
        [np.zeros((112, 112, 3))] * count,
        [np.zeros((112, 112))] * count,
        [title] * count,
        [np.zeros((112, 112))] * count,
        caption="mobilefacenet-dropout; m = 100, p = 0.5, weights l1, γ = 10.68 (calibration)",
    )
    figure.draw_without_rendering()
    scale = 390 / figure.get_figwidth() / 72  # pixels per point
    assert min(text.get_fontsize() for text in texts(figure)) * scale >= 7.9
    inside = figure.bbox
    for text in texts(figure):
        box = text.get_window_extent()
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1


def test_draws_into_given_axes():
    mine = Figure()
    axes = mine.subplots(1, 2)
    figure, returned = plot_quality_map(IMAGE, DIM, axes=axes)
    assert figure is mine
    assert list(returned) == list(axes)


@pytest.mark.parametrize(
    ("plot", "arguments", "message"),
    [
        (plot_quality_map, (IMAGE, DIM * 30), "The quality map must lie in"),
        (plot_quality_map, (IMAGE, DIM - 0.5), "must lie in"),
        (plot_quality_map, (IMAGE, DIM * np.inf), "NaN or infinite"),
        (plot_quality_map, (IMAGE, DIM, DIM * np.nan), "The relative map cannot be drawn: 24 of"),
        (plot_quality_map, (IMAGE * np.nan, DIM), "image cannot be drawn"),
        (plot_quality_map, (IMAGE.transpose(2, 0, 1), DIM), r"\(3, 4, 6\)"),
        (plot_quality_maps, ([IMAGE], [DIM, DIM], ["a"]), "as many"),
        (plot_quality_maps, ([], [], []), "as many"),
        (plot_quality_maps, ([IMAGE] * 2, [DIM] * 2, ["a", "b"], [DIM]), "1 relative maps"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plot, arguments, message):
    with pytest.raises(ValueError, match=message):
        plot(*arguments)


@pytest.mark.parametrize(("count", "relative", "word"), [(3, None, "two"), (2, DIM, "three")])
def test_axes_of_another_number_are_refused(count, relative, word):
    with pytest.raises(ValueError, match=word):
        plot_quality_map(IMAGE, DIM, relative, axes=Figure().subplots(1, count))
