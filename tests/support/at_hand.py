"""What the reader of a docstring has at hand: the names and the files that examples speak of."""

import doctest
import math
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel, faces, metrics, models
from captum_plq.calibration import shipped_calibration
from captum_plq.explanation import Explainer
from captum_plq.faces import sample_face
from captum_plq.functional import merge_channels, quality_map
from captum_plq.models.architectures.inception_resnet import FACENET
from captum_plq.network.lender import Lender
from tests.support import published
from tests.support.hub_folders import VIT, fill_cache

# --- names


class Names(dict):
    """Each is made when first asked for."""

    def __missing__(self, name):
        self[name] = COMMON[name](self)
        return self[name]


def own_network():
    """An architecture of the reader's own: no FaceModel, and small."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer4 = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.PReLU(4))
        parts = {"layer4": layer4, "flatten": nn.Flatten(), "fc": nn.Linear(4 * 56 * 56, 64)}
        return nn.Sequential(OrderedDict(parts)).eval()


def timm_vit():
    import timm

    with torch.random.fork_rng(devices=[]):
        return timm.create_model("vit_tiny_patch16_224", img_size=112, depth=2, num_classes=64)


def photos(count, size=112):
    """The sample face, ever noisier, (count, size, size, 3), uint8."""
    noisy = (faces.add_noise(sample_face().chip, 4.0 * i, seed=i) for i in range(count))
    return np.stack([faces.resize_aligned(chip, (size, size)) for chip in noisy])


def pixels(count, size=112):
    return torch.from_numpy(photos(count, size)).permute(0, 3, 1, 2).float()


def portrait():
    return optional("skimage.data", "astronaut")()


def detected(my):
    return faces.detect_faces(portrait())[0]


def explain(network, images):
    return merge_channels(PixelQualityAttribution(network).attribute(images))


def optional(module, name):
    found = pytest.importorskip(module, reason=f"needs {module}", exc_type=ImportError)
    return getattr(found, name)


def sparseness():
    return optional("quantus", "Sparseness")(disable_warnings=True, display_progressbar=False)


COMMON = {
    "model": lambda my: models.load_model("mobilefacenet-dropout"),
    "chip": lambda my: sample_face().chip,
    "landmarks": lambda my: sample_face().landmarks,
    "images": lambda my: pixels(2),
    "references": lambda my: my["images"].flip(3),
    "plq": lambda my: PixelQualityAttribution(my["model"]),
    "serfiq": lambda my: SERFIQ(my["model"]),
    "quality_model": lambda my: QualityModel(my["model"]),
    "node": lambda my: my["quality_model"].node(my["images"]),
    "explained": lambda my: my["plq"].attribute(my["images"], return_quality=True),
    "attributions": lambda my: my["explained"][0],
    "quality": lambda my: my["explained"][1],
    "maps": lambda my: quality_map(my["attributions"], gamma=7.5),
    "calibration": lambda my: shipped_calibration("mobilefacenet-dropout"),
}

# Here the model is the reader's own, small one: what is shown takes long, or needs its layer.
OWN_MODEL = (
    "integrations",
    "attribution.layer",
    "metrics.captum_own",
    "metrics.repeatability.quality_spread",
    "metrics.perturbation",
    "metrics.random_weights",
    "metrics.repeatability.repeatability",
    "metrics.sanity.smooth_mprt",
    "quality.model",
    "quality.serfiq",
)

# What a module's docstrings, or one of them, have beside that or in its place.
SPECIAL = {
    "calibration.regions": {"lost": lambda my: np.random.default_rng(0).random((4, 9))},
    "feedback.rules": {
        "lost": lambda my: np.full(9, 0.01),
        "losses": lambda my: my["calibration"].region_losses,
    },
    "network.lender": {"lender": lambda my: Lender()},
    "calibration.measure": {"batches": lambda my: pixels(12).split(4)},
    **{f"quality.scores.{name}": {"vit": lambda my: timm_vit()} for name in ("vitnt", "attn_fiqa")},
    "suitability.sites": {"chips": lambda my: pixels(2, 150)},
    "network.output": {word: lambda my: torch.ones(2, 8) for word in ("embedding", "norm")},
    "explanation.explainer": {"chips": lambda my: photos(2, 150)},
    "faces.align": {
        "image": lambda my: portrait(),
        "best": detected,
        "crop": lambda my: sample_face().chip,
    },
    "faces.aligned": {"image": lambda my: portrait()},
    "faces.cut_off": {"image": lambda my: portrait(), "best": detected},
    "visualization.overview": {"image": lambda my: portrait()},
    "explanation.extremes": {"explanation": lambda my: Explainer(my["model"])(photos(1))},
    "faces.crops": {"paths": lambda my: [Path("photo.jpg")]},
    "faces.disturb.occlude": {"face": detected},
    "faces.inpaint": {"patch": lambda my: np.pad(np.ones((12, 12), bool), 50)},
    "integrations.grad_cam": {"GradCAM": lambda my: optional("pytorch_grad_cam", "GradCAM")},
    "integrations.quantus": {
        "images": lambda my: my["images"].numpy(),
        "identities": lambda my: np.arange(2),
        "quantus": lambda my: SimpleNamespace(evaluate=optional("quantus", "evaluate")),
        "metric": lambda my: sparseness(),
        "metrics": lambda my: {"sparseness": sparseness()},
    },
    "metrics.captum_own": {"target": lambda my: my["serfiq"]},
    "metrics.maps": {"score_map": lambda my: my["maps"][0]},
    "metrics.imputation": {"removed": lambda my: my["maps"] < 0.5},
    "metrics.repeatability.lowest_region": {"pixel_quality_map": lambda my: my["maps"][0]},
    "metrics.random_weights": {"development": lambda my: pixels(4), "explain": lambda my: explain},
    "metrics.recognition": {
        "probes": lambda my: my["images"],
        "impostor_scores": lambda my: torch.linspace(-0.3, 0.3, 2000),
        "curve": lambda my: metrics.Curve(torch.linspace(0, 1, 5), torch.rand(2, 5)),
        "threshold": lambda my: 0.3,
    },
    "metrics.recognition.partial_area": {
        "curve": lambda my: metrics.error_versus_discard(*torch.rand(3, 50), 0.3)
    },
    "metrics.sanity": {"explain": lambda my: explain},
    "metrics.sanity.efficient_mprt": {"images": lambda my: pixels(4)},
    "models.architecture": {
        "MyNetwork": lambda my: own_network,
        "network": lambda my: models.InceptionResnetV1(),
        "architecture": lambda my: FACENET,
    },
    "models.architectures.dlib_resnet": {"chips": lambda my: pixels(2, 150)},
    "models.architectures.dropout_mobilefacenet": {"chips": lambda my: pixels(2)},
    "models.architectures.inception_resnet": {"images": lambda my: pixels(2, 160)},
    "models.spec": {"my_network": lambda my: own_network()},
    "suitability.separation": {
        "clean": lambda my: torch.linspace(0.8, 0.9, 50),
        "degraded": lambda my: torch.linspace(0.7, 0.85, 50),
        "one": lambda my: torch.stack([torch.linspace(a, 1 + a, 50) for a in (1.0, 0.0)]),
        "other": lambda my: torch.stack([torch.linspace(a, 1 + a, 50) for a in (0.1, 0.0)]),
    },
    "suitability.assess": {
        "chips": lambda my: photos(20, 150),
        "model": lambda my: models.load_model("dlib"),
    },
    "suitability.scores": {"chips": lambda my: photos(20)},
    "visualization.quality_maps": {
        "clean": lambda my: my["chip"],
        "masked": lambda my: faces.surgical_mask(my["chip"], my["landmarks"]).image,
    },
}


# --- files


def write_photo(path):
    optional("PIL.Image", "fromarray")(portrait()).save(path, quality=95)


def write_list(path):
    """Of one photo beside it."""
    write_photo(path.with_name("portrait.jpg"))
    path.write_text("portrait.jpg\n")


def write_people(path):
    for person in "AB":
        (path / person).mkdir(parents=True)
        (path / person / f"{person}_0001.jpg").touch()


def write_own_network(path):
    """As the docstring of ``load_user_file`` has it, and what it says lies beside it."""
    *lines, _ = doctest.DocTestParser().get_examples(models.load_user_file.__doc__)
    path.write_text("".join(line.source for line in lines))
    path.with_name("iresnet.py").write_text(
        "from tests.support.at_hand import own_network as iresnet50"
    )
    torch.save(own_network().state_dict(), path.with_name("my_network.pt"))


def write_scored(path):
    """The result of a run over two crops."""
    from captum_plq.gallery import ScoreSettings, score_gallery

    Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    crops = path.with_name("crops")
    crops.mkdir()
    for i, chip in enumerate(photos(2)):
        Image.fromarray(chip).save(crops / f"{i}.png")
    score_gallery(crops, path, ScoreSettings(aligned=True, estimator="closed-form", workers=0))


def write_onnx(path):
    from tests.support.onnx_graphs import exported

    exported(path, own_network(), 13, size=(112, 112))


HUB = "gaunernst/vit_tiny_patch8_112.arcface_ms1mv3"


def checkpoint(shapes, prefix=""):
    """Weights of these names and shapes, which share their numbers so that the file is small."""

    def write(path):
        generator = torch.Generator().manual_seed(0)
        numbers = 0.001 + 0.01 * torch.rand(
            max(map(math.prod, shapes.values())), generator=generator
        )
        numbers, one = numbers.half(), torch.tensor(1)
        state = {
            prefix + key: one
            if key.endswith("tracked")
            else numbers[: math.prod(shape)].view(shape)
            for key, shape in shapes.items()
        }
        torch.save({"state_dict": state} if prefix else state, path)

    return write


def state_of(make):
    return lambda path: torch.save(make().state_dict(), path)


FACENET_FILE = checkpoint({**published.facenet_shapes(), **published.CLASSIFIER})
FILES = {
    "portrait.jpg": write_photo,
    "photo.jpg": write_photo,
    "photos.txt": write_list,
    "scored": write_scored,
    "lfw": write_people,
    "mine.npz": lambda path: shipped_calibration("mobilefacenet-dropout").save(path),
    "my_network.py": write_own_network,
    "w600k_r50.onnx": write_onnx,
    f"hf_hub:{HUB}": lambda path: fill_cache(path, HUB, VIT),
    "mine.pt": state_of(lambda: models.timm_model("convnext_atto").backbone),
    "model_mobilefacenet.pth": state_of(lambda: models.mobilefacenet("treb1en")),
    "edgeface_s_gamma_05.pt": state_of(lambda: models.edgeface("edgeface_s_gamma_05")),
    "backbone.pth": checkpoint(published.iresnet_shapes(50)),
    "32572backbone.pth": checkpoint(published.crfiqa_shapes(50)),
    "adaface_ir50_ms1mv2.ckpt": checkpoint(published.adaface_shapes(50), "model."),
    "magface_epoch_00025.pth": checkpoint(published.iresnet_shapes(100), "features.module."),
    "20180402-114759-vggface2.pt": FACENET_FILE,
    "vggface2.pt": FACENET_FILE,
}
