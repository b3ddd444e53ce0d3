"""Weight files that are something else, damaged, or made to mislead: one error that says which."""

import copy
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from captum_plq.models import read_weights
from captum_plq.models.weight_files.checkpoint import AVERAGED
from tests.models.weight_files.conftest import LEGACY, STATE, class_of, refused, same


def test_missing_file_folder_and_pipe(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "link.pth").symlink_to("/dev/zero")
    for name in ("pipe.pth", "link.pth"):
        refused(tmp_path / name, "is a pipe, a device or a socket, not a regular file")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 174664729\n"
NUMBERS = safetensors.torch.save({"a": torch.rand(100)})
CORRUPTED = r"truncated or corrupted \(\d+ bytes of a safetensors file"
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
        (POINTER, "is a Git LFS pointer.* 174,664,729 bytes .*git lfs pull"),
        (NUMBERS[:40], CORRUPTED),
        (NUMBERS[:-4], CORRUPTED),
    ],
)
def test_other_and_damaged_files(written, data, words):
    refused(written(data), words)


def test_safetensors_by_their_name(written):
    for data in (NUMBERS[:4], struct.pack("<Q", 1 << 60) + NUMBERS[8:]):
        refused(written(data, "weights.safetensors"), CORRUPTED)
    refused(written(POINTER, "weights.safetensors"), "is a Git LFS pointer")
    refused(written(safetensors.torch.save({}), "weights.safetensors"), "holds no tensor")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_archives(tmp_path):
    path = tmp_path / "weights.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    refused(path, r"is TorchScript .*state_dict\(\)")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    os.replace(tmp_path / "arrays.npz", path)
    refused(path, r"is a zip archive, but torch.save did not write it .*'a\.npy'")


@LEGACY
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


def packed(path, parts, compression=zipfile.ZIP_STORED):
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
    refused(path, "is compressed, which torch.save never does")


def test_parts_that_overlap_are_refused(saved, tmp_path):
    path = packed(tmp_path / "bomb.pth", parts_of(saved(STATE)))
    with zipfile.ZipFile(path, "a") as archive:
        (large,) = [part for part in archive.infolist() if part.filename.endswith("data.pkl")]
        for i in range(50):
            part = copy.copy(large)
            part.filename = f"{large.filename}{i}"
            archive.filelist.append(part)
        archive._didModify = True
    refused(path, "its parts take .* bytes, the file")


def test_a_tensor_that_no_part_of_the_file_holds(tmp_path):
    """It holds {"a": torch.Tensor(2**28)}, as the call itself."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\nJ\x00\x00\x00\x10\x85Rs."
    path = packed(tmp_path / "w.pth", {"x/data.pkl": pickled, "x/version": "3\n"})
    refused(path, "its tensors take 1,073,741,824 bytes")


def test_a_storage_that_an_old_file_does_not_hold(saved, written):
    data = saved({"a": torch.rand(1000)}, _use_new_zipfile_serialization=False).read_bytes()
    number = b"M" + struct.pack("<H", 1000)
    assert data.count(number) > 1  # of the storage, then of the tensor
    vast = written(data.replace(number, b"J" + struct.pack("<i", 2**31 - 1), 1))
    refused(vast, "it asks for 2,147,483,647 numbers")


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


def is_itself():
    content = OrderedDict()
    for name in ("state_dict", "model", "net", "network", "weights", "params", *AVERAGED):
        content[name] = content
    return content


def nested(levels, wrap, content):
    for _ in range(levels):
        content = wrap(content)
    return content


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
        ({"a": torch.eye(9).to_sparse()}, "'a' is sparse"),
        ({"b": torch.ones(2), "a": torch.zeros(3, device="meta")}, "'a' has no numbers"),
        ({"a": torch._empty_affine_quantized([3], dtype=torch.qint8)}, "'a' is quantised"),
        ({"a": torch.ones(3, dtype=torch.complex64)}, "'a' is of type torch.complex64"),
        ({"a": torch.ones(1, 1).expand(10**6, 10**6)}, "'a' repeats its numbers"),
        ({"a": torch.arange(9.0).as_strided((5, 5), (1, 1))}, "'a' repeats its numbers"),
        (is_itself(), "'state_dict' is a OrderedDict that holds no weights down"),
        (
            nested(200, lambda inner: {"model": inner}, STATE),
            "'model' is a dict that holds no weights down to 8 levels",
        ),
        (
            {"model": nested(50, lambda inner: (inner, inner), ()), "a": torch.ones(2)},
            "'model' is a tuple",
        ),
    ],
)
def test_what_is_no_state_dict_of_plain_numbers(saved, content, words):
    refused(saved(content), words)
