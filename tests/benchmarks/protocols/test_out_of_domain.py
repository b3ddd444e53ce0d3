"""Faces that do not fit the reference: what is done to them, and the rows."""

import pytest
import torch
from torch import nn

from benchmarks.protocols.out_of_domain import FACES, REFERENCES, OutOfDomain, moved
from benchmarks.subjects.maps import MAPS
from captum_plq.models import FaceModel, ModelSpec
from tests.support.face_network import study_context

RAMP = torch.arange(112.0).expand(1, 3, 112, 112).contiguous()  # the column's number


def test_moved_larger_and_turned_about_the_middle():
    across, along = moved(RAMP, right=4), moved(RAMP.transpose(2, 3), down=4)
    assert torch.equal(across[..., 10:-10], RAMP[..., 6:-14])
    assert torch.equal(along.transpose(2, 3), across)
    assert torch.equal(moved(RAMP), RAMP)
    larger = moved(RAMP, zoom=2.0)[0, 0, 56]
    assert larger[56] == pytest.approx(55.75, abs=0.6)
    assert (larger[80] - larger[60]).item() == pytest.approx(10, abs=1.1)
    turned = torch.rot90(RAMP[0, 0])  # counter-clockwise
    assert (moved(RAMP, degrees=90)[0, 0] - turned)[5:-5, 5:-5].abs().max() <= 1


@pytest.mark.parametrize("name", [*FACES, *REFERENCES])
def test_every_change_keeps_whole_numbers_and_changes_what_it_gets(name):
    images = torch.randint(0, 256, (12, 3, 112, 112)).float()
    changed = {**FACES, **REFERENCES}[name](images)
    assert changed.shape[1:] == images.shape[1:]
    assert torch.equal(changed, changed.round().clamp(0, 255))
    assert torch.equal(changed, images) == (name in ("as it is", "reference of 30"))


def test_rows_are_of_every_condition_and_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, 4), nn.PReLU(), nn.Flatten(), nn.Linear(4 * 27**2, 16)
    )
    spec = ModelSpec("small", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3)
    model, images = FaceModel(network, spec).eval(), torch.randint(0, 256, (4, 3, 112, 112)).float()

    def rows(*batches):
        methods = [MAPS["plq"], MAPS["plq-relative"]]
        context = study_context(model, methods, images, images.flip(-2), passes=20, batch=4)
        own = OutOfDomain(model=("m",))
        found = [r for batch in batches for r in own.rows(context, images[batch], "abcd"[batch])]
        assert not context.failed
        return {(r["image"], r["method"], r["condition"]): r for r in found}

    whole, parts = rows(slice(0, 4)), rows(slice(0, 1), slice(1, 4))
    assert len(whole) == 4 * 2 * len([*FACES, *REFERENCES])
    assert {row["fill"] for row in whole.values()} == {"black", "mean", "noise"}
    for key, row in whole.items():
        assert row["auroc_gain"] == pytest.approx(row["auroc"] - row["auroc_clean"])
        assert parts[key]["auroc"] == pytest.approx(row["auroc"], abs=1e-3)
    plain, relative = (whole["a", m, "reference 4 px aside"] for m in ("plq", "plq-relative"))
    assert plain["auroc"] == whole["a", "plq", "as it is"]["auroc"]
    assert relative["auroc"] != whole["a", "plq-relative", "as it is"]["auroc"]
