"""Reads a file of weights, whoever wrote it, without running any code that is in it."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from captum_plq.models.weight_files.regular_file import regular_file
from captum_plq.models.weight_files.sets import find_weights
from captum_plq.models.weight_files.sound import refuse_unsound

__all__ = ["read_weights"]

_INTEGERS = frozenset(["BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"])

# Other files that end up under such a name: how they begin, what they are, what to do.
_OTHERS = (
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it, not weights of torch"),
    (b"<", "a web page or XML, not weights: the download gave a page instead of the file"),
    (b"{", "a JSON text, not weights"),
    (b"\x1f\x8b", "compressed with gzip: decompress it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
)

_LFS = b"version https://git-lfs.github.com/spec/"

# What checkpoints hold beside tensors. It is not needed, so nothing of it is imported: the
# unpickler is given an inert class in its place.
_NOT_NEEDED = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


_PLAIN = ("torch.", "collections.")  # where the parts of any file of tensors come from


class _NotNeeded:
    """Stands for an object of a checkpoint that is no tensor; takes anything, keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _NotNeeded:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_weights(path: str | PathLike[str], *, averaged: bool | None = None) -> dict[str, Tensor]:
    """Reads the tensors of a ``.safetensors`` file or of one that ``torch.save`` wrote.

    The kind is told by the content, not by the name. Of a checkpoint that holds its weights
    under ``"state_dict"``, ``"model"``, ``"backbone"`` or the like, these are taken.

    Damage is found where it can be: what today's ``torch.save`` writes has checksums.
    Safetensors, and what torch wrote before 1.6, have none, so that a changed number in them
    passes, unless it is NaN or infinite. Compare the file's sha256 with that of its source.

    Args:

        path (str or PathLike): The file.
        averaged (bool, optional): Which weights to take of a checkpoint that holds their running
            average (EMA, SWA) beside them, as timm and Lightning write it. ``True``: the
            average. ``False``: the others. ``None``: the average, as timm does, with a warning.

    Returns:
        *dict[str, Tensor]*: the weights by name, on the CPU, in the precision of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a file of weights; is damaged; holds NaN, infinity or a negative
            variance, or tensors that are sparse, quantised, complex, expanded or empty of
            numbers; is larger in memory than on the disk; or is a pickle that would run code
            (``weights_only`` refuses it). Says which, and what to do.

    Examples::

        >>> state = read_weights("backbone.pth")
        >>> state["fc.weight"].shape
        torch.Size([512, 25088])
    """
    path = regular_file(path)
    with path.open("rb") as file:
        head = file.read(256)
    if _is_safetensors(head):
        weights = find_weights(path, _read_safetensors(path), averaged)
    else:
        _refuse_others(path, head)
        if path.suffix.lower() == ".safetensors":
            weights = find_weights(path, _read_safetensors(path), averaged)
        else:
            if head.startswith(b"PK"):
                _refuse_other_archives(path)
            else:
                _refuse_vast_storages(path)
            weights = find_weights(path, _read_torch(path), averaged)
    refuse_unsound(str(path), weights)
    return weights


