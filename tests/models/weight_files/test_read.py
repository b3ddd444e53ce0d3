"""Reading weights: every kind of file, and what of it is taken."""

import argparse
import struct
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq.models import read_weights
from tests.models.weight_files.conftest import LEGACY, STATE, class_of, same
from tests.support.checkpoints import under


@LEGACY
def test_a_state_dict_of_torch(saved, legacy):
    state = {**STATE, "half": nn.Parameter(torch.ones(2, dtype=torch.float16))}
    path = saved(OrderedDict(state), "w.bin", _use_new_zipfile_serialization=not legacy)
    read = read_weights(str(path))
    same(read, {**STATE, "half": torch.ones(2)})
    assert (read["half"].dtype, type(read["half"])) == (torch.float16, torch.Tensor)


@pytest.mark.parametrize("size", [0x7B20, 0x3C20])  # the file begins as JSON, as XML
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_told_by_their_content_whatever_the_length_of_the_header(
    written, size, name
):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(size)
    path = written(struct.pack("<Q", size) + header + struct.pack("<f", 2.5), name)
    same(read_weights(path), {"a": torch.tensor([2.5])})


CONTAINERS = ("state_dict", "model_state_dict", "state_dict_backbone", "model", "backbone", "net")


@pytest.mark.parametrize(
    "content",
    [
        *(
            {"epoch": 3, key: STATE, "optimizer": {"state": {0: torch.ones(3)}}}
            for key in CONTAINERS
        ),
        {"model": {"state_dict": STATE, "step": 4}, "config": {"a": 1}},
        {"model_ema": STATE},
    ],
)
def test_a_checkpoint_keeps_its_weights_in_a_container(saved, content):
    same(read_weights(saved(content)))


WHOLE = torch.arange(24.0).view(4, 6)


@pytest.mark.parametrize(
    "state",
    [
        {"model.weight": torch.ones(2), "net": torch.ones(3)},  # layers called like containers
        {"a": WHOLE.T, "b": WHOLE[1:3, ::2], "c": WHOLE, "d": torch.ones(1, 1).expand(1, 1)},
    ],
)
def test_a_state_dict_is_left_as_it_is(saved, state):
    same(read_weights(saved(state)), state)


def test_what_is_no_tensor_in_a_checkpoint_is_not_imported(saved, monkeypatch):
    module = "pytorch_lightning.callbacks.model_checkpoint"
    callback = class_of("ModelCheckpoint", module, monkeypatch)
    path = saved(
        {
            "state_dict": STATE,
            "callbacks": {callback: {"best_model_path": "a.ckpt"}},
            "args": argparse.Namespace(lr=0.1, arch="ir_18"),
            "accuracy": np.float64(0.99),
        }
    )
    monkeypatch.delitem(sys.modules, module)
    before = set(torch.serialization.get_safe_globals())
    same(read_weights(path))
    assert module not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before


MEAN = {key: value + 1 for key, value in STATE.items()}


@pytest.mark.parametrize(
    ("content", "prefixes"),
    [
        ({"state_dict": STATE, "state_dict_ema": MEAN, "epoch": 3}, ("", "")),  # timm
        ({"model": STATE, "ema": {"state_dict": MEAN, "decay": 0.99}}, ("", "")),
        (
            {"state_dict": {**under("model.", STATE), **under("ema_model.", MEAN)}},
            ("model.", "ema_model."),
        ),
    ],
)
def test_the_running_average_is_taken_and_that_is_said(saved, content, prefixes):
    path = saved(content)
    plain, mean = under(prefixes[0], STATE), under(prefixes[1], MEAN)
    with pytest.warns(UserWarning, match=r"weights\.pth holds weights and their running average"):
        same(read_weights(path), mean)
    same(read_weights(path, averaged=True), mean)
    same(read_weights(path, averaged=False), plain)
    with pytest.raises(ValueError, match="holds no running average"):
        read_weights(saved({"model": STATE}), averaged=True)


def test_a_file_without_checksums_is_read(saved, monkeypatch):
    monkeypatch.setattr(torch.serialization, "get_crc32_options", lambda: False)
    same(read_weights(saved(STATE)))
