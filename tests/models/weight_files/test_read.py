"""Reading weights: every kind of file, good and bad, without running what is in it."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from captum_plq.models import read_weights
from tests.models.weight_files.conftest import STATE, refused, same
from tests.support.checkpoints import under

# --- what is read


@pytest.mark.parametrize("name", ["weights.pth", "w.bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_of_torch(saved, name, legacy):
    state = {**STATE, "half": nn.Parameter(torch.ones(2, dtype=torch.float16))}
    path = saved(OrderedDict(state), name, _use_new_zipfile_serialization=not legacy)
    read = read_weights(str(path))
    same(read, {**STATE, "half": torch.ones(2)})
    assert read["half"].dtype == torch.float16
    assert type(read["half"]) is torch.Tensor


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_told_by_their_content(tmp_path, name):
    safetensors.torch.save_file(STATE, tmp_path / name)
    state = read_weights(tmp_path / name)
    same({key: state[key] for key in STATE})


@pytest.mark.parametrize(
    "content",
    [
        *({"epoch": 3, key: STATE, "optimizer": {"state": {0: {"m": torch.ones(3)}}}} for key in (
            "state_dict", "model_state_dict", "state_dict_backbone", "model", "backbone", "net"
        )),
        {"model": {"state_dict": STATE, "step": 4}, "config": {"a": 1}},
        {"model_ema": STATE},
    ],
)  # fmt: skip
def test_a_checkpoint_keeps_its_weights_in_a_container(saved, content):
    same(read_weights(saved(content)))


def test_a_layer_that_is_called_like_a_container_is_left_where_it_is(saved):
    state = {"model.weight": torch.ones(2), "net": torch.ones(3)}
    same(read_weights(saved(state)), state)


def test_what_is_no_tensor_in_a_checkpoint_is_not_imported(saved, monkeypatch):
    """Lightning's callbacks by class, settings of argparse, scores of numpy."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    callback = type("ModelCheckpoint", (), {"__module__": name})
    module.ModelCheckpoint = callback
    path = saved(
        {
            "state_dict": STATE,
            "callbacks": {callback: {"best_model_path": "a.ckpt"}},
            "args": argparse.Namespace(lr=0.1, arch="ir_18"),
            "accuracy": np.float64(0.99),
        }
    )
    monkeypatch.delitem(sys.modules, name)
    before = set(torch.serialization.get_safe_globals())
    same(read_weights(path))
    assert name not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before


def averaged(state):
    return {key: value + 1 for key, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "state_dict_ema": averaged(STATE), "epoch": 3},  # timm
        {"model": STATE, "ema": {"state_dict": averaged(STATE), "decay": 0.99}},
        {"state_dict": {**under("model.", STATE), **under("ema_model.", averaged(STATE))}},
    ],
)
def test_the_running_average_is_taken_and_that_is_said(saved, content):
    def bare(state):
        return {k.removeprefix("model.").removeprefix("ema_model."): v for k, v in state.items()}

    path = saved(content)
    with pytest.warns(UserWarning, match=r"weights\.pth holds weights and their running average"):
        same(bare(read_weights(path)), averaged(STATE))
    same(bare(read_weights(path, averaged=True)), averaged(STATE))
    same(bare(read_weights(path, averaged=False)), STATE)


def test_there_is_no_running_average(saved):
    with pytest.raises(ValueError, match="holds no running average"):
        read_weights(saved({"model": STATE}), averaged=True)


# --- what is not there, or is something else


def test_missing_file_folder_and_pipe(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    refused(tmp_path / "pipe.pth", "is a pipe, a device or a socket, not a regular file")
    (tmp_path / "link.pth").symlink_to("/dev/zero")
    refused(tmp_path / "link.pth", "not a regular file")


@pytest.mark.parametrize("name", ["backbone.pth", "model.safetensors"])
def test_git_lfs_pointer(written, name):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 174664729\n"
    message = refused(written(pointer, name), "is a Git LFS pointer")
    assert "174,664,729 bytes" in message
    assert "git lfs pull" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Virus scan warning</html>", "is a web page"),
        (b"\n\n<html></html>", "is a web page"),
        (b'{"error": "not found"}', "is a JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras"),
        (b"\x1f\x8b\x08" + bytes(100), "is compressed with gzip"),
        (b"\x08\x06\x12\x07pytorch\x1a\x051.9.0" + bytes(100), "is an ONNX file"),
        (b"Entry not found", "is neither safetensors nor a file that torch.save wrote"),
        (b"PK\x05\x06" + bytes(18), "is neither safetensors nor a file that torch.save wrote"),
        (bytes(range(1, 200)), "is neither safetensors nor a file that torch.save wrote"),
    ],
)
def test_other_files(written, data, words):
    refused(written(data), words)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_archives(tmp_path):
    path = tmp_path / "weights.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    assert "state_dict()" in refused(path, "is TorchScript")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    os.replace(tmp_path / "arrays.npz", path)
    refused(path, r"is a zip archive, but torch.save did not write it .*'a\.npy'")


# --- pickles


class Evil:
    """Its pickle runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(
    saved, written, legacy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": STATE, "extra": Evil()}
    path = saved(content, _use_new_zipfile_serialization=not legacy)
    message = refused(path, f"is refused: it is a pickle that calls {os.system.__module__}.system")
    assert "weights_only" in message
    refused(written(pickle.dumps(Evil(), protocol=2)), "weights.pth is refused")
    refused(written(pickle.dumps(Evil())), "weights.pth is ")  # weights_only knows protocol 2
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_with_objects_of_a_library_is_refused_by_their_name(saved, monkeypatch):
    module = types.ModuleType("some_library")
    monkeypatch.setitem(sys.modules, "some_library", module)
    module.Settings = type("Settings", (dict,), {"__module__": "some_library"})
    path = saved({"state_dict": STATE, "settings": module.Settings(lr=1)})
    refused(path, r"is refused: it is a pickle that calls some_library\.Settings,")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("make", [Network, lambda: nn.Sequential(nn.Linear(2, 2))])
def test_a_whole_network_pickled(saved, make, legacy):
    path = saved(make(), _use_new_zipfile_serialization=not legacy)
    assert "state_dict()" in refused(path, "is a whole network, pickled")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(2), "holds a Tensor, not a state dict"),
        ({}, "holds no tensor"),
        ({"epoch": 3, "loss": 0.5}, "holds no state dict .*'epoch' is a int"),
        ({"epoch": 3, "state_dict": {}}, "holds no state dict"),
        ({"conv.weight": torch.zeros(2), "epoch": 3}, "holds no state dict .*'epoch' is a int"),
        (
            {"ema.w": torch.zeros(2), "model.w": torch.zeros(2, 2), "epoch": 3},
            "holds no state dict .*'epoch' is a int",
        ),
        ({0: torch.zeros(2)}, "holds no state dict .*0 is a Tensor"),
        ({"encoder": {"a": torch.zeros(2)}}, "holds no state dict .*'encoder' is a dict"),
        ({"net": STATE, "backbone": STATE}, "holds several sets of weights, 'backbone', 'net'"),
    ],
)
def test_files_that_hold_no_state_dict(saved, content, words):
    refused(saved(content), words)
