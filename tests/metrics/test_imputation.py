"""What removed pixels become: by hand, by scipy's blur, by a dense solve of the definition."""

import sys

import numpy as np
import pytest
import torch

from captum_plq.metrics import black, blurred, constant, mean_colour, road
from captum_plq.metrics.imputation import interpolate

scipy = pytest.importorskip("scipy", reason="needs the extra [benchmarks]")


def random_case(batch=3, channels=3, height=9, width=7, share=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = 255 * torch.rand(
        batch, channels, height, width, generator=generator, dtype=torch.float64
    )
    return images, torch.rand(batch, height, width, generator=generator) < share


IMPUTERS = {
    "black": black,
    "constant": constant(12.5),
    "colour": constant((1.0, 2.0, 3.0)),
    "mean": mean_colour,
    "blurred": blurred(1.5),
    "road": road(),
}


@pytest.mark.parametrize("impute", IMPUTERS.values(), ids=IMPUTERS)
def test_only_removed_pixels_change_and_inputs_stay(impute):
    images, removed = random_case()
    before = images.clone(), removed.clone()
    state = torch.get_rng_state()
    found = impute(images, removed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before[0])
    assert torch.equal(removed, before[1])
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    kept = (~removed)[:, None].expand_as(images)
    assert torch.equal(found[kept], images[kept])
    assert (found != images)[~kept].all()
    assert torch.equal(impute(images, torch.zeros_like(removed)), images)
    assert torch.equal(impute(images, removed), found)


@pytest.mark.parametrize("impute", IMPUTERS.values(), ids=IMPUTERS)
def test_an_image_becomes_the_same_alone_and_in_any_batch(impute):
    images, removed = random_case()
    together = impute(images, removed)
    for i in (2, 0):
        alone = impute(images[i : i + 1], removed[i : i + 1])[0]
        torch.testing.assert_close(alone, together[i], rtol=1e-13, atol=1e-10)


def test_colours_by_hand():
    images = torch.tensor([[[[1.0, 3.0]], [[10.0, 30.0]]]])
    removed = torch.tensor([[[True, False]]])

    def first(impute):
        return impute(images, removed)[0, :, 0, 0].tolist()

    assert first(black) == [0.0, 0.0]
    assert first(constant(7.0)) == [7.0, 7.0]
    assert first(constant([7.0, 8.0])) == [7.0, 8.0]
    assert first(mean_colour) == [2.0, 20.0]


@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_the_blur_is_that_of_scipy(sigma):
    """Also where the kernel is wider than the image, which is mirrored again and again."""
    from scipy.ndimage import gaussian_filter

    images, removed = random_case(height=11, width=8)
    everything = torch.ones_like(removed)
    found = blurred(sigma)(images, everything)
    expected = gaussian_filter(images.numpy(), sigma, axes=(2, 3), mode="mirror")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    one_pixel = torch.tensor([[[[5.0]]]])
    assert blurred(2.0)(one_pixel, torch.ones(1, 1, 1, dtype=torch.bool)) == 5.0


def dense_solution(image, gone):
    """From the definition: one equation per pixel, with loops, by numpy."""
    channels, height, width = image.shape
    matrix, right = np.eye(height * width), image.reshape(channels, -1).T.copy()
    for r in range(height):
        for c in range(width):
            if not gone[r, c]:
                continue
            row = r * width + c
            right[row] = 0.0
            around = [
                (r + dr, c + dc, 1 / 6 if dr == 0 or dc == 0 else 1 / 12)
                for dr in (-1, 0, 1)
                for dc in (-1, 0, 1)
                if (dr, dc) != (0, 0) and 0 <= r + dr < height and 0 <= c + dc < width
            ]
            total = sum(weight for _, _, weight in around)
            for other_r, other_c, weight in around:
                matrix[row, other_r * width + other_c] -= weight / total
    return np.linalg.solve(matrix, right).T.reshape(image.shape)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("size", [(9, 7), (1, 12), (12, 1), (2, 2)])
def test_interpolation_is_the_dense_solve_of_the_definition(size, share):
    images, removed = random_case(4, 3, *size, share=share, seed=3)
    removed[:, 0, 0] = False
    removed[:, -1, -1] = True
    found = interpolate(images, removed)
    for image, gone, filled in zip(images, removed, found, strict=True):
        expected = dense_solution(image.numpy(), gone.numpy())
        np.testing.assert_allclose(filled.numpy(), expected, rtol=1e-9)


def test_interpolation_by_hand():
    """Middle of 3×3 with all neighbours; then a corner, whose weights 1/6, 1/6, 1/12 make 5/12."""
    image = torch.arange(1.0, 10.0, dtype=torch.float64).view(1, 1, 3, 3) ** 2
    middle = torch.zeros(1, 3, 3, dtype=torch.bool)
    middle[0, 1, 1] = True
    filled = interpolate(image, middle)[0, 0, 1, 1]
    assert float(filled) == pytest.approx((4 + 16 + 36 + 64) / 6 + (1 + 9 + 49 + 81) / 12)
    corner = torch.zeros_like(middle)
    corner[0, 0, 0] = True
    filled = interpolate(image, corner)[0, 0, 0, 0]
    assert float(filled) == pytest.approx((4 / 6 + 16 / 6 + 25 / 12) / (5 / 12))


def test_what_is_constant_stays_so_and_a_slope_is_carried_on():
    flat = torch.full((1, 3, 8, 8), 77.0)
    gone = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.8
    gone[0, 0, 0] = False
    torch.testing.assert_close(interpolate(flat, gone), flat)
    slope = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    inner = torch.zeros(1, 8, 8, dtype=torch.bool)
    inner[0, 2:6, 2:6] = True
    torch.testing.assert_close(interpolate(slope, inner), slope)


def test_where_nothing_is_left_the_mean_colour_stands():
    images, _ = random_case()
    removed = torch.zeros(3, 9, 7, dtype=torch.bool)
    removed[1] = True
    found = interpolate(images, removed)
    assert torch.equal(found[[0, 2]], images[[0, 2]])
    torch.testing.assert_close(found[1], images[1].mean((1, 2), keepdim=True).expand(3, 9, 7))


def test_the_noise_is_seeded_of_the_size_asked_for_and_the_same_in_every_image():
    images = torch.full((2, 3, 64, 64), 100.0, dtype=torch.float64)
    removed = torch.ones(2, 64, 64, dtype=torch.bool)
    removed[0, ::2] = False
    noise = road()(images, removed) - 100
    assert noise[1].std() == pytest.approx(2.55, rel=0.03)
    assert abs(noise[1].mean()) < 0.1
    torch.testing.assert_close(noise[0, :, 1::2], noise[1, :, 1::2])
    assert abs(np.corrcoef(noise[1, 0].flatten(), noise[1, 1].flatten())[0, 1]) < 0.06
    unit = road(0.02, value_range=1.0)(images, removed) - 100
    assert unit[1].std() == pytest.approx(0.02, rel=0.03)
    other = road(seed=1)(images, removed) - 100
    assert abs(np.corrcoef(other[1].flatten(), noise[1].flatten())[0, 1]) < 0.05
    assert torch.equal(road(0.0)(images, removed), interpolate(images, removed))


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    images, removed = random_case()
    with pytest.raises(ImportError, match=r"scipy.*captum-plq\[benchmarks\]"):
        road()(images, removed)


IMAGES, REMOVED = random_case()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blurred(0.0), "sigma must be positive and finite"),
        (lambda: blurred(float("nan")), "sigma must be positive"),
        (lambda: road(-0.1), "noise must be finite and not negative"),
        (lambda: road(value_range=0.0), "value_range must be positive"),
        (lambda: constant((1.0, 2.0))(IMAGES, REMOVED), "2 channels, but the images have 3"),
        (lambda: black(IMAGES.byte(), REMOVED), "floating point"),
        (lambda: mean_colour(IMAGES[0], REMOVED), r"\(B, C, H, W\)"),
        (lambda: road()(IMAGES, REMOVED.float()), "torch.bool, but got"),
        (lambda: blurred(1.0)(IMAGES, REMOVED[:2]), r"removed must be \(3, 9, 7\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
