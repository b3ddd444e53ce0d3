"""Error versus discard: areas by hand, what knows the errors wins; and the command."""

import json
import re

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.protocols.edc import EDC
from benchmarks.protocols.parts import discard_areas
from benchmarks.protocols.parts.discard_areas import FLOOR, discarded
from benchmarks.protocols.parts.face_scores import FaceScores, sharpness
from captum_plq import SpatialSERFIQ
from captum_plq.metrics import error_versus_discard, partial_area
from captum_plq.network.spatial.map import SpatialTailError
from captum_plq.quality.scores import SCORES
from tests.conftest import small_face_net
from tests.support.face_network import NETWORK, write_pairs


def test_areas_of_a_hand_computed_example():
    """Ten pairs, two of them errors; the quality finds one error first and the other third."""
    scores = torch.tensor([0.1, 0.2, *[0.9] * 8])
    quality = torch.tensor([1.0, 3.0, 2.0, *map(float, range(4, 11))])
    high = torch.full((10,), 99.0)
    found = discarded(scores, {"q": (quality, high)}, list("abcdefghij"), 0.5, against="q")
    assert found["starting_error"] == pytest.approx(0.2)
    # errors of what is left: 2/10 up to .1, then 1/9, 1/8, then none
    area = 0.1 * (2 / 10 + 1 / 9)
    assert found["areas"]["q"]["0.2"]["area"][0] == pytest.approx(area / (0.2 * 0.2), abs=1e-4)
    area += 0.1 / 8
    assert found["areas"]["q"]["0.3"]["area"][0] == pytest.approx(area / (0.3 * 0.2), abs=1e-4)
    floor = 0.1 * (2 / 10 + 1 / 9) / (0.3 * 0.2)
    assert found["areas"][FLOOR]["0.3"]["area"][0] == pytest.approx(floor, abs=1e-4)
    discard, errors = found["curves"]["q"]
    assert discard[:4] == [0, 0.1, 0.2, 0.3]
    np.testing.assert_allclose(errors[:4], [0.2, 1 / 9, 1 / 8, 0], atol=1e-4)


