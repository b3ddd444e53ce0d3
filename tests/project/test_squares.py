"""On real faces and a trained network: relative maps find squares that the paper's map misses."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.parts.mask_scores import auroc
from captum_plq import PixelQualityAttribution
from captum_plq.attribution import scaling_factor
from captum_plq.calibration import calibrate
from captum_plq.functional import merge_channels, pixel_quality
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics import with_random_weights
from captum_plq.models import load_model
from tests.conftest import SHARED_DATA

WEIGHTS = SHARED_DATA / "weights"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs the shared faces and weights"),
]
FILLS, SIZES = ("black", "mean colour", "noise"), (20, 30, 40)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of the shared data, through a file as a user writes it."""
    file = tmp_path_factory.mktemp("network") / "network.py"
    file.write_text(
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "from captum_plq.models import FaceModel, ModelSpec\n"
        f"found = spec_from_file_location('nets', {str(WEIGHTS / 'reference_nets.py')!r})\n"
        "nets = module_from_spec(found)\n"
        "found.loader.exec_module(nets)\n"
        "spec = ModelSpec('mobilefacenet_y1', (112, 112), mean=(0.0,) * 3, std=(1.0,) * 3)\n"
        "load_model = lambda: FaceModel(nets.load(spec.name), spec)  # normalises by itself\n"
    )
    return load_model(file)


@pytest.fixture(scope="module")
def faces():
    """One image each of 210 people, (n, 3, 112, 112), 0–255: 150 to calibrate on, 60 to test."""
    from captum_plq.faces import load_image

    people = sorted(p for p in (SHARED_DATA / "faces" / "lfw").iterdir() if p.is_dir())
    order = np.random.default_rng(0).permutation(len(people))[:210]
    pixels = np.stack([load_image(sorted(people[i].iterdir())[0]) for i in order])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().split([150, 60])


def squares(images, size):
    """Masks (n, H, W), and for each filling the images with it in the square."""
    generator = torch.Generator().manual_seed(1 + size)
    mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
    for place in mask:
        top, left = torch.randint(112 - size + 1, (2,), generator=generator).tolist()
        place[top : top + size, left : left + size] = True
    noise = torch.randint(256, images.shape, generator=generator).float()
    fills = (torch.zeros(()), images.mean((2, 3), keepdim=True), noise)
    return mask, [torch.where(mask[:, None], fill, images) for fill in fills]


def measure(model, development, test):
    """Map → filling → AUROC of low quality against the square, mean over faces and sizes.

    ``clean`` is the clean image's relative map on the same squares. ``across`` compares the
    pixels of all images at once; ``across, with Q̂`` with a reference and maps of Q̂'s gradients.
    """
    plq = PixelQualityAttribution(model)
    found = calibrate(plq, development.split(16))

    def gradients(images):
        parts = [plq.attribute(batch, return_quality=True) for batch in images.split(16)]
        merged = torch.cat([merge_channels(a) for a, _ in parts]).double()
        q = torch.cat([q for _, q in parts]).double()
        return merged, scaling_factor(q, found.scaling).view(-1, 1, 1), q

    merged, factor, q = gradients(development)
    with_q_hat = gradient_reference((merged * factor)[q >= q.quantile(0.5)].log())
    clean = relative_pixel_quality(gradients(test)[0], found.reference)
    table = {}
    for size in SIZES:
        masks, filled = squares(test, size)
        for fill, images in zip(FILLS, filled, strict=True):
            merged, factor, _ = gradients(images)
            pooled = relative_pixel_quality(merged, found.reference)
            scaled = relative_pixel_quality(merged * factor, with_q_hat)
            for name, maps in {
                "paper": pixel_quality(merged * factor, found.gamma),
                "relative": relative_pixel_quality(merged, found.reference, pooled=False),
                "relative, pooled": pooled,
                "clean": clean,
                "across": pooled[:, ::3, ::3].reshape(1, 1, -1),
                "across, with Q̂": scaled[:, ::3, ::3].reshape(1, 1, -1),
            }.items():
                where = masks if len(maps) > 1 else masks[:, ::3, ::3].reshape(1, 1, -1)
                row = table.setdefault(name, dict.fromkeys(FILLS, 0.0))
                row[fill] += float(auroc(maps, where).mean()) / len(SIZES)
    return table


def test_relative_maps_find_squares(network, faces):
    table = measure(network, *faces)
    untrained = with_random_weights(network, images=faces[0])
    null = measure(untrained, *faces)
    for fill, (relative, pooled) in {
        "black": (0.78, 0.89),
        "mean colour": (0.69, 0.79),
        "noise": (0.89, 0.96),
    }.items():
        paper = table["paper"][fill]
        assert table["relative"][fill] > max(relative, paper + 0.1)
        assert table["relative, pooled"][fill] > max(pooled, table["relative"][fill] + 0.03)
        assert table["clean"][fill] == pytest.approx(0.5, abs=0.06)
        assert table["across"][fill] > table["across, with Q̂"][fill] + 0.1
        assert null["clean"][fill] == pytest.approx(0.5, abs=0.06)
        gain = table["relative, pooled"][fill] - null["relative, pooled"][fill]
        assert gain > 0.15  # what the network learned, not what any network shows


def test_gamma_makes_the_middle_green_and_the_border_red(network, faces):
    development, test = faces
    found = calibrate(network, development.split(16))
    assert found.gamma_holds > 0.95
    assert found.centre_quality > 0.8
    assert found.border_quality < 0.2
    others = calibrate(network, test.split(16))
    assert others.gamma == pytest.approx(found.gamma, abs=0.3)
