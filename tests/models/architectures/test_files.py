"""Loading each kind of published file, made up, and computing what the published network gives."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import (
    FaceModel,
    load_model,
)
from captum_plq.models.registry import ARCHITECTURES
from tests.support import published, published_mobile
from tests.support.checkpoints import cast, random_checkpoint, rgb, under
from tests.support.published import NETWORKS

BY_NAME = {a.spec.name: a for a in ARCHITECTURES}


@dataclass
class Case:
    """A published file, made up: what is to be in the network, and how the file holds it."""

    name: str
    wrap: Any = dict
    unused: tuple[str, ...] = ()


def of_facenet(state):
    return {**state, **{key: torch.zeros(shape) for key, shape in published.CLASSIFIER.items()}}


def of_lightning(state):
    """As AdaFace saves it: the network under `model.`, the loss's head beside it."""
    head = {"kernel": (512, 100), "t": (1,), "batch_mean": (1,), "batch_std": (1,)}
    inside = under("model.", state) | {f"head.{key}": torch.zeros(n) for key, n in head.items()}
    return {"epoch": 25, "state_dict": inside, "hyper_parameters": {"arch": "ir_18", "lr": 0.1}}


def of_magface(state):
    """As its distributed training saves it: `features.module.`, and the class centres."""
    inside = under("features.module.", state) | {"parallel_fc.weight": torch.zeros(512, 100)}
    return {"epoch": 25, "arch": "iresnet18", "state_dict": inside, "optimizer": {"state": {}}}


CASES = [
    Case("iresnet18"),
    Case("facenet", of_facenet, ("logits.bias", "logits.weight")),
    Case(
        "adaface-ir18",
        of_lightning,
        ("head.batch_mean", "head.batch_std", "head.kernel", "head.t"),
    ),
    Case("magface-iresnet18", of_magface, ("parallel_fc.weight",)),
    Case("crfiqa-iresnet50"),
    Case("mobilefacenet-y1"),
    Case("mobilefacenet-foamliu"),
    Case("mobilefacenet-xiaoccer", lambda state: {"net_state_dict": state, "iters": 3}),
    Case("mobilefacenet-treb1en"),
    Case("mobilefacenet-arcface-torch"),
    Case("edgeface_xxs"),
    Case("edgeface_xs_gamma_06"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def state(case):
    return random_checkpoint(NETWORKS[case.name].shapes())


@pytest.fixture(scope="module")
def model(case, state, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(case.wrap(cast(state, torch.float32)), file)
    before = torch.get_rng_state()
    model = load_model(case.name, weights=file)
    assert torch.equal(torch.get_rng_state(), before)
    file.unlink()
    return model


def test_every_weight_of_the_file_is_in_the_network_and_no_other(case, state, model):
    torch.testing.assert_close(
        dict(model.backbone.state_dict()), cast(state, torch.float32), rtol=0, atol=0
    )
    assert model.unused_weights == case.unused
    assert not any(module.training for module in model.modules())
    assert model.spec is BY_NAME[case.name].spec


def test_the_embedding_is_what_the_published_network_gives(case, state, model):
    x = rgb(2, model.spec.input_size[0]).double()
    with torch.no_grad():
        embeddings = model.double()(x)
        model.float()
        if reference := NETWORKS[case.name].reference:
            exact = cast(cast(state, torch.float32), torch.float64)
            expected = reference(exact, NETWORKS[case.name].prepare(x).double())
            torch.testing.assert_close(embeddings, expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(model(x.float())[1:], model(x[1:].float()), rtol=1e-3, atol=1e-4)
    assert isinstance(embeddings, torch.Tensor)
    assert embeddings.std() > 0.01  # and not a constant
    unit = case.name.startswith(("facenet", "adaface")) or case.name.endswith("treb1en")
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2).double(), atol=1e-6) is unit


def test_serfiq_finds_the_embedding_layer_and_plq_runs(case, model):
    x = rgb(1, model.spec.input_size[0])
    serfiq = SERFIQ(model, passes=4)
    assert serfiq.tap.locate(model, (x,)) == f"backbone.{NETWORKS[case.name].layer}"
    attributions, quality = PixelQualityAttribution(serfiq).attribute(x, return_quality=True)
    assert attributions.isfinite().all()
    assert 0 < float(quality) < 1
    read = (attributions != 0).any(dim=(0, 1, 2))
    start, end = {"mobilefacenet-xiaoccer": (8, 104), "facenet": (0, 157)}.get(case.name, (0, 112))
    assert read[start:end].all()
    assert not read[:start].any()
    assert not read[end:].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(f"iresnet{depth}" for depth in (34, 50, 100, 200)),
        *("adaface-ir50", "adaface-ir101", "magface-iresnet50", "magface-iresnet100"),
        "crfiqa-iresnet100",
    ],
)
def test_the_deeper_networks_give_what_they_should(name, tmp_path):
    state = cast(random_checkpoint(NETWORKS[name].shapes()), torch.float32)
    for key, value in state.items():  # small residuals, so that signals do not grow
        if key.endswith((".bn3.weight", "res_layer.5.weight")):
            value *= 0.3
    torch.save(state, tmp_path / "weights.pth")
    model = load_model(name, tmp_path / "weights.pth").double()
    x = rgb(1, 112).double()
    with torch.no_grad():
        expected = NETWORKS[name].reference(
            cast(state, torch.float64), NETWORKS[name].prepare(x).double()
        )
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-7)


# --- real weights


@published_mobile.needs_weights
@pytest.mark.parametrize("name", ["mobilefacenet-y1", "mobilefacenet-foamliu", "edgeface_xs"])
def test_real_weights_give_the_known_embeddings(name):
    file = name.replace("-", "_")
    network, spec = BY_NAME[name].build().eval(), BY_NAME[name].spec
    network.load_state_dict(published_mobile.real_weights(file), strict=True)
    images, expected = published_mobile.known_embeddings(file)

    def error(**changes):
        with torch.no_grad():
            found = FaceModel(network, replace(spec, **changes))(images)
        return float((found - expected).abs().max() / expected.abs().max())

    assert error() < 1e-5
    assert error(channel_order="BGR") > 0.05
    assert error(std=tuple(x + 0.5 for x in spec.std)) > 1e-4
    assert error(mean=(0.0,) * 3) > 0.05