def test_areas_of_resamples_are_those_of_their_pairs():
    """All at once, against the curve of each resample by itself; qualities with ties."""
    generator = np.random.default_rng(2)
    scores = torch.from_numpy(generator.random(40))
    quality = torch.from_numpy(generator.integers(0, 8, (2, 40)).astype(float))
    people = np.array([str(i // 2) for i in range(40)])
    times = discard_areas._times_drawn(scores, people, 0.3, 0)
    lowest = torch.minimum(*quality).numpy()
    found = discard_areas._relative_areas(lowest, scores.numpy() < 0.3, times)
    assert found.shape == (1001, 2)
    for own, drawn in zip(found[:60], times[:60].astype(int), strict=True):
        rows = np.repeat(np.arange(40), drawn)
        assert all(len(set(drawn[people == person])) == 1 for person in people)
        curve = error_versus_discard(scores[rows], quality[0][rows], quality[1][rows], 0.3)
        slow = [partial_area(curve, x) / (x * curve.starting_error) for x in (0.2, 0.3)]
        np.testing.assert_allclose(own, slow, rtol=1e-12)


def test_who_knows_the_errors_wins_and_chance_is_chance():
    """300 pairs of 100 people; one quality knows the scores roughly, one is its inverse."""
    generator = np.random.default_rng(0)
    scores = torch.from_numpy(generator.random(300))
    noisy = scores + 0.1 * torch.from_numpy(generator.standard_normal(300))
    chance = tuple(torch.from_numpy(generator.random((2, 300))))
    qualities = {"good": (noisy, noisy + 1), "bad": (-noisy, -noisy + 1), "chance": chance}
    people = [str(i // 3) for i in range(300)]
    areas = discarded(scores, qualities, people, 0.1, against="good")["areas"]
    for limit in ("0.2", "0.3"):
        value = {name: cell[limit]["area"] for name, cell in areas.items()}
        assert value[FLOOR][0] <= value["good"][0] < value["chance"][0] < value["bad"][0]
        assert value["chance"][1] < 1 < value["chance"][2]
        assert value["good"][2] < 1 < value["bad"][1]
        assert areas["bad"][limit]["p_holm"] < 0.01 < areas["chance"][limit]["p_holm"] * 10
        assert "difference" not in areas["good"][limit]


def test_the_interval_is_of_people_not_of_pairs():
    """With every pair ten times over by the same person, nothing is known better."""
    generator = np.random.default_rng(1)
    scores, quality = torch.from_numpy(generator.random((2, 60)))
    people = [str(i) for i in range(60)]
    once = discarded(scores, {"q": (quality, quality)}, people, 0.3, against="q")
    ten = quality.repeat(10)
    often = discarded(scores.repeat(10), {"q": (ten, ten)}, people * 10, 0.3, against="q")
    low, high = once["areas"]["q"]["0.3"]["area"][1:]
    low_often, high_often = often["areas"]["q"]["0.3"]["area"][1:]
    assert high_often - low_often == pytest.approx(high - low, rel=0.15)


def test_without_errors_there_is_no_area():
    one = torch.ones(5)
    found = discarded(one, {"q": (one, one)}, list("abcde"), 0.5, against="q")
    assert found["areas"] is None
    assert found["starting_error"] == 0


def test_sharpness_of_a_checkerboard_of_a_ramp_and_of_nothing():
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(3, 3)
    ramp = torch.arange(6.0).expand(6, 6)
    images = torch.stack([board, ramp, torch.ones(6, 6)])[:, None].repeat(1, 3, 1, 1)
    # each inner pixel of the board has four other neighbours: ±4, half of each over 16 pixels
    torch.testing.assert_close(sharpness(images)[0], torch.tensor(16.0 * 16 / 15).double())
    assert sharpness(images)[1:].tolist() == [0, 0]


def test_the_command(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK.replace("nn.ReLU()", "nn.BatchNorm2d(4)"))
    faces, pairs = write_pairs(tmp_path, 12, 112)
    (faces / "p11" / "2.png").write_bytes(b"no image")
    command = (
        f"edc --model {tmp_path / 'net.py'} --images {faces} --pairs {pairs} "
        f"--fmr 0.5,0.1,0.05 --threads 1 --batch 5 -o {tmp_path}"
    ).split()
    assert main(command) == 0
    record = json.loads((tmp_path / "edc-mine.json").read_text("utf-8"))
    assert list(record["left_out"]) == ["p11/2.png"]
    assert (record["faces"], record["non_mated_pairs"]) == (23, 23 * 22 // 2 - 11)
    assert set(record["failed"]) == {"native", "vitnt-style", "attn-fiqa-style"}
    assert set(record["forwards"]) == set(SCORES) - set(record["failed"])
    assert all(cost > 0 for cost in record["forwards"].values())
    assert [at["fmr"] for at in record["at"]] == [0.5, 0.1, 0.05]
    low, middle, high = record["at"]
    assert low["threshold"] < middle["threshold"] < high["threshold"]
    for at in record["at"]:
        one, other = at["sets"].values()
        for found in (one, other):
            assert (found["pairs"], found["people"]) == (22, 11)
            assert found["starting_error"] > 0  # of noise, on an untrained network
            assert set(found["areas"]) == set(EDC.words()[2]) - set(record["failed"])
            assert ("curves" in found) is (at is middle)
        assert one["areas"] != other["areas"]
        assert at["against"] == "serfiq-closed-form"
    page = (tmp_path / "edc.md").read_text("utf-8")
    assert "### One degraded, FMR 0.05" in page
    assert "| *random* | " in page
    assert "- `native` failed here: Nothing says which part" in page
    assert (tmp_path / "edc.png").stat().st_size > 5000
    assert main([*command, "--fmr", "0.0001"]) == 2


def measured(tmp_path, faces, pairs, **given):
    (tmp_path / "net.py").write_text(NETWORK)
    given = {"fmr": (0.5,), "scores": ("serfiq-closed-form",), **given}
    protocol = EDC(model=(), images=faces, pairs=pairs, **given)
    ((_, record),) = protocol.measure(str(tmp_path / "net.py"))
    return record, EDC.page([record])


def test_a_list_in_the_layout_of_lfw_gives_what_the_csv_gives(tmp_path):
    faces, pairs = write_pairs(tmp_path, 4, 112)
    for image in list(faces.rglob("*.png")):
        person = image.parent.name
        image.rename(image.with_name(f"{person}_000{image.stem}.jpg"))
    pairs.write_text(re.sub(r"(p\d)/(\d)\.png", r"\1/\1_000\2.jpg", pairs.read_text()))
    of_lfw = [f"p{i} 1 2" for i in range(4)] + [f"p{i} 1 p{(i + 1) % 4} 2" for i in range(4)]
    (tmp_path / "pairs.txt").write_text("\n".join(["2 4", *of_lfw, *of_lfw]))
    ours, page = measured(tmp_path, faces, pairs)
    theirs, _ = measured(tmp_path, faces, tmp_path / "pairs.txt")
    assert (ours["faces"], ours["left_out"], ours["non_mated_pairs"]) == (8, {}, 24)
    assert ours["at"] == theirs["at"]
    assert "does not tell people" not in page


def test_templates(tmp_path):
    """Two images of each person are a template's two media; one image is missing."""
    faces, _ = write_pairs(tmp_path, 6, 112)
    meta = tmp_path / "meta"
    meta.mkdir()
    images = "".join(f"p{i}/{k}.png {i} {k}\n" for i in range(6) for k in (1, 2))
    (meta / "ijbc_face_tid_mid.txt").write_text(images)
    pairs = ["0 1 1", "2 3 1", "4 5 1", "0 2 0", "1 3 0", "2 5 0", "1 4 0", "3 4 0", "0 5 0"]
    (meta / "ijbc_template_pair_label.txt").write_text("\n".join(pairs))
    (faces / "p0" / "1.png").unlink()
    record, page = measured(tmp_path, faces, meta)
    assert (record["faces"], record["templates"], record["non_mated_pairs"]) == (11, 6, 6)
    assert list(record["left_out"]) == ["p0/1.png"]
    assert record["at"][0]["sets"]["as they are"]["people"] == 3
    assert "6 templates; embedding and quality" in page
    assert "The list does not tell people" in page
    (faces / "p0" / "2.png").unlink()
    record, _ = measured(tmp_path, faces, meta)
    found = record["at"][0]["sets"]["as they are"]
    assert (record["templates"], found["pairs"], record["non_mated_pairs"]) == (5, 2, 4)


def test_a_drawn_part_of_a_list_is_said_on_the_page(tmp_path):
    faces, pairs = write_pairs(tmp_path, 6, 112)
    record, page = measured(tmp_path, faces, pairs, pairs_limit=3)
    assert record["at"][0]["sets"]["as they are"]["pairs"] == 3
    assert "At most 3 mated pairs, drawn." in page


def test_no_image_at_all_is_told(tmp_path):
    _, pairs = write_pairs(tmp_path, 3, 112)
    with pytest.raises(ValueError, match="None of the 6 images"):
        measured(tmp_path, tmp_path, pairs)


def test_all_scores_are_documented_on_the_page(monkeypatch):
    monkeypatch.setitem(SCORES, "new", "prefiqs:PreFIQsStyle")
    meanings = EDC.words()[2]
    assert set(SCORES) < set(meanings)
    assert meanings["new"].startswith("Minus the distance")


def test_a_network_without_a_closed_form_has_the_other_qualities(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK.replace("8)\n", "8), nn.PReLU()\n"))
    faces, pairs = write_pairs(tmp_path, 3, 112)
    protocol = EDC(
        model=(), images=faces, pairs=pairs, fmr=(0.5,), scores=("serfiq", "serfiq-closed-form")
    )
    ((_, record),) = protocol.measure(str(tmp_path / "net.py"))
    assert "PReLU" in record["failed"]["serfiq-closed-form"]
    (at,) = record["at"]
    assert set(at["sets"]["as they are"]["curves"]) == {"serfiq", "sharpness", "random", FLOOR}
    assert at["against"] == "random"
    assert "- `serfiq-closed-form` failed here" in EDC.page([record])


def test_a_network_without_a_spatial_tail_has_the_other_qualities(tmp_path, monkeypatch):
    def refused(self, *inputs):
        raise SpatialTailError("no spatial map")

    monkeypatch.setattr(SpatialSERFIQ, "forward", refused)
    (tmp_path / "net.py").write_text(NETWORK)
    faces, pairs = write_pairs(tmp_path, 3, 112)
    scores = ("serfiq-closed-form", "serfiq-spatial")
    protocol = EDC(model=(), images=faces, pairs=pairs, fmr=(0.5,), scores=scores)
    ((_, record),) = protocol.measure(str(tmp_path / "net.py"))
    assert record["failed"] == {"serfiq-spatial": "no spatial map"}
    assert "serfiq-spatial" not in record["at"][0]["sets"]["as they are"]["areas"]


def test_scores_are_those_of_the_images_whatever_the_batch():
    net, names = small_face_net(), list("abcdefg")
    images = 255 * torch.rand(7, 3, 20, 20, generator=torch.Generator().manual_seed(0)).double()
    scores = ("embedding-norm", "grafiqs-style", "prefiqs-style")
    together = FaceScores(net, scores, 0).of(names, images)
    alone = [
        FaceScores(net, scores, 0).of([n], x[None]) for n, x in zip(names, images, strict=True)
    ]
    for key, values in together.items():
        torch.testing.assert_close(torch.cat([x[key] for x in alone]), values)
