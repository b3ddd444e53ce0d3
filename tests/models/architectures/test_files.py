"""Loading each kind of published file, made up, and computing what the published network gives."""

import re
from dataclasses import replace

import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import FaceModel, load_model
from captum_plq.models.registry import ARCHITECTURES
from tests.support import published_mobile
from tests.support.checkpoints import cast, random_checkpoint, rgb
from tests.support.published import NETWORKS

BY_NAME = {a.spec.name: a for a in ARCHITECTURES}
# Of each family one network is loaded in every run.
OTHERS = (
    r"(magface-)?iresnet(34|50|100|200)|crfiqa-iresnet100|adaface-ir(50|101)"
    r"|edgeface_(xs|s|base)(_gamma_05)?$"
)
DEEP = [name for name in NETWORKS if re.match(OTHERS, name)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in DEEP else []) for n in NETWORKS],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def state(name):
    state = random_checkpoint(NETWORKS[name].shapes())
    for key, value in state.items() if name in DEEP else ():
        if key.endswith((".bn3.weight", "res_layer.5.weight")):
            value *= 0.3  # small residuals, so that signals do not grow
    return cast(state, torch.float32)


@pytest.fixture(scope="module")
def model(name, state, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(NETWORKS[name].wrap(state), file)
    before = torch.get_rng_state()
    model = load_model(name, weights=file)
    assert torch.equal(torch.get_rng_state(), before)
    file.unlink()
    return model


def test_every_weight_of_the_file_is_in_the_network_and_no_other(name, state, model):
    torch.testing.assert_close(dict(model.backbone.state_dict()), state, rtol=0, atol=0)
    assert model.unused_weights == NETWORKS[name].unused
    assert not any(module.training for module in model.modules())
    assert model.spec is BY_NAME[name].spec


def test_the_embedding_is_what_the_published_network_gives(name, state, model):
    x = rgb(2, *model.spec.input_size).double()
    with torch.no_grad():
        embeddings = model.double()(x)
        model.float()
        if reference := NETWORKS[name].reference:
            expected = reference(cast(state, torch.float64), NETWORKS[name].prepare(x).double())
            torch.testing.assert_close(embeddings, expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(model(x.float())[1:], model(x[1:].float()), rtol=1e-3, atol=1e-4)
    assert embeddings.std() > 0.01  # and not a constant


def test_serfiq_finds_the_embedding_layer_and_plq_runs(name, model):
    x = rgb(1, *model.spec.input_size)
    serfiq = SERFIQ(model, passes=4)
    assert serfiq.tap.locate(model, (x,)) == f"backbone.{NETWORKS[name].layer}"
    attributions, quality = PixelQualityAttribution(serfiq).attribute(x, return_quality=True)
    assert attributions.isfinite().all()
    assert 0 < float(quality) < 1
    read = (attributions != 0).any(dim=(0, 1, 2))
    whole = (0, x.shape[3])
    start, end = {"mobilefacenet-xiaoccer": (8, 104), "facenet": (0, 157)}.get(name, whole)
    assert read.nonzero().flatten().tolist() == list(range(start, end))


@published_mobile.needs_weights
@pytest.mark.filterwarnings("ignore:.*zero throughout .*stages.3.blocks.2.xca.qkv:UserWarning")
@pytest.mark.parametrize("name", ["mobilefacenet-y1", "mobilefacenet-foamliu", "edgeface_xs"])
def test_real_weights_give_the_known_embeddings(name, tmp_path):
    file = name.replace("-", "_")
    torch.save(published_mobile.real_weights(file), tmp_path / "weights.pth")
    model = load_model(name, tmp_path / "weights.pth")
    images, expected = published_mobile.known_embeddings(file)

    def error(**changes):
        with torch.no_grad():
            found = FaceModel(model.backbone, replace(model.spec, **changes))(images)
        return float((found - expected).abs().max() / expected.abs().max())

    assert error() < 1e-5
    assert error(channel_order="BGR") > 0.05
    assert error(std=tuple(x + 0.5 for x in model.spec.std)) > 1e-4
    assert error(mean=(0.0,) * 3) > 0.05
