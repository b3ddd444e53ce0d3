"""A run over a gallery: what its rows say, and that they depend on nothing else."""

import json
import warnings
import zipfile

import numpy as np
import pytest
import torch

from captum_plq import SERFIQ, LocalQuality
from captum_plq.faces import load_image
from captum_plq.gallery import read_result, score_gallery
from captum_plq.models import DEFAULT_MODEL, FaceModel, ModelSpec, load_model
from tests.conftest import SmallFaceNet
from tests.gallery.conftest import IMAGES, rows_of


def numbers(result, name):
    return np.array(read_result(result).table([name])[name].to_pylist(), float)


def test_rows_are_what_the_api_computes(crops, undisturbed):
    result = read_result(undisturbed)
    table = result.table()
    assert table["index"].to_pylist() == list(range(IMAGES))
    assert table["path"].to_pylist()[:2] == ["a/00.png", "a/02.png"]
    assert set(table["status"].to_pylist()) == {"ok"}
    chips = [load_image(crops / path) for path in table["path"].to_pylist()]
    images = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()
    model = load_model(DEFAULT_MODEL)
    quality = SERFIQ(model, estimator="closed-form")(images).detach()
    np.testing.assert_allclose(numbers(undisturbed, "quality"), quality, atol=1e-5)
    norms = model(images).norm(dim=1).detach()
    np.testing.assert_allclose(numbers(undisturbed, "embedding_norm"), norms, rtol=1e-5)
    local = LocalQuality(model).spatial(images)
    np.testing.assert_allclose(numbers(undisturbed, "local_quality"), local, atol=1e-5)
    assert "nose" in result.regions
    lost = sum(numbers(undisturbed, f"lost_{name}") for name in (*result.regions, "offset"))
    np.testing.assert_allclose(lost, result.reference_quality - local.numpy(), atol=1e-5)


@pytest.mark.parametrize("changed", [{"workers": 2}, {"workers": 1, "device": "cpu"}])
def test_workers_change_no_bit(crops, undisturbed, settings, tmp_path, changed):
    score_gallery(crops, tmp_path / "result", settings(**changed))
    assert rows_of(tmp_path / "result") == rows_of(undisturbed)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("workers", [0, 1])
def test_threads_change_no_bit(crops, undisturbed, settings, tmp_path, threads, workers):
    before, filters = torch.get_num_threads(), list(warnings.filters)
    torch.set_num_threads(threads)
    try:
        score_gallery(crops, tmp_path / "result", settings(workers=workers))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert rows_of(tmp_path / "result") == rows_of(undisturbed)
    assert warnings.filters == filters


@pytest.mark.parametrize("changed", [{"batch_size": 1}, {"batch_size": 5, "shard_size": 7}])
def test_batch_and_shard_size_change_less_than_1e_5(
    crops, undisturbed, settings, tmp_path, changed
):
    score_gallery(crops, tmp_path / "result", settings(**changed))
    for name in ("quality", "local_quality", "lost_nose", "scaled_quality"):
        here, there = numbers(tmp_path / "result", name), numbers(undisturbed, name)
        assert np.abs(here - there).max() <= 1e-5
        assert np.ptp(there) > 1e-3


def test_maps_and_embeddings_are_kept_on_request(crops, undisturbed, settings, tmp_path):
    score_gallery(crops, tmp_path, settings(maps="npz", embeddings=True))
    embeddings = np.array(read_result(tmp_path).table(["embedding"])["embedding"].to_pylist())
    norms = numbers(undisturbed, "embedding_norm")
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), norms, rtol=1e-5)
    parts = [np.load(path) for path in sorted((tmp_path / "maps").iterdir())]
    maps = np.concatenate([part["maps"] for part in parts])
    assert (maps.shape, maps.dtype) == ((IMAGES, 7, 7), np.float16)
    assert np.concatenate([part["index"] for part in parts]).tolist() == list(range(IMAGES))
    result = read_result(undisturbed)
    lost = sum(numbers(undisturbed, f"lost_{name}") for name in result.regions)
    np.testing.assert_allclose(-maps.astype(float).sum((1, 2)), lost, atol=2e-3)


def test_maps_as_pictures(crops, settings, tmp_path):
    score_gallery(crops / "a", tmp_path, settings(maps="png"))
    with zipfile.ZipFile(tmp_path / "maps" / "part-00001.zip") as archive:
        assert archive.namelist() == [f"{i:09}-1.png" for i in (4, 5, 6)]
        assert archive.read("000000004-1.png").startswith(b"\x89PNG")


def test_a_network_without_local_quality_has_the_other_columns(crops, settings, tmp_path):
    spec = ModelSpec("mine", (20, 20), (127.5,) * 3, (128.0,) * 3)
    summary = score_gallery(
        crops / "a", tmp_path, settings(passes=5), model=FaceModel(SmallFaceNet().eval(), spec)
    )
    result = read_result(tmp_path)
    assert "needs a calibration" in result.metadata["without_local"]
    assert (result.regions, result.reference_quality) == ([], None)
    table = result.table()
    assert table["local_quality"].null_count == table.num_rows == 7
    assert table["quality"].null_count == 0
    assert "needs a calibration" in summary.notes[-1]


def test_the_summary_and_progress_count(crops, settings, tmp_path):
    told = []
    summary = score_gallery(crops, tmp_path, settings(), progress=told.append)
    assert [p.done for p in told] == list(range(2, IMAGES + 1, 2))
    assert (summary.computed, summary.counts) == (IMAGES, {"ok": IMAGES})
    assert {"read", "decode", "align", "network", "write", "wait"} == set(summary.seconds)
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == IMAGES
    assert score_gallery(crops, tmp_path, settings()).computed == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"passes": 2}, "at least 3 passes"),
        ({"maps": "jpg"}, "'none', 'png' or 'npz'"),
        ({"timeout": float("nan")}, "timeout must be above 0"),
        ({"workers": -1}, "must not be negative"),
        ({"device": "abacus"}, "cannot be used here"),
        ({"model": "nobody"}, "nobody"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(
    crops, settings, tmp_path, changed, message
):
    with pytest.raises(ValueError, match=message):
        score_gallery(crops, tmp_path / "result", settings(**changed))
    assert not (tmp_path / "result").exists()
