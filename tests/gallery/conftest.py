"""A small gallery: aligned crops that differ, in two folders, and a run over them."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from captum_plq.faces import add_noise, sample_face  # noqa: E402
from captum_plq.gallery import ScoreSettings, read_result, run, score_gallery  # noqa: E402
from captum_plq.gallery.compute import FaceScorer  # noqa: E402

IMAGES = 14
FAST = {"aligned": True, "estimator": "closed-form", "shard_size": 4, "batch_size": 2, "workers": 0}


def write_crops(folder, count=IMAGES):
    chip = sample_face().chip
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_module.fromarray(add_noise(chip, 3.0 * i, seed=i)).save(path)
    return folder


def rows_of(result):
    """All columns, as bytes where they are numbers, so that equal means bit for bit."""
    table = read_result(result).table()
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return {
        name: [np.float32(x).tobytes() if isinstance(x, float) else x for x in values]
        for name, values in columns.items()
    }


MADE = {}
OF_SCORER = ("model", "calibration", "passes", "dropout", "seed", "estimator", "device")


@pytest.fixture(autouse=True)
def scorers_are_made_once(monkeypatch):
    """As making one takes longer than scoring a few faces with it."""

    def scorer(settings, model=None):
        if model is not None:
            return FaceScorer(settings, model)
        key = tuple(getattr(settings, name) for name in OF_SCORER)
        if key not in MADE:
            MADE[key] = FaceScorer(settings)
        return MADE[key]

    monkeypatch.setattr(run, "FaceScorer", scorer)


@pytest.fixture(scope="session")
def crops(tmp_path_factory):
    return write_crops(tmp_path_factory.mktemp("gallery") / "crops")


@pytest.fixture
def settings():
    return lambda **changed: ScoreSettings(**{**FAST, **changed})


@pytest.fixture(scope="session")
def undisturbed(crops, tmp_path_factory):
    """The result of a run that nothing has disturbed."""
    result = tmp_path_factory.mktemp("gallery") / "result"
    score_gallery(crops, result, ScoreSettings(**FAST))
    return result
