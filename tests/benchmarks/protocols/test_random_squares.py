"""Places are uniform in the inner part and the same for all fills; fills are what they say."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.random_squares import FILLS, occlude_squares, square

pytest.importorskip("cv2")


@pytest.fixture
def faces():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 255, (2, 3, 40, 40), generator=generator).float()


def occlude(image, size, fill, other, name, seed):
    images, masks = occlude_squares(image[None], [size], [fill], [other], [name], seed)
    return images[0], masks[0]


def test_places_are_uniform_within_the_inner_part():
    generator = np.random.default_rng(0)
    rows = [square(40, 40, 30, generator)[0] for _ in range(700)]
    assert all(place.stop - place.start == 30 for place in rows)
    starts, counts = np.unique([place.start for place in rows], return_counts=True)
    assert starts.tolist() == list(range(2, 9))  # 2 … 38 − 30
    assert counts.min() > 60
    assert counts.max() < 145


def test_all_fills_share_the_place_and_leave_the_rest(faces):
    image, other = faces
    masks = []
    for fill in FILLS:
        occluded, mask = occlude(image, 10, fill, other, "a", 3)
        assert mask.sum() == 100
        assert occluded.dtype == image.dtype
        assert torch.equal(occluded[:, ~mask], image[:, ~mask])
        assert not torch.equal(occluded[:, mask], image[:, mask])
        assert torch.equal(occluded, occlude(image, 10, fill, other, "a", 3)[0])
        masks.append(mask)
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert not torch.equal(masks[0], occlude(image, 10, "black", other, "b", 3)[1])
    assert not torch.equal(masks[0], occlude(image, 10, "black", other, "a", 4)[1])


def test_black_mean_and_texture(faces):
    image, other = faces
    black, mask = occlude(image, 10, "black", other, "a", 0)
    assert (black[:, mask] == 0).all()
    mean = occlude(image, 10, "mean", other, "a", 0)[0]
    assert (mean[:, mask] == image.mean((1, 2)).round()[:, None]).all()
    texture = occlude(image, 10, "texture", other, "a", 0)[0]
    patch = texture[:, mask].view(3, 10, 10)
    windows = other.unfold(1, 10, 1).unfold(2, 10, 1)
    assert (windows == patch[:, None, None]).all((0, 3, 4)).sum() == 1


def test_bad_input_is_refused(faces):
    with pytest.raises(ValueError, match="1 to 36 pixels"):
        occlude(faces[0], 37, "black", faces[1], "a", 0)
    with pytest.raises(ValueError, match="no fill 'red'"):
        occlude(faces[0], 10, "red", faces[1], "a", 0)
