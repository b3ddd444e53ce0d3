"""What the tests of weight files share: writing one, and reading or refusing it."""

import pytest
import torch

from captum_plq.models import read_weights

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def same(state, expected=STATE):
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value)
        assert state[key].device.type == "cpu"
        assert not state[key].requires_grad
    return True


@pytest.fixture
def saved(tmp_path):
    def save(content, name="weights.pth", **options):
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return save


@pytest.fixture
def written(tmp_path):
    def write(data, name="weights.pth"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def refused(path, words):
    with pytest.raises(ValueError, match=words) as raised:
        read_weights(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message