def _refuse_others(path: Path, head: bytes) -> None:
    if not head:
        raise ValueError(f"{path} is empty (0 bytes): the download failed; fetch it again.")
    if head.startswith(_LFS):
        size = re.search(rb"size (\d+)", head)
        told = f" of {int(size[1]):,} bytes" if size else ""
        raise ValueError(
            f"{path} is a Git LFS pointer, a note of where the file{told} is kept, not the file: "
            "run 'git lfs install' and 'git lfs pull' in its repository, or download the file "
            "from its web page."
        )
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"\x12\x07pytorch" in head[:64]):
        raise ValueError(
            f"{path} is an ONNX file, a whole network and not weights of a named one: give it as "
            "the model itself."
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what in _OTHERS:
        if text.startswith(magic):
            raise ValueError(f"{path} is {what}.")


def _is_safetensors(head: bytes) -> bool:
    """By the length of the header, a number below 2⁴⁰, and how that begins; texts hold no zeros."""
    return head[5:9] == b"\0\0\0{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except Exception as error:  # of safetensors, or a type that this torch lacks
        raise _damaged(path, "safetensors", error) from error


def _refuse_other_archives(path: Path) -> None:
    """Looks into a zip archive, which is what torch.save and torch.jit.save both write."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # a damaged archive may raise anything
        raise _damaged(path, "torch", error) from error
    names = {name for part in parts for name in part.filename.split("/")}
    if {"constants.pkl", "code"} & names:
        raise ValueError(
            f"{path} is TorchScript (torch.jit.save), a whole network in which the hooks that "
            "find the embedding do not run. Save the weights of the network it was made from: "
            "torch.save(network.state_dict(), 'weights.pt')."
        )
    if "data.pkl" not in names:
        raise ValueError(
            f"{path} is a zip archive, but torch.save did not write it (it begins with "
            f"{[part.filename for part in parts[:3]]}): if the weights are in it, unpack it first."
        )
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError(
            f"{path} is refused: it is compressed, which torch.save never does, and could be of "
            "any size. If you trust it, write it anew: "
            "torch.save(torch.load(FILE, weights_only=True), 'weights.pt')."
        )
    total, size = sum(part.file_size for part in parts), path.stat().st_size
    if total > size:
        raise ValueError(f"{path} is refused: its parts take {total:,} bytes, the file {size:,}.")
    # torch.load does not compare checksums; torch.save can be told to write zeros.
    if any(part.CRC for part in parts):
        _compare_checksums(path)


def _compare_checksums(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise _damaged(path, "torch", error) from error
    if damaged is not None:
        wrong = zipfile.BadZipFile(f"the checksum of its part {damaged!r} is wrong")
        raise _damaged(path, "torch", wrong)


def _refuse_vast_storages(path: Path) -> None:
    """Refuses a file of torch before 1.6 that would have more numbers in memory than bytes on disk.

    The number of elements is the last one before each ``BINPERSID``, which names a storage.
    """
    last, most = 0, 0
    with contextlib.suppress(Exception):
        stream = io.BytesIO(path.read_bytes())
        while True:  # several pickles, and then the numbers, which are none: that ends it
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in _INTEGERS:
                    last = int(argument or 0)
                elif opcode.name == "BINPERSID":
                    most = max(most, last)
    if most > path.stat().st_size:
        raise _damaged(path, "torch", ValueError(f"it asks for {most:,} numbers"))


def _read_torch(path: Path) -> object:
    inert: list[Any] = [(_NotNeeded, name) for name in _NOT_NEEDED]
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the protocol of a file that is refused anyway
            # What is not a zip is read from memory: a length of gigabytes that a damaged pickle
            # states is then cut to what there is, where a file would make room for it first.
            source = path if _is_archive(path) else io.BytesIO(path.read_bytes())
            content: object = torch.load(source, map_location="cpu", weights_only=True)
            return content
    except pickle.UnpicklingError as error:
        reason = str(error)
    except Exception as error:  # a damaged file may raise anything
        raise _damaged(path, "torch", error) from error
    wanted = _wanted(path)
    if any(name.startswith("torch.nn.modules.") for name in wanted):
        raise ValueError(
            f"{path} is a whole network, pickled (torch.save(network)), which only loads by "
            "running the code it names. Where that code is, and if you trust the file, save its "
            "weights: torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pt')."
        )
    told = re.search(r"(?:GLOBAL|class|instantiate|reduce|build) ([A-Za-z_]\w*\.[\w.]+)", reason)
    others = [n for n in wanted if n not in _NOT_NEEDED and not n.startswith(_PLAIN)]
    if told or others:
        calls = told[1] if told else ", ".join(others[:3])
        raise ValueError(
            f"{path} is refused: it is a pickle that calls {calls}, and reading it "
            "could run any code (torch.load with weights_only=True does not allow it). If you "
            "trust whoever made it, read it elsewhere and save only its tensors: "
            "torch.save(network.state_dict(), 'weights.pt')."
        )
    raise ValueError(
        f"{path} is neither safetensors nor a file that torch.save wrote, or it is corrupted: "
        f"{_first_line(reason.split('WeightsUnpickler error:')[-1])}."
    )


def _is_archive(path: Path) -> bool:
    """Whether torch takes a file for a zip archive: by its beginning, as torch does."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _wanted(path: Path) -> list[str]:
    """Names of the classes and functions in the pickles of a file, which are only looked at."""
    names: list[str] = []
    with contextlib.suppress(Exception), contextlib.ExitStack() as opened:
        stream: IO[bytes] = io.BytesIO(path.read_bytes())
        if _is_archive(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            part = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            stream = opened.enter_context(archive.open(part))
        while True:  # the old format is several pickles; the end of the last raises
            strings: list[str] = []
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return names


def _damaged(path: Path, kind: str, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is truncated or corrupted ({path.stat().st_size:,} bytes of a {kind} file): "
        f"{_first_line(str(error))}. Fetch it again, and compare its size and checksum."
    )


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return (lines[0] if lines else "it ends early").rstrip(". ")[:200]
