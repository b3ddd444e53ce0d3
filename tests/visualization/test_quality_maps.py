"""Figures show absolute qualities, whatever the image."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from captum_plq.visualization import plot_quality_map, plot_quality_maps

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
    titles = ["a$_{x$", "the paper's map", "gradient relative\nto reference\nfaces"]
    assert [axis.get_title() for axis in axes] == titles
    assert figure.get_supxlabel() == "my$net_{$"
    bars = [axis for axis in figure.axes if axis not in axes]
    labels = ["pixel quality\n(absolute scale)", "rank among\nreference faces"]
    assert [bar.get_xlabel() for bar in bars] == labels  # only the first is the paper's scale
    assert [bar.get_xlim() for bar in bars] == [(0.0, 1.0)] * 2
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
    bars = [axis.get_ylabel() for axis in figure.axes if axis not in axes.ravel()]
    labels = ["pixel quality\n(absolute scale)", "rank among\nreference faces"]
    assert bars == labels[: rows - 1]


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
