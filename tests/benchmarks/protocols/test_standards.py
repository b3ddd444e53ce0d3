"""Violations of the photo standards: rows of a network of known behaviour."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.protocols.standards import SEVERITIES, Standards, violate
from benchmarks.subjects.faces import sample_image
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from captum_plq.models import ModelSpec

pytest.importorskip("PIL", reason="needs Pillow")
SPEC = ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3, alignment="arcface")


@pytest.fixture
def image():
    return sample_image(SPEC, torch.zeros(1))[None]


def test_every_kind_changes_the_face_more_the_severer_it_is(image):
    for kind in NONCOMPLIANCES:
        far = []
        for severity in SEVERITIES:
            changed, mask = violate(image, SPEC, kind, severity)
            assert changed.shape == image.shape
            assert (mask is not None) == (kind in ("headgear", "glasses", "mask")), kind
            if mask is not None:
                outside = ~mask[:, None].expand_as(image)
                assert torch.equal(changed[outside], image[outside]), kind
            far.append(float((changed - image).abs().mean()))
        assert 0 < far[0] < far[1] < far[2], kind


def test_rows_of_a_known_network(image):
    """Q is the mean brightness, the map too: both fall as told by the images themselves."""
    subject = SimpleNamespace(quality=lambda images: images.mean((1, 2, 3)))
    context = SimpleNamespace(
        model=SimpleNamespace(spec=SPEC),
        subject=subject,
        network_for=lambda _: subject,
        methods=[SimpleNamespace(name="brightness")],
        maps=lambda images: {"brightness": images.mean(1)},
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
            continue
        for key, shown in (("auroc", changed), ("auroc_clean", image)):
            scores, inside = shown.mean(1).numpy(), mask.numpy()
            low, high = scores[inside], scores[~inside]
            wins = (low[:, None] < high).mean() + (low[:, None] == high).mean() / 2
            assert row[key] == pytest.approx(float(wins), abs=1e-6)
