"""Where the places of a spatial map lie, against the pixels that reach them."""

import pytest
import torch
from torch import nn

from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.network.spatial.tail import SpatialTail

HEIGHT, WIDTH = 48, 40


class Embeds(nn.Module):
    """A trunk, and a linear layer of the flattened map."""

    def __init__(self, *trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        places = self.trunk(torch.zeros(1, 2, HEIGHT, WIDTH)).flatten(1).shape[1]
        self.head = nn.Linear(places, 6)

    def forward(self, x):
        return self.head(self.trunk(x).flatten(1))


class Residual(nn.Module):
    """A block whose shortcut has a stride of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
        self.shortcut = nn.Conv2d(4, 4, 1, 2)

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


class Halved(nn.Module):
    """Every other pixel, taken by no layer."""

    def forward(self, x):
        return x[..., ::2, ::2]


TRUNKS = {
    "strided": lambda: [nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1)],
    "patches": lambda: [nn.Conv2d(2, 4, 4, 4), nn.Conv2d(4, 4, 3, padding="same")],
    "pooled": lambda: [nn.Conv2d(2, 4, 5, 2, 2), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, 1, 1)],
    "valid": lambda: [nn.Conv2d(2, 4, 7, 2), nn.AvgPool2d(3, 2, ceil_mode=True)],
    "dilated": lambda: [nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 4, dilation=2)],
    "oblong": lambda: [nn.Conv2d(2, 4, (3, 5), (2, 4), (1, 0))],
    "residual": lambda: [nn.Conv2d(2, 4, 3, 2, 1), Residual(), nn.ReLU()],
}


def centres_of(model: nn.Module) -> PlaceCentres | None:
    tail = SpatialTail()
    images = torch.rand(2, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    tail.run(model.eval(), [images])
    return tail.centres


@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=list(TRUNKS))
def test_a_place_lies_in_the_middle_of_the_pixels_that_reach_it(trunk) -> None:
    torch.manual_seed(0)
    model = Embeds(*trunk())
    for parameter in model.parameters():
        parameter.data.abs_()  # nothing cancels
    found = centres_of(model)
    assert found is not None
    images = torch.rand(1, 2, HEIGHT, WIDTH, requires_grad=True)
    map_ = model.trunk(images)
    place = [n // 2 for n in map_.shape[2:]]
    (slopes,) = torch.autograd.grad(map_[0, :, place[0], place[1]].sum(), images)
    reached = slopes[0].sum(0) > 0
    for axis, (size, at) in enumerate(zip((HEIGHT, WIDTH), place, strict=True)):
        along = reached.any(1 - axis).nonzero().flatten()
        middle = (float(along[0] + along[-1]) / 2 + 0.5) / size
        assert found.first[axis] + at * found.step[axis] == pytest.approx(middle)


def test_of_a_map_that_no_layer_made_smaller_the_places_are_not_known() -> None:
    assert centres_of(Embeds(nn.Conv2d(2, 4, 3, 2, 1), Halved(), nn.Conv2d(4, 4, 3, 1, 1))) is None


def test_padding_that_a_layer_adds_itself_is_not_guessed() -> None:
    class Same(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))

    assert centres_of(Embeds(Same(2, 4, 3, 2))) is None
