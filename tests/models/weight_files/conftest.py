"""What the tests of weight files share: writing one, and reading or refusing it."""

import sys
import types

import pytest
import torch

from captum_plq.models import read_weights

LEGACY = pytest.mark.parametrize("legacy", [False, True])
STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def same(state, expected=STATE):
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value)
        assert (state[key].device.type, state[key].requires_grad) == ("cpu", False)


@pytest.fixture
def saved(tmp_path):
    def save(content, name="weights.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def written(tmp_path):
    def write(data, name="weights.pth"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def refused(path, words):
    with pytest.raises(ValueError, match=words) as raised:
        read_weights(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def class_of(name, module, monkeypatch, *bases):
    """A class in a module that is there only while the test writes its file."""
    made = type(name, bases, {"__module__": module})
    parts = module.split(".")
    for i in range(len(parts)):
        dotted = ".".join(parts[: i + 1])
        monkeypatch.setitem(sys.modules, dotted, types.ModuleType(dotted))
    setattr(sys.modules[module], name, made)
    return made
