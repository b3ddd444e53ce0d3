"""Training the shipped network: data, start, loss, and that a run can be interrupted."""

import copy
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.training import data
from benchmarks.training.augment import augment
from benchmarks.training.data import as_batch, teach
from benchmarks.training.student import new_student
from benchmarks.training.train import (
    Faces,
    place_surprise,
    read_config,
    train,
    variance_under_dropout,
)
from captum_plq.models import FaceModel
from captum_plq.models.architectures.dropout_mobilefacenet import new_dropout_mobilefacenet
from captum_plq.models.architectures.mobilefacenet import MOBILEFACENET_SPECS, mobilefacenet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chips():
    """Smooth random images: blobs of colour."""
    coarse = np.random.default_rng(0).integers(256, size=(24, 14, 14, 3), dtype=np.uint8)
    resized = [Image.fromarray(x).resize((112, 112), Image.Resampling.BICUBIC) for x in coarse]
    return np.stack([np.array(x) for x in resized])


@pytest.fixture(scope="module")
def teacher(chips):
    """A MobileFaceNet whose BatchNorms fit its random weights."""
    torch.manual_seed(0)
    model = FaceModel(mobilefacenet("foamliu"), MOBILEFACENET_SPECS["foamliu"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(as_batch(chips))
    return model.eval()


@pytest.fixture(scope="module")
def started(teacher, chips):
    return new_student(teacher, chips, CPU)


@pytest.mark.parametrize("change", [{"epoch": 3}, {"seed": None}])
def test_a_wrong_configuration_is_refused(tmp_path, change):
    record = {**asdict(read_config()), **change}
    record = {key: value for key, value in record.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"{next(iter(change))}"):
        read_config(tmp_path / "config.json")


def test_no_person_is_in_two_parts(tmp_path):
    def split(rows, folds, share):
        lines = ["fold,first,second,mated", *(",".join(map(str, row)) for row in rows)]
        (tmp_path / "pairs.csv").write_text("\n".join(lines))
        return data.split_people(tmp_path / "pairs.csv", folds, share, seed=1)

    rows = [(1 + i % 4, f"p{i}/1.jpg", f"p{i}/2.jpg", 1) for i in range(40)]
    rows += [(1 + i % 4, f"p{i}/1.jpg", f"p{(i + 4) % 40}/3.jpg", 0) for i in range(40)]
    found = split(rows, ["1", "2"], 0.25)
    parts = (found.train, found.validation, found.test)
    people = [{name.split("/")[0] for name in part} for part in parts]
    assert [len(part) for part in people] == [15, 5, 20]
    assert len(set.union(*people)) == 40
    assert sum(map(len, parts)) == 120
    assert len(data.first_of_each(found.test)) == 20
    for folds in (["1", "2", "3", "4"], ["5"]):
        with pytest.raises(ValueError, match="must be some of"):
            split(rows, folds, 0.1)
    shared = [(1, "a/1.jpg", "a/2.jpg", 1), (2, "a/1.jpg", "b/1.jpg", 0)]
    with pytest.raises(ValueError, match="1 people are in training folds and in others"):
        split(shared, ["1"], 0.1)


def test_augmentation_is_drawn_from_its_generator_alone(chips):
    before, original = torch.get_rng_state(), chips[:2].copy()
    many = [augment(chips[0], chips[1], np.random.default_rng(i), 1.0)[1] for i in (*range(60), 7)]
    np.testing.assert_array_equal(many[7], many.pop())
    np.testing.assert_array_equal(chips[:2], original)
    assert torch.equal(torch.get_rng_state(), before)
    assert {(x.shape, x.dtype) for x in many} == {((112, 112, 3), np.dtype(np.uint8))}
    assert len({x.tobytes() for x in many}) == 60
    faces = data.AugmentedFaces(chips, torch.zeros(len(chips), 4), seed=1, degraded_share=1.0)
    image = faces[3][0]
    assert torch.equal(faces[3][0], image)
    faces.epoch = 1
    assert not torch.equal(faces[3][0], image)


def test_patches_cover_a_small_part_and_leave_the_rest_alone(chips):
    for seed in range(30):
        clean, patched = augment(chips[0], chips[1], np.random.default_rng(seed), 0.0, 1.0)
        rows, columns = np.nonzero((clean != patched).any(2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert max(height, width) <= 0.4 * 112 + 1
        assert len(rows) > 0.5 * height * width
    without = augment(chips[0], chips[1], np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(*without)


def test_the_target_is_the_mean_of_both_mirror_images_at_length_root_d(teacher, chips):
    image = as_batch(chips[:2])
    with torch.no_grad():
        both = F.normalize(teacher(image)) + F.normalize(teacher(image.flip(3)))
    targets = teach(teacher, chips[:2], CPU)
    torch.testing.assert_close(targets, F.normalize(both) * 128**0.5, rtol=1e-4, atol=1e-4)


def test_the_start_is_near_the_teacher_and_with_a_wide_neck_the_teacher(started, teacher, chips):
    """512 channels of 512: the closed form must then lose nothing, on images it never saw."""
    wide, images = new_student(teacher, chips[:16], CPU, neck_channels=512), as_batch(chips)
    with torch.no_grad():
        ours, same, theirs = started(images), wide(images[16:]), teacher(images)
    assert F.cosine_similarity(ours, theirs).mean() > 0.85
    assert ours.square().mean().sqrt() == pytest.approx(1, abs=0.1)
    theirs = theirs[16:]
    scale = (same * theirs).sum() / (theirs * theirs).sum()
    torch.testing.assert_close(same, theirs * scale, rtol=1e-2, atol=2e-2)
    other = FaceModel(mobilefacenet("treb1en").eval(), MOBILEFACENET_SPECS["treb1en"])
    with pytest.raises(ValueError, match="not those of the student"):
        new_student(other, chips[:2], CPU)


def test_variance_under_dropout_is_that_of_many_passes():
    torch.manual_seed(0)
    network = new_dropout_mobilefacenet()
    norm = network.get_submodule("bn2")
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    network.eval().get_submodule("dropout").train()
    features = torch.randn(2, network.get_submodule("fc").in_features)
    with torch.no_grad():
        head = network[-3:]  # dropout, linear layer, BatchNorm
        expected = torch.stack([head(features) for _ in range(1000)]).var(0).mean(1)
        found = variance_under_dropout(network, features)
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)


def test_an_interrupted_run_goes_on_to_the_same_network(teacher, started, chips, tmp_path):
    config = replace(read_config(), epochs=2, head_epochs=1, batch=2)
    faces = [Faces(x, teach(teacher, x, CPU)) for x in (chips[:4], chips[8:10])]
    before = torch.get_rng_state()

    def run(name, config=config, stop_after="nothing"):
        student, folder = copy.deepcopy(started), tmp_path / name
        folder.mkdir(exist_ok=True)

        def progress(line):
            if line.startswith(stop_after):
                raise KeyboardInterrupt

        return student, train(student, *faces, config, folder, device=CPU, progress=progress)

    whole, history = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop_after="epoch 1,")
    with pytest.raises(ValueError, match="another configuration"):
        run("parts", replace(config, batch=4))
    parts, again = run("parts")
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-4, atol=1e-5)
    assert [x["loss"] for x in again] == pytest.approx([x["loss"] for x in history], rel=1e-4)
    assert not whole.training
    assert json.loads((tmp_path / "whole" / "history.json").read_text()) == history


def test_the_third_part_compares_where_noise_and_change_lie(started, chips):
    """With one place changed: loss against a loop over places, and what a step on it does."""
    network = started.backbone
    clean = torch.rand(2, 128 * 49, generator=torch.Generator().manual_seed(0))
    features = clean.view(2, 128, 49).clone()
    features[:, :, 10] += 2.0
    features = features.flatten(1).requires_grad_()
    scale = network.bn2.weight / (network.bn2.running_var + network.bn2.eps).sqrt()
    columns = (network.fc.weight * scale[:, None]).view(128, 128, 49).detach()
    logs = []
    for image, before in zip(features.detach(), clean, strict=True):
        noise, expected = [], []
        for place in range(49):
            j = columns[:, :, place]
            x, old = image.view(128, 49)[:, place], before.view(128, 49)[:, place]
            noise.append((j * x).square().sum() / 128)
            expected.append((j * old).square().sum() / 128 + (j @ (x - old)).square().sum() / 128)
        shares = [torch.stack(x) / sum(x) + 1e-4 for x in (noise, expected)]
        logs.append((shares[0].log() - shares[1].log()).square())
    loss = place_surprise(network, features, clean)
    torch.testing.assert_close(loss, torch.stack(logs).mean(), rtol=1e-4, atol=0)
    assert place_surprise(network, clean, clean) == 0
    assert features.grad is None
    loss.backward()
    step = (features - 20.0 * features.grad).detach()
    assert place_surprise(network, step, clean) < loss
