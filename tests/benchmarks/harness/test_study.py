"""A run that was killed goes on, and ends in the rows of one that was not."""

import pytest
import torch
from torch import nn

from benchmarks.harness.resume import run_rows
from benchmarks.subjects.maps import relative, select_maps
from benchmarks.subjects.methods import Method, check_maps, on_random_weights
from captum_plq.models import FaceModel, ModelSpec
from tests.support.face_network import study_context


class Means:
    """The mean of every map, and dies before a chosen batch."""

    def __init__(self, dies=None, number=None):
        self.dies, self.number, self.calls = dies, number, 0

    def rows(self, context, images, names):
        if self.calls == self.dies:
            raise KeyboardInterrupt
        self.calls += 1
        return [
            {"image": name, "method": method, "mean": self.number or float(row)}
            for method, maps in context.maps(images).items()
            for name, row in zip(names, maps.mean((1, 2)), strict=True)
        ]


def fails_on_the_second(subject):
    calls = iter([None, None])  # the first is for γ

    def explain(images):
        if next(calls, images) is not None:
            raise LookupError("no more\nof this")
        return images.mean(1)

    return explain


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(100, 8)
    )
    spec = ModelSpec("small", (12, 12), mean=(127.5,) * 3, std=(127.5,) * 3)
    model = FaceModel(network, spec).eval()
    images = torch.randint(0, 256, (7, 3, 12, 12)).float()

    def go(protocol, path=tmp_path / "raw.jsonl", extra=(), scale=1.0, null_faces=None):
        methods = [*select_maps(["plq", "random"]), *extra]
        context = study_context(model, methods, images[:5], images[5:], batch=2)
        header = {"settings": {"scale": scale}}
        return run_rows(protocol.rows, context, header, path, 2, null_faces)

    return go


@pytest.mark.parametrize("torn", [b"", b'{"batch": 2, "failed": {}, "ro'])
def test_a_killed_run_goes_on(run, tmp_path, torn):
    whole = run(Means(), tmp_path / "whole.jsonl")
    order = [(row["image"], row["method"]) for row in whole.rows[:4]]
    assert order == [("a", "plq"), ("b", "plq"), ("a", "random"), ("b", "random")]
    assert (len(whole.rows), whole.failed, len(whole.sessions)) == (10, {}, 1)
    with pytest.raises(KeyboardInterrupt):
        run(Means(dies=2))
    with (tmp_path / "raw.jsonl").open("ab") as file:
        file.write(torn)
    rest, again = Means(), Means()
    resumed = run(rest)
    assert (rest.calls, len(resumed.sessions)) == (1, 2)
    assert resumed.rows == run(again).rows == whole.rows
    assert again.calls == 0


def test_other_settings_and_damaged_files_are_refused(run, tmp_path):
    run(Means())
    with pytest.raises(ValueError, match=r"settings scale is 1\.0 there and 2\.0 here"):
        run(Means(), scale=2.0)
    (tmp_path / "raw.jsonl").write_text("nonsense\n")
    with pytest.raises(ValueError, match="damaged"):
        run(Means())


def test_a_method_that_fails_midway_keeps_no_rows(run):
    bad = Method("bad", "other", fails_on_the_second)
    study = run(Means(), extra=[bad])
    assert study.failed == {"bad": "LookupError: no more"}
    assert {r["method"] for r in study.rows} == {"plq", "random"}
    assert run(Means(), extra=[bad]).failed == study.failed


CONSTANT = (lambda images: torch.full_like(images[:, 0], 0.3), "2 of 2 maps have one value")
NAN = (lambda images: images[:, 0] * torch.nan, "NaN or infinite")


@pytest.mark.parametrize(("maps", "reason"), [CONSTANT, NAN])
@pytest.mark.parametrize("as_it_is", [True, False])
def test_a_map_that_tells_nothing_is_no_result(run, maps, reason, as_it_is):
    build = (lambda subject: maps) if as_it_is else relative(lambda subject: maps)
    study = run(Means(), extra=[Method("void", "other", build, bounded=True)])
    assert reason in study.failed["void"]
    assert {r["method"] for r in study.rows} == {"plq", "random"}


def test_one_value_scaled_up_is_constant():
    one = torch.rand(64, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    scaled = torch.nn.functional.interpolate(one, (112, 112), mode="bilinear")[:, 0]
    with pytest.raises(ValueError, match="constant: 64 of 64"):
        check_maps(scaled, (64, 112, 112))
    scaled[:, 3, 4] *= 1.001
    assert check_maps(scaled, (64, 112, 112)) is scaled


def test_a_number_that_does_not_exist_is_none_and_a_curve_of_it_an_error(run, tmp_path):
    found = run(Means(number=float("nan")))
    assert {row["mean"] for row in found.rows} == {None}
    with pytest.raises(ValueError, match="plq on a gave NaN or infinity in mean"):
        run(Means(number=[1.0, float("inf")]), tmp_path / "curve.jsonl")


def test_several_random_networks_on_the_first_faces(run, tmp_path):
    plq = select_maps(["plq"])[0]
    nulls = [on_random_weights(plq, number) for number in range(2)]
    study = run(Means(), extra=nulls, null_faces=3)
    found = {(row["image"], row["method"], row.get("network")): row["mean"] for row in study.rows}
    null = "plq (random weights)"
    assert {key[0] for key in found if key[1] == "plq"} == set("abcde")
    assert {key[0] for key in found if key[1] == null} == set("abcd"), "whole batches of two"
    assert {key[2] for key in found if key[1] == null} == {0, 1}
    assert len({found["a", "plq", None], *(found["a", null, number] for number in (0, 1))}) == 3
    assert run(Means(), extra=nulls, null_faces=3).rows == study.rows
