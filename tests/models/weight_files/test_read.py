"""Reading weights: every kind of file, good and bad, without running what is in it."""

import argparse
import copy
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from captum_plq.models import read_weights

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


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


# --- what is read


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_of_torch(saved, legacy):
    same(read_weights(saved(STATE, _use_new_zipfile_serialization=not legacy)))
    same(read_weights(str(saved(OrderedDict(STATE), "w.bin"))))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_told_by_their_content(tmp_path, name):
    path = tmp_path / name
    safetensors.torch.save_file(STATE, path)
    state = read_weights(path)
    same({key: state[key] for key in STATE})


def test_the_precision_is_that_of_the_file(saved):
    state = read_weights(saved({"a": torch.ones(2, dtype=torch.float16)}))
    assert state["a"].dtype == torch.float16


def test_parameters_become_plain_tensors(saved):
    state = read_weights(saved({"a": nn.Parameter(torch.ones(2))}))
    assert type(state["a"]) is torch.Tensor
    assert not state["a"].requires_grad


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "state_dict_backbone", "model", "backbone", "net"]
)
def test_a_checkpoint_keeps_its_weights_in_a_container(saved, key):
    optimizer = {"state": {0: {"momentum": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    same(read_weights(saved({"epoch": 3, key: STATE, "optimizer": optimizer})))


def test_containers_in_containers(saved):
    same(read_weights(saved({"model": {"state_dict": STATE, "step": 4}, "config": {"a": 1}})))


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


# --- what is not there, or is something else


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        read_weights(tmp_path)


def test_empty_file(written):
    refused(written(b""), "is empty")


def test_git_lfs_pointer(written):
    pointer = (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        b"size 174664729\n"
    )
    for name in ("backbone.pth", "model.safetensors"):
        message = refused(written(pointer, name), "is a Git LFS pointer")
        assert "174,664,729 bytes" in message
        assert "git lfs pull" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>Virus scan warning</html>", "is a web page"),
        (b"\n\n<html></html>", "is a web page"),
        (b'{"error": "not found"}', "is a JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras"),
        (b"\x1f\x8b\x08" + bytes(100), "is compressed with gzip"),
        (b"Entry not found", "is neither safetensors nor a file that torch.save wrote"),
        (bytes(range(1, 200)), "is neither safetensors nor a file that torch.save wrote"),
    ],
)
def test_other_files(written, data, words):
    refused(written(data), words)


@pytest.mark.parametrize("name", ["w600k_r50.onnx", "weights.pth"])
def test_onnx(written, name):
    refused(written(b"\x08\x06\x12\x07pytorch\x1a\x051.9.0" + bytes(100), name), "is an ONNX file")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    assert "state_dict()" in refused(path, "is TorchScript")


def test_another_zip_archive(tmp_path):
    path = tmp_path / "weights.pth"
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
    saved, legacy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": STATE, "extra": Evil()}
    path = saved(content, _use_new_zipfile_serialization=not legacy)
    message = refused(path, f"is refused: it is a pickle that calls {os.system.__module__}.system")
    assert "weights_only" in message
    assert not (tmp_path / "pwned").exists()


def test_a_plain_pickle_with_code_is_refused(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
        ([torch.zeros(2)], "holds a list, not a state dict"),
        ({}, "holds no tensor"),
        ({"epoch": 3, "loss": 0.5}, "holds no state dict .*'epoch' is a int"),
        ({"epoch": 3, "state_dict": {}}, "holds no state dict"),
        ({"conv.weight": torch.zeros(2), "epoch": 3}, "holds no state dict .*'epoch' is a int"),
        ({0: torch.zeros(2)}, "holds no state dict .*0 is a Tensor"),
        ({"encoder": {"a": torch.zeros(2)}}, "holds no state dict .*'encoder' is a dict"),
        ({"net": STATE, "backbone": STATE}, "holds several sets of weights, 'backbone', 'net'"),
    ],
)
def test_files_that_hold_no_state_dict(saved, content, words):
    refused(saved(content), words)


# --- running averages


def averaged(state):
    return {key: value + 1 for key, value in state.items()}


BESIDE = [
    {"state_dict": STATE, "state_dict_ema": averaged(STATE), "epoch": 3},  # timm
    {"model": STATE, "ema": {"state_dict": averaged(STATE), "decay": 0.99}},
    {"params": STATE, "params_ema": averaged(STATE)},
    {"state_dict": {**under("model.", STATE), **under("ema_model.", averaged(STATE))}},
]


@pytest.mark.parametrize("content", BESIDE)
def test_the_running_average_is_taken_and_that_is_said(saved, content):
    def bare(state):
        return {k.removeprefix("model.").removeprefix("ema_model."): v for k, v in state.items()}

    path = saved(content)
    with pytest.warns(UserWarning, match=r"weights\.pth holds weights and their running average"):
        same(bare(read_weights(path)), averaged(STATE))
    same(bare(read_weights(path, averaged=True)), averaged(STATE))
    same(bare(read_weights(path, averaged=False)), STATE)


def test_only_one_of_both(saved):
    same(read_weights(saved({"model_ema": STATE})))
    with pytest.raises(ValueError, match="holds no running average"):
        read_weights(saved({"model": STATE}), averaged=True)


# --- tensors that are no plain numbers, and what takes more memory than the file


def is_itself():
    content = OrderedDict()
    content["model"] = content["net"] = content["backbone"] = content
    return content


def deep(levels):
    content = STATE
    for _ in range(levels):
        content = {"model": content}
    return content


