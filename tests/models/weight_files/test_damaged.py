"""Weight files that are damaged, or made to take more memory than they have bytes."""

import copy
import struct
import zipfile
from collections import OrderedDict

import pytest
import safetensors.torch
import torch

from captum_plq.models import read_weights
from captum_plq.models.weight_files.checkpoint import AVERAGED
from tests.models.weight_files.conftest import STATE, refused, same

# --- tensors that are no plain numbers, and what takes more memory than the file


def is_itself():
    content = OrderedDict()
    for name in ("state_dict", "model", "net", "network", "weights", "params", *AVERAGED):
        content[name] = content
    return content


def nested(levels, wrap, content):
    for _ in range(levels):
        content = wrap(content)
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
def test_tensors_that_are_no_plain_numbers(saved, content, words):
    refused(saved(content), words)


def test_transposed_and_sliced_tensors_are_plain(saved):
    whole = torch.arange(24.0).view(4, 6)
    state = {"a": whole.T, "b": whole[1:3, ::2], "c": whole, "d": torch.ones(1, 1).expand(1, 1)}
    same(read_weights(saved(state)), state)


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


@pytest.mark.parametrize("size", [0x7B20, 0x3C20])  # the file begins as JSON, as XML
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_any_length_of_the_header(written, size, name):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(size)
    path = written(struct.pack("<Q", size) + header + struct.pack("<f", 2.5), name)
    same(read_weights(path), {"a": torch.tensor([2.5])})


# --- damaged


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


def test_a_file_without_checksums_is_read(saved, monkeypatch):
    monkeypatch.setattr(torch.serialization, "get_crc32_options", lambda: False)
    same(read_weights(saved(STATE)))


def test_damaged_safetensors(written):
    data = safetensors.torch.save({"a": torch.rand(100)})
    for damaged in (data[:4], data[:40], data[:-4], struct.pack("<Q", 1 << 60) + data[8:]):
        path = written(damaged, "weights.safetensors")
        refused(path, rf"truncated or corrupted \({len(damaged)} bytes of a safetensors file")
    refused(written(safetensors.torch.save({}), "weights.safetensors"), "holds no tensor")
