"""Figures show absolute qualities, whatever the image."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from captum_plq.visualization import plot_quality_map, plot_quality_maps

IMAGE = np.full((4, 6, 3), 200, np.uint8)
DIM = np.linspace(0.1, 0.2, 24).reshape(4, 6)


def drawn(axis):
    (picture,) = axis.images
    return picture


def test_the_scale_is_absolute():
    """A map of 0.1 to 0.2 is drawn as just that, not stretched over all colours."""
    _, axes = plot_quality_map(IMAGE, DIM)
    assert drawn(axes[1]).get_clim() == (0.0, 1.0)
    assert drawn(axes[1]).get_cmap().name == "RdYlGn"
    np.testing.assert_array_equal(drawn(axes[1]).get_array(), DIM)


def test_red_is_low_and_green_is_high():
    _, axes = plot_quality_map(IMAGE, np.array([[0.0] * 6] * 2 + [[1.0] * 6] * 2))
    colours = drawn(axes[1]).to_rgba(drawn(axes[1]).get_array())
    assert colours[0, 0, 0] > 2 * colours[0, 0, 1]
    assert colours[3, 0, 1] > 2 * colours[3, 0, 0]


def test_figure_has_title_caption_and_colour_bar():
    figure, axes = plot_quality_map(IMAGE, DIM, title="Q = 0.5", caption="dlib")
    assert axes[0].get_title() == "Q = 0.5"
    assert figure.get_supxlabel() == "dlib"
    (bar,) = set(figure.axes) - set(axes)
    assert bar.get_ylabel() == "pixel quality (absolute scale)"
    assert bar.get_ylim() == (0.0, 1.0)


def test_a_name_may_hold_what_would_be_mathematics(tmp_path):
    figure, _ = plot_quality_map(IMAGE, DIM, title="a$_{x$", caption="my$net_{$")
    figure.savefig(tmp_path / "map.png")


def test_draws_into_given_axes():
    mine = Figure()
    axes = mine.subplots(1, 2)
    figure, returned = plot_quality_map(IMAGE, DIM, axes=axes)
    assert figure is mine
    assert list(returned) == list(axes)
    with pytest.raises(ValueError, match="two"):
        plot_quality_map(IMAGE, DIM, axes=mine.subplots(1, 3))


def test_many_images_stand_above_their_maps(tmp_path):
    maps = [DIM, DIM + 0.5, 0 * DIM]
    figure, axes = plot_quality_maps([IMAGE] * 3, maps, ["a", "b", "c"], caption="net")
    assert axes.shape == (2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["a", "b", "c"]
    for axis, quality_map in zip(axes[1], maps, strict=True):
        np.testing.assert_array_equal(drawn(axis).get_array(), quality_map)
        assert drawn(axis).get_clim() == (0.0, 1.0)
    figure.savefig(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 5000


def test_a_relative_map_stands_beside_or_below():
    _, axes = plot_quality_map(IMAGE, DIM, DIM + 0.5, title="Q = 0.5")
    assert axes.shape == (3,)
    titles = ["Q = 0.5", "pixel quality", "relative to good faces"]
    assert [axis.get_title() for axis in axes] == titles
    np.testing.assert_array_equal(drawn(axes[2]).get_array(), DIM + 0.5)
    assert drawn(axes[2]).get_clim() == (0.0, 1.0)

    relative = [DIM + 0.1, DIM + 0.2]
    figure, axes = plot_quality_maps([IMAGE] * 2, [DIM] * 2, ["a", "b"], relative)
    assert axes.shape == (3, 2)
    for axis, shown in zip(axes[2], relative, strict=True):
        np.testing.assert_array_equal(drawn(axis).get_array(), shown)
        assert drawn(axis).get_clim() == (0.0, 1.0)
    assert len(set(figure.axes) - set(axes.ravel())) == 1  # one colour bar for all

    with pytest.raises(ValueError, match="three"):
        plot_quality_map(IMAGE, DIM, DIM, axes=Figure().subplots(1, 2))
    with pytest.raises(ValueError, match="1 relative maps"):
        plot_quality_maps([IMAGE] * 2, [DIM] * 2, ["a", "b"], [DIM])
    with pytest.raises(ValueError, match="The relative map cannot be drawn: 24 of its 24"):
        plot_quality_map(IMAGE, DIM, DIM * np.nan)


def test_float_images_and_lists_are_taken():
    _, axes = plot_quality_map((IMAGE + 0.4).tolist(), DIM.tolist())
    np.testing.assert_array_equal(drawn(axes[0]).get_array(), IMAGE)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (DIM * 30, "must lie in"),
        (DIM - 0.5, "must lie in"),
        (DIM * np.nan, "NaN or infinite"),
        (DIM * np.inf, "NaN or infinite"),
    ],
)
def test_maps_that_leave_the_scale_are_refused(bad, message):
    with pytest.raises(ValueError, match=message) as error:
        plot_quality_map(IMAGE, bad)
    assert "quality_map(" not in str(error.value)  # a function that a reader may not have called


def test_an_image_with_nan_is_refused():
    image = IMAGE.astype(float)
    image[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image cannot be drawn"):
        plot_quality_map(image, DIM)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 6\)"):
        plot_quality_map(IMAGE.transpose(2, 0, 1), DIM)
    with pytest.raises(ValueError, match="as many"):
        plot_quality_maps([IMAGE], [DIM, DIM], ["a"])
    with pytest.raises(ValueError, match="as many"):
        plot_quality_maps([], [], [])


def test_no_global_figure_and_no_setting_is_left():
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    plot_quality_map(IMAGE, DIM)
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
