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

LEGACY = pytest.mark.parametrize("legacy", [False, True])

# --- what is read


@LEGACY
def test_a_state_dict_of_torch(saved, legacy):
    state = {**STATE, "half": nn.Parameter(torch.ones(2, dtype=torch.float16))}
    path = saved(OrderedDict(state), "w.bin", _use_new_zipfile_serialization=not legacy)
    read = read_weights(str(path))
    same(read, {**STATE, "half": torch.ones(2)})
    assert (read["half"].dtype, type(read["half"])) == (torch.float16, torch.Tensor)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_told_by_their_content(tmp_path, name):
    safetensors.torch.save_file(STATE, tmp_path / name)
    state = read_weights(tmp_path / name)
    same({key: state[key] for key in STATE})


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


def test_a_layer_that_is_called_like_a_container_is_left_where_it_is(saved):
    state = {"model.weight": torch.ones(2), "net": torch.ones(3)}
    same(read_weights(saved(state)), state)


def class_of(name, module, monkeypatch, *bases):
    """A class in a module that is there only while the test writes its file."""
    made = type(name, bases, {"__module__": module})
    parts = module.split(".")
    for i in range(len(parts)):
        dotted = ".".join(parts[: i + 1])
        monkeypatch.setitem(sys.modules, dotted, types.ModuleType(dotted))
    setattr(sys.modules[module], name, made)
    return made


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
    (tmp_path / "link.pth").symlink_to("/dev/zero")
    for name in ("pipe.pth", "link.pth"):
        refused(tmp_path / name, "is a pipe, a device or a socket, not a regular file")


@pytest.mark.parametrize("name", ["backbone.pth", "model.safetensors"])
def test_git_lfs_pointer(written, name):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 174664729\n"
    refused(written(pointer, name), "is a Git LFS pointer.* 174,664,729 bytes .*git lfs pull")


NEITHER = "is neither safetensors nor a file that torch.save wrote"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n\n<html></html>", "is a web page"),
        (b'{"error": "not found"}', "is a JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras"),
        (b"\x1f\x8b\x08" + bytes(100), "is compressed with gzip"),
        (b"\x08\x06\x12\x07pytorch\x1a\x051.9.0" + bytes(100), "is an ONNX file"),
        (b"Entry not found", NEITHER),
        (b"PK\x05\x06" + bytes(18), NEITHER),
        (bytes(range(1, 200)), NEITHER),
    ],
)
def test_other_files(written, data, words):
    refused(written(data), words)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_archives(tmp_path):
    path = tmp_path / "weights.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    refused(path, r"is TorchScript .*state_dict\(\)")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    os.replace(tmp_path / "arrays.npz", path)
    refused(path, r"is a zip archive, but torch.save did not write it .*'a\.npy'")


# --- pickles


class Evil:
    """Its pickle runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


@LEGACY
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(
    saved, written, legacy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": STATE, "extra": Evil()}
    path = saved(content, _use_new_zipfile_serialization=not legacy)
    refused(
        path, f"is refused: it is a pickle that calls {os.system.__module__}.system.*weights_only"
    )
    refused(written(pickle.dumps(Evil(), protocol=2)), "weights.pth is refused")
    refused(written(pickle.dumps(Evil())), "weights.pth is ")  # weights_only knows protocol 2
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_with_objects_of_a_library_is_refused_by_their_name(saved, monkeypatch):
    settings = class_of("Settings", "some_library", monkeypatch, dict)(lr=1)
    path = saved({"state_dict": STATE, "settings": settings})
    refused(path, r"is refused: it is a pickle that calls some_library\.Settings,")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


@LEGACY
@pytest.mark.parametrize("make", [Network, lambda: nn.Sequential(nn.Linear(2, 2))])
def test_a_whole_network_pickled(saved, make, legacy):
    path = saved(make(), _use_new_zipfile_serialization=not legacy)
    refused(path, r"is a whole network, pickled .*state_dict\(\)")


TENSOR = torch.zeros(2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TENSOR, "holds a Tensor, not a state dict"),
        ({}, "holds no tensor"),
        ({"epoch": 3, "state_dict": {}}, "holds no state dict .*'epoch' is a int"),
        ({"conv.weight": TENSOR, "epoch": 3}, "holds no state dict .*'epoch' is a int"),
        (
            {"ema.w": TENSOR, "model.w": torch.zeros(2, 2), "epoch": 3},
            "holds no state dict .*'epoch' is a int",
        ),
        ({0: TENSOR}, "holds no state dict .*0 is a Tensor"),
        ({"encoder": {"a": TENSOR}}, "holds no state dict .*'encoder' is a dict"),
        ({"net": STATE, "backbone": STATE}, "holds several sets of weights, 'backbone', 'net'"),
    ],
)
def test_files_that_hold_no_state_dict(saved, content, words):
    refused(saved(content), words)
