"""Local quality is drawn on absolute scales: what is white, orange and purple, and what is said."""

import numpy as np
import pytest
import torch

from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.visualization import plot_local_quality, quality_in_words
from captum_plq.visualization.local_maps import QUALITY_LIMIT, ZSCORE_LIMIT

IMAGE = np.full((112, 112, 3), 200, np.uint8)
LOST = torch.zeros(7, 7)
LOST[2, 5] = -0.01


def colour(axis, value):
    (picture,) = axis.images
    return np.asarray(picture.to_rgba([value])[0][:3])


def test_each_view_has_its_scale_its_bar_and_its_words(tmp_path):
    maps = torch.stack([LOST, LOST / 2])
    figure, axes = plot_local_quality([IMAGE] * 2, maps, ["a", "b$"], 100 * maps, caption="net")
    assert axes.shape == (3, 2)
    for row, limit in zip(axes[1:], (QUALITY_LIMIT / 49, ZSCORE_LIMIT), strict=True):
        clims = [axis.images[0].get_clim() for axis in row]
        assert clims == [(-limit, limit)] * 2  # whatever the image
        low, zero, high = (colour(row[0], v) for v in (-limit, 0.0, limit))
        assert low[0] > 3 * low[2]  # orange
        assert high[2] > 3 * high[1]  # purple
        assert zero.min() > 0.9
    bars = [axis for axis in figure.axes if axis not in axes.ravel()]
    assert [bar.get_ylabel() for bar in bars] == ["Q per place", "z, in standard\ndeviations"]
    ticks = [[label.get_text() for label in bar.get_yticklabels()] for bar in bars]
    assert ticks == [["−.015", "0", "+.015"], ["−6", "0", "+6"]]
    for row, words in zip(axes[1:], ("lost (−) or gained (+)", "how unusual"), strict=True):
        (name,) = (text.get_text() for text in row[0].texts)
        assert words in name
        assert "7×7 places" in name
    figure.savefig(tmp_path / "maps.png")


def test_a_pixel_shows_the_value_of_its_place():
    """In units per place, so that the bar holds for it, and the mean keeps the sum."""
    _, axes = plot_local_quality([IMAGE], LOST[None], ["a"])
    assert axes.shape == (2,)
    shown = np.asarray(axes[1].images[0].get_array())
    assert shown.shape == (112, 112)
    assert shown.mean() * 49 == pytest.approx(-0.01, rel=1e-5)
    assert np.unravel_index(shown.argmin(), shown.shape) == pytest.approx((39.5, 87.5), abs=0.6)
    assert shown.min() == pytest.approx(-0.01, rel=0.1)
    even = plot_local_quality([IMAGE], np.full((1, 7, 7), 0.003), ["a"])[1][1]
    np.testing.assert_allclose(even.images[0].get_array(), 0.003, rtol=1e-5)


def test_a_place_is_shown_where_it_lies():
    centres = PlaceCentres((0.5 / 112, 0.5 / 112), (1 / 7, 1 / 7))
    _, axes = plot_local_quality([IMAGE], LOST[None], ["a"], centres=centres)
    shown = np.asarray(axes[1].images[0].get_array())
    assert np.unravel_index(shown.argmin(), shown.shape) == (32, 80)
    assert shown.min() == pytest.approx(-0.01, rel=1e-5)


@pytest.mark.parametrize("grid", [(14, 14), (7, 6)])
def test_the_scale_is_one_for_the_image_however_fine_the_grid(grid):
    """Four times as many places have a quarter each."""
    _, axes = plot_local_quality([IMAGE], np.zeros((1, *grid)), ["a"])
    limit = axes[1].images[0].get_clim()[1]
    assert limit * grid[0] * grid[1] == pytest.approx(QUALITY_LIMIT)
    assert f"{grid[0]}×{grid[1]}" in axes[1].get_title().replace("\n", " ")


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        (0.489, "Q = .49, .22 below a high-quality face"),
        (0.76, "Q = .76, .05 above a high-quality face"),
        (0.7055, "Q = .71, as of a high-quality face"),
        (0.7036, "Q = .70, as of a high-quality face"),
    ],
)
def test_quality_in_words(quality, words):
    assert quality_in_words(quality, 0.708) == words


@pytest.mark.parametrize("pair", [(float("nan"), 0.7), (0.5, float("nan")), (1.5, 0.7)])
def test_no_words_for_what_is_no_quality(pair):
    with pytest.raises(ValueError, match="between 0 and 1"):
        quality_in_words(*pair)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([IMAGE], [LOST * np.nan], ["a"]), "49 of its 49 places"),
        (([IMAGE], [LOST], ["a"], [LOST / 0]), "places are NaN"),
        (([IMAGE.astype(float) * np.nan], [LOST], ["a"]), "image cannot be drawn"),
        (([IMAGE], [LOST[0]], ["a"]), r"\(7,\)"),
        (([IMAGE[..., 0]], [LOST], ["a"]), r"\(112, 112\)"),
        (([IMAGE[:5, :5]], [LOST], ["a"]), r"\(5, 5, 3\)"),
        (([IMAGE] * 2, [LOST, LOST[:6]], ["a", "b"]), "one size for all"),
        (([IMAGE], [LOST, LOST], ["a"]), "as many"),
        (([IMAGE], [LOST], ["a"], [LOST] * 2), "as many"),
        (([], [], []), "no image"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_local_quality(*arguments)
