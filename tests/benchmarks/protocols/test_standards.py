"""Violations of the photo standards: rows of a network of known behaviour."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.protocols.parts.mask_scores import auroc
from benchmarks.protocols.standards import SEVERITIES, Standards, violate
from benchmarks.subjects.faces import sample_image
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from captum_plq.models import ModelSpec
from tests.support.face_network import planted_context

pytest.importorskip("PIL", reason="needs Pillow")
SPEC = ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3, alignment="arcface")


@pytest.fixture
def image():
    return sample_image(SPEC, torch.zeros(1))[None]


@pytest.mark.parametrize("kind", NONCOMPLIANCES)
def test_every_kind_changes_the_face_more_the_severer_it_is(image, kind):
    far = [0.0]
    for severity in SEVERITIES:
        changed, mask = violate(image, SPEC, kind, severity)
        assert changed.shape == image.shape
        assert (mask is not None) == (kind in ("headgear", "glasses", "mask"))
        if mask is not None:
            outside = ~mask[:, None].expand_as(image)
            assert torch.equal(changed[outside], image[outside])
        far.append(float((changed - image).abs().mean()))
    assert far == sorted(set(far))


def test_rows_of_a_known_network(image):
    """Q is the mean brightness, the map too: both fall as told by the images themselves."""
    context = planted_context(
        lambda images: {"brightness": images.mean(1)},
        lambda images: images.mean((1, 2, 3)),
        model=SimpleNamespace(spec=SPEC),
        pixel_qualities=lambda _, maps: maps / 255,
    )
    rows = Standards(model=("m",), kinds=("low light", "mask")).rows(context, image, ["one"])
    assert len(rows) == 6
    for row in rows:
        changed, mask = violate(image, SPEC, row["kind"], row["severity"])
        lost = float((image - changed).mean())
        assert row["quality_change"] == pytest.approx(lost, abs=1e-3)
        assert row["pixel_change"] == pytest.approx(lost / 255, abs=1e-5)
        if mask is None:
            assert "auroc" not in row
        else:
            assert row["auroc"] == auroc(changed.mean(1), mask)
            assert row["auroc_clean"] == auroc(image.mean(1), mask)
