"""The networks that are shipped: their head against an oracle, weights, and what they can do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.calibration import load_calibration, shipped_calibration
from captum_plq.faces import STANDARD_DEGRADATIONS, cover_eye, sample_face, surgical_mask
from captum_plq.models import (
    DROPOUT_MOBILEFACENET_SPEC,
    dropout_mobilefacenet,
    load_model,
)
from captum_plq.models.architectures.dropout_mobilefacenet import (
    DROPOUT_MOBILEFACENETS,
    TRUNK,
    find_shipped_weights,
    new_dropout_mobilefacenet,
)
from captum_plq.models.architectures.mobilefacenet import mobilefacenet
from tests.support.checkpoints import normed


def as_images(*chips):
    return torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()


NAMES = [architecture.spec.name for architecture in DROPOUT_MOBILEFACENETS]


@pytest.fixture(scope="module", params=NAMES)
def shipped(request):
    return load_model(request.param)


def test_trunk_is_mobilefacenet_and_head_is_arcface():
    torch.manual_seed(0)
    network = new_dropout_mobilefacenet().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    w = network.state_dict()
    other = mobilefacenet("foamliu").eval()
    x = images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        for name in TRUNK:
            part = other.get_submodule(name)
            part.load_state_dict(network.get_submodule(name).state_dict())
            x = part(x)
        assert x.shape == (2, 512, 7, 7)
        x = torch.einsum("oc,nchw->nohw", w["neck.weight"][:, :, 0, 0], x)
        x = normed(w, "bn1", x, 1e-5).reshape(2, -1)
        x = normed(w, "bn2", x @ w["fc.weight"].T + w["fc.bias"], 1e-5)
        torch.testing.assert_close(network(images), x, rtol=1e-4, atol=1e-4)
    serfiq = SERFIQ(network, passes=5)
    serfiq(images)
    assert serfiq.tap.layer_name == DROPOUT_MOBILEFACENET_SPEC.embedding_layer == "fc"


def test_weights_are_small_in_half_precision_and_loaded_in_float32(shipped):
    path = find_shipped_weights(shipped.spec.name)
    assert path.stat().st_size < 5e6
    assert {x.dtype for x in load_file(path).values()} == {torch.float16, torch.int64}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = dropout_mobilefacenet(name=shipped.spec.name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    images = as_images(sample_face().chip)
    assert torch.equal(model(images), shipped(images))


def test_names_that_are_not_shipped_are_refused():
    with pytest.raises(ValueError, match="'mobilefacenet-places' and 'mobilefacenet-dropout'"):
        dropout_mobilefacenet(name="mobilefacenet")
    assert find_shipped_weights("../weights/mobilefacenet-dropout") is None


def test_shipped_weights_that_are_absent_or_were_changed(tmp_path):
    def load_with(find):
        architecture = DROPOUT_MOBILEFACENETS[1]
        installed = replace(architecture.installed, find=find)
        return replace(architecture, installed=installed).load()

    with pytest.raises(ImportError, match="not installed; run: pip install --force"):
        load_with(lambda: None)
    data = bytearray(find_shipped_weights("mobilefacenet-dropout").read_bytes())
    data[-1] ^= 1
    changed = tmp_path / "mobilefacenet-dropout.safetensors"
    changed.write_bytes(data)
    with pytest.raises(ValueError, match=r"safetensors is damaged or was changed: its sha256"):
        load_with(lambda: changed)
    assert load_model("mobilefacenet-dropout", weights=changed)  # by its path, it is one's own


def test_the_calibration_is_of_these_weights_and_the_spec_says_the_same(shipped):
    calibration = load_calibration(shipped.spec.name)
    calibration.check(PixelQualityAttribution(shipped))
    assert calibration.reference is not None
    assert calibration.local.smoothed is not None
    assert shipped_calibration("dlib") is None
    spec = shipped.spec
    assert spec.scaling.alpha == pytest.approx(calibration.scaling.alpha, abs=0.05)
    assert spec.scaling.r == pytest.approx(calibration.scaling.r, abs=5e-4)
    assert spec.gamma == pytest.approx(calibration.gamma, abs=5e-3)


def test_quality_falls_for_every_standard_degradation(shipped):
    chip, landmarks = sample_face()
    worse = {name: degrade(chip, 0) for name, degrade in STANDARD_DEGRADATIONS.items()}
    worse["covered eye"] = cover_eye(chip, landmarks, "left").image
    worse["surgical mask"] = surgical_mask(chip, landmarks).image
    assessed = SERFIQ(shipped).assess(as_images(chip, *worse.values()), standard_error=True)
    margin = assessed.quality[0] - 5 * assessed.standard_error.max()
    for name, quality in zip(worse, assessed.quality[1:], strict=True):
        assert quality < margin, name


def test_the_map_is_low_on_the_covered_eye(shipped):
    """Lower than on the other eye, though both lie where a face's gradients are large."""
    chip, landmarks = sample_face()
    left, right = (cover_eye(chip, landmarks, side) for side in ("left", "right"))
    attributions = PixelQualityAttribution(shipped).attribute(as_images(left.image))
    size = attributions.abs().mean((0, 1)).numpy()
    assert size[left.mask].mean() < 0.5 * size[right.mask].mean()