def shared(levels):
    content = ()
    for _ in range(levels):
        content = (content, content)
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": torch.eye(9).to_sparse()}, "'a' is sparse"),
        ({"b": torch.ones(2), "a": torch.zeros(3, device="meta")}, "'a' has no numbers"),
        ({"a": torch._empty_affine_quantized([3], dtype=torch.qint8)}, "'a' is quantised"),
        ({"a": torch.ones(3, dtype=torch.complex64)}, "'a' is of type torch.complex64"),
        ({"a": torch.ones(1, 1).expand(10**6, 10**6)}, "'a' repeats its numbers"),
        ({"a": torch.arange(9.0).as_strided((5, 5), (1, 1))}, "'a' repeats its numbers"),
        (is_itself(), "holds no state dict .*'model' is a OrderedDict that holds no weights down"),
        (deep(200), "'model' is a dict that holds no weights down to 8 levels"),
        ({"model": shared(50), "a": torch.ones(2)}, "'model' is a tuple"),
    ],
)
def test_tensors_that_are_no_plain_numbers(saved, content, words):
    refused(saved(content), words)


def test_transposed_and_sliced_tensors_are_plain(saved):
    whole = torch.arange(24.0).view(4, 6)
    state = {"a": whole.T, "b": whole[1:3, ::2], "c": whole, "d": torch.ones(1, 1).expand(1, 1)}
    same(read_weights(saved(state)), state)


def packed(path, parts, compression):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_compressed_archive_is_refused_before_it_is_unpacked(saved, tmp_path, monkeypatch):
    parts = parts_of(saved(STATE))
    parts[f"{next(iter(parts)).split('/')[0]}/data/9"] = bytes(1 << 24)
    path = packed(tmp_path / "bomb.pth", parts, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1e5
    monkeypatch.setattr(zipfile.ZipFile, "testzip", None)
    assert "torch.save(torch.load(" in refused(path, "is compressed, which torch.save never does")


def test_parts_that_overlap_are_refused(saved, tmp_path):
    path = packed(tmp_path / "bomb.pth", parts_of(saved(STATE)), zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        (large,) = [part for part in archive.infolist() if part.filename.endswith("data.pkl")]
        for i in range(50):
            part = copy.copy(large)
            part.filename = f"{large.filename}{i}"
            archive.filelist.append(part)
        archive._didModify = True
    refused(path, "its parts take .* bytes, the file")


def test_a_tensor_that_no_part_of_the_file_holds(written, tmp_path):
    """It holds {"a": torch.Tensor(2**28)}, as the call itself."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\nJ\x00\x00\x00\x10\x85Rs."
    path = packed(
        tmp_path / "w.pth", {"x/data.pkl": pickled, "x/version": "3\n"}, zipfile.ZIP_STORED
    )
    refused(path, "its tensors take 1,073,741,824 bytes")


@pytest.mark.parametrize("size", [0x7B20, 0x3C20])
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_any_length_of_the_header(written, size, name):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(size)
    path = written(struct.pack("<Q", size) + header + struct.pack("<f", 2.5), name)
    assert path.read_bytes()[:2] in (b" {", b" <")
    same(read_weights(path), {"a": torch.tensor([2.5])})


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    refused(tmp_path / "pipe.pth", "is a pipe, a device or a socket, not a regular file")
    (tmp_path / "link.pth").symlink_to("/dev/zero")
    refused(tmp_path / "link.pth", "not a regular file")


# --- damaged


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files_of_torch(saved, written, share, legacy):
    state = {"a": torch.rand(500), "b": torch.rand(500)}
    data = saved(state, _use_new_zipfile_serialization=not legacy).read_bytes()
    refused(written(data[: int(share * len(data))]), "truncated or corrupted|or it is corrupted")


def test_a_file_with_changed_bytes(saved, written):
    data = bytearray(saved({"a": torch.zeros(5000)}).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = b"\xff" * 8
    refused(written(bytes(data)), "is truncated or corrupted")


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_ends_in_an_error_of_ours(saved, written, legacy):
    data = saved({"a": torch.rand(9)}, _use_new_zipfile_serialization=not legacy).read_bytes()
    for size in range(1, len(data) - 1, 17):
        with pytest.raises(ValueError, match=r"weights\.pth is "):
            read_weights(written(data[:size]))


def test_any_changed_bit_is_found_or_does_not_matter(saved, written):
    state = {"a": torch.rand(9)}
    data = saved(state).read_bytes()
    for position in range(0, len(data), 11):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            read = read_weights(written(bytes(changed)))
        except ValueError:
            continue
        same(read, state)


def test_a_file_without_checksums_is_read(saved):
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(STATE)
    finally:
        torch.serialization.set_crc32_options(True)
    same(read_weights(path))


def test_damaged_safetensors(written):
    data = safetensors.torch.save({"a": torch.rand(100)})
    for damaged in (data[:4], data[:40], data[:-4], struct.pack("<Q", 1 << 60) + data[8:]):
        path = written(damaged, "weights.safetensors")
        message = refused(path, "is truncated or corrupted")
        assert f"{len(damaged)} bytes of a safetensors file" in message


def test_safetensors_without_a_tensor(written):
    refused(written(safetensors.torch.save({}), "weights.safetensors"), "holds no tensor")


def test_an_archive_without_its_list(saved, written):
    path = saved(STATE)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()
    refused(written(path.read_bytes()[:100]), "is truncated or corrupted")
