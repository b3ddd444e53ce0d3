"""Squares on real faces: how well maps find them. Run as a module, prints a table.

Calibrates on 150 people of LFW, puts squares of 20, 30 and 40 pixels on one face each of 60 other
people, and takes the AUROC of low quality against the square.
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.attribution import scaling_factor
from captum_plq.calibration import calibrate
from captum_plq.functional import merge_channels, pixel_quality
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.models import load_model
from tests.conftest import SHARED_DATA

FILLS = ("black", "mean colour", "noise")
SIZES = (20, 30, 40)
DEVELOPMENT, TEST = 150, 60

_NETWORK = """
import sys
sys.path.insert(0, {folder!r})
import reference_nets
from captum_plq.models import FaceModel, ModelSpec

def load_model():  # the network normalises by itself
    spec = ModelSpec({name!r}, (112, 112), mean=(0.0,) * 3, std=(1.0,) * 3)
    return FaceModel(reference_nets.load({name!r}), spec)
"""


def network(folder, name="mobilefacenet_y1"):
    """A network of the shared data, through a file as a user writes it."""
    file = folder / f"{name}.py"
    file.write_text(_NETWORK.format(folder=str(SHARED_DATA / "weights"), name=name))
    try:
        return load_model(file)
    finally:
        sys.path[:] = [p for p in sys.path if p != str(SHARED_DATA / "weights")]


def with_random_weights(model, images, seed=0):
    """The null: the same network untrained, its BatchNorm statistics those of the images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # plain averages
        norm.train()
    with torch.no_grad():
        for batch in images.split(50):
            model(batch)
    return model.eval()


def faces(development=DEVELOPMENT, test=TEST, seed=0):
    """One image each of different people, (n, 3, 112, 112), 0–255: development, then test."""
    from captum_plq.faces import load_image

    people = sorted(p for p in (SHARED_DATA / "faces" / "lfw").iterdir() if p.is_dir())
    order = np.random.default_rng(seed).permutation(len(people))[: development + test]
    pixels = np.stack([load_image(sorted(people[i].iterdir())[0]) for i in order])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return images[:development], images[development:]


def squares(images: Tensor, size: int, seed=1) -> tuple[Tensor, dict[str, Tensor]]:
    """Masks (n, H, W), and for each filling the images with it in the square."""
    generator = torch.Generator().manual_seed(seed + size)
    n, _, height, width = images.shape
    mask = torch.zeros(n, height, width, dtype=torch.bool)
    for place in mask:
        top = int(torch.randint(height - size + 1, (), generator=generator))
        left = int(torch.randint(width - size + 1, (), generator=generator))
        place[top : top + size, left : left + size] = True
    noise = torch.randint(256, images.shape, generator=generator).float()
    fills = (torch.zeros(()), images.mean((2, 3), keepdim=True), noise)
    spoilt = [torch.where(mask[:, None], fill, images) for fill in fills]
    return mask, dict(zip(FILLS, spoilt, strict=True))


def auroc(score: Tensor, positive: Tensor) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    _, place, count = score.flatten().unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - (count - 1) / 2)[place]
    chosen = positive.flatten()
    n, others = int(chosen.sum()), int((~chosen).sum())
    return float((rank[chosen].double().sum() - n * (n + 1) / 2) / (n * others))


def measure(model, development: Tensor, test: Tensor) -> dict[str, dict[str, float]]:
    """Map → filling → AUROC within each image, mean over faces and sizes; all in float64.

    ``clean`` is the clean image's relative map on the same squares. ``across`` compares the
    pixels of all images at once, every third of each row and column; ``across, with Q̂`` does so
    with a reference and maps that carry the scaling of Eq. 2.
    """
    plq = PixelQualityAttribution(SERFIQ(model, embedding_layer=None))
    found = calibrate(plq, development.split(16))

    def gradients(images):
        parts = [plq.attribute(batch, return_quality=True) for batch in images.split(16)]
        merged = torch.cat([merge_channels(a) for a, _ in parts]).double()
        q = torch.cat([q for _, q in parts]).double()
        return merged, scaling_factor(q, found.scaling).view(-1, 1, 1), q

    merged, factor, q = gradients(development)
    with_q_hat = gradient_reference((merged * factor)[q >= q.quantile(0.5)].log())
    clean = relative_pixel_quality(gradients(test)[0], found.reference)
    names = ("paper", "relative", "relative, pooled", "clean", "across", "across, with Q̂")
    table = {name: dict.fromkeys(FILLS, 0.0) for name in names}
    for size in SIZES:
        masks, spoilt = squares(test, size)
        for fill, images in spoilt.items():
            merged, factor, _ = gradients(images)
            pooled = relative_pixel_quality(merged, found.reference)
            maps = {
                "paper": pixel_quality(merged * factor, found.gamma),
                "relative": relative_pixel_quality(merged, found.reference, pooled=False),
                "relative, pooled": pooled,
                "clean": clean,
            }
            for name, quality in maps.items():
                each = [auroc(-p, mask) for p, mask in zip(quality, masks, strict=True)]
                table[name][fill] += float(np.mean(each)) / len(SIZES)
            scaled = relative_pixel_quality(merged * factor, with_q_hat)
            for name, quality in (("across", pooled), ("across, with Q̂", scaled)):
                found_by = auroc(-quality[:, ::3, ::3], masks[:, ::3, ::3])
                table[name][fill] += found_by / len(SIZES)
    return table


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "mobilefacenet_y1"
    development, test = faces()
    seeds = (None, 0, 1, 2)  # of random weights; None: the trained ones
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            model = network(Path(folder), name)
        if seed is not None:
            model = with_random_weights(model, development, seed)
        title = name if seed is None else f"random weights, seed {seed}"
        print(f"{title:30}", *(f"{fill:>12}" for fill in FILLS))
        for row, values in measure(model, development, test).items():
            print(f"{row:30}", *(f"{values[fill]:12.3f}" for fill in FILLS), flush=True)
