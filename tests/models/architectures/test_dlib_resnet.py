"""The torch network against dlib itself, and what its loader does with wrong files."""

import dlib
import numpy as np
import pytest
import torch

from captum_plq.models.architectures.dlib_resnet import dlib_resnet
from captum_plq.models.weight_files.dlib import find_dlib_weights

WEIGHTS = find_dlib_weights()


@pytest.fixture(scope="module")
def model():
    return dlib_resnet()


def test_equals_dlib_on_real_chips_in_any_batch(model, dlib_chips):
    network = dlib.face_recognition_model_v1(str(WEIGHTS))
    chips = torch.cat([dlib_chips, dlib_chips.flip(2)[:2]])  # and upside down
    with torch.no_grad():
        embeddings, apart = model(chips), torch.cat([model(chip[None]) for chip in chips])
    torch.testing.assert_close(embeddings, apart, atol=2e-6, rtol=0)
    arrays = np.ascontiguousarray(chips.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    expected = np.array([network.compute_face_descriptor(array) for array in arrays])
    assert np.abs(embeddings.numpy() - expected).max() <= 2e-6


def test_the_last_three_rows_and_columns_are_never_read(model, dlib_chips):
    images = dlib_chips[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).abs().sum(), images)
    read = torch.zeros(150, 150, dtype=torch.bool)
    read[:147, :147] = True
    assert torch.equal((gradient[0] != 0).any(0), read)


def first(data, tag):
    return data.index(bytes([1, len(tag)]) + tag)


def cut(tag, offset):
    return lambda data: data[: first(data, tag) + offset]


def edited(tag, offset, new):
    """Puts other bytes in the place of as many, ``offset`` bytes after a layer's tag."""

    def edit(data):
        at = first(data, tag) + offset
        return data[:at] + new + data[at + len(new) :]

    return edit


def another(name):
    return lambda _: WEIGHTS.with_name(name).read_bytes()


STRIDE = b"\x01\x20\x01\x07\x01\x07\x01\x02\x01\x02"  # 32 filters, 7×7, stride 2×2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: b"", "there is no layer 'con_4' for 'conv' in bytes 0 to 0"),
        (another("mmod_human_face_detector.dat"), "the tensor of 'conv' has sizes"),
        (lambda data: data[:1000], "it is truncated within 'conv', after 1000 bytes"),
        (cut(b"affine_", -20), "there is no layer 'affine_' for 'affine'"),
        (cut(b"affine_", 10), r"it is truncated, after \d+ bytes"),
        (lambda data: data[:-10_000], "it is truncated within 'fc'"),
        (edited(b"affine_", 0, b"\x01\x07bn_con2"), "for 'affine' it has 'bn_con2' where"),
        (
            lambda data: data.replace(STRIDE, STRIDE[:-1] + b"\x01", 1),
            r"stride and padding of 'conv' are \(32, 7, 7, 2, 1, 0, 0\), not",
        ),
        (edited(b"con_4", 7, b"\x01\x03"), "the tensor of 'conv' has version 3"),
        (
            lambda data: data.replace(b"\x04fc_2\x01\x80", b"\x04fc_2\x01\x40", 1),
            r"outputs and inputs of 'fc' are \(64, 256\), not \(128, 256\)",
        ),
        (lambda data: data + b"\x01\x04fc_2", "after its last layer there is another, 'fc_2'"),
        (edited(b"fc_2", 1000, b"\xff" * 16), r"NaN or infinite \(1: 'fc\.weight'\)"),
    ],
)
def test_damaged_files(tmp_path, damage, problem):
    file = tmp_path / "damaged.dat"
    file.write_bytes(damage(WEIGHTS.read_bytes()))
    with pytest.raises(ValueError, match=rf"damaged\.dat (is not dlib's|holds) .*{problem}"):
        dlib_resnet(file)
