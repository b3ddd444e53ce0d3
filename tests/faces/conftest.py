"""The face that is always at hand, and the faces of ``../shared/data`` where they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

LFW = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "faces" / "lfw"
MAGNIFICATION, MARGIN = 4, 28


@pytest.fixture(scope="session")
def astronaut():
    """(512, 512, 3), uint8, read-only: a portrait that comes with scikit-image."""
    image = data.astronaut()
    image.flags.writeable = False
    return image


@pytest.fixture(scope="session")
def lfw():
    """40 people, aligned to the ArcFace template, magnified and framed for the detector."""
    if not LFW.is_dir():
        pytest.skip("needs LFW in ../shared/data, which is absent")
    people = sorted(path for path in LFW.iterdir() if path.is_dir())[5::52][:40]
    images = []
    for person in people:
        image = np.asarray(Image.open(min(person.iterdir())).convert("RGB"))
        image = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
        side = image.shape[0] * MAGNIFICATION
        images.append(np.array(Image.fromarray(image).resize((side, side), Image.BICUBIC)))
    return images


@pytest.fixture(scope="session")
def to_aligned():
    """From pixels of the ``lfw`` images to pixels of the 112×112 crops they were made from."""
    return lambda points: (np.asarray(points) + 0.5) / MAGNIFICATION - 0.5 - MARGIN
