"""Reads a file of weights, whoever wrote it, without running any code that is in it."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from captum_plq.models.weight_files.checkpoint import find_weights
from captum_plq.models.weight_files.regular_file import regular_file
from captum_plq.models.weight_files.sound import refuse_unsound

__all__ = ["read_weights"]

_ZIP = b"PK\x03\x04"  # what torch takes for an archive of its own
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
    """Read the tensors of a ``.safetensors`` file or of one that ``torch.save`` wrote.

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
            (``weights_only`` refuses it). Names the cause, and what to do.

    Examples::

        >>> state = read_weights("backbone.pth")
        >>> state["fc.weight"].shape
        torch.Size([512, 25088])
    """
    path = regular_file(path)
    with path.open("rb") as file:
        head = file.read(256)
    is_safetensors = head[5:9] == b"\0\0\0{"  # a length below 2⁴⁰, then JSON; texts hold no zeros
    if not is_safetensors:
        _refuse_others(path, head)
    if is_safetensors or path.suffix.lower() == ".safetensors":
        content: object = _read_safetensors(path)
    else:
        archive = head.startswith(_ZIP)
        if archive:
            _refuse_bad_archives(path)
        content = _read_torch(path, archive)
    weights = find_weights(path, content, averaged)
    refuse_unsound(str(path), weights)
    return weights


def _refuse_others(path: Path, head: bytes) -> None:
    if not head:
        raise ValueError(f"{path} is empty (0 bytes): the download failed; fetch it again.")
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"\x12\x07pytorch" in head[:64]):
        raise ValueError(
            f"{path} is an ONNX file, a whole network and not weights of a named one: give it as "
            "the model itself."
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what in _OTHERS:
        if text.startswith(magic):
            raise ValueError(f"{path} is {what}.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except Exception as error:  # of safetensors, or a type that this torch lacks
        raise _damaged(path, "safetensors", str(error)) from error


def _refuse_bad_archives(path: Path) -> None:
    """Raise for a zip archive that torch.save did not write, or that is not what it says."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            # torch.load does not compare checksums; torch.save can be told to write zeros.
            plain = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            total, size = sum(part.file_size for part in parts), path.stat().st_size
            checked = plain and total <= size and any(part.CRC for part in parts)
            changed = archive.testzip() if checked else None
    except Exception as error:  # a damaged archive may raise anything
        raise _damaged(path, "torch", str(error)) from error
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
    if not plain:
        raise ValueError(
            f"{path} is refused: it is compressed, which torch.save never does, and could be of "
            "any size. If you trust it, write it anew: "
            "torch.save(torch.load(FILE, weights_only=True), 'weights.pt')."
        )
    if total > size:
        raise ValueError(f"{path} is refused: its parts take {total:,} bytes, the file {size:,}.")
    if changed is not None:
        raise _damaged(path, "torch", f"the checksum of its part {changed!r} is wrong")


def _read_torch(path: Path, archive: bool) -> object:
    called, numbers = _look_into(path, archive)
    if not archive and numbers > path.stat().st_size:
        raise _damaged(path, "torch", f"it asks for {numbers:,} numbers")
    inert: list[Any] = [(_NotNeeded, name) for name in _NOT_NEEDED]
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the protocol of a file that is refused anyway
            # What is not a zip is read from memory: a length of gigabytes that a damaged pickle
            # states is then cut to what there is, where a file would make room for it first.
            source = path if archive else io.BytesIO(path.read_bytes())
            content: object = torch.load(source, map_location="cpu", weights_only=True)
            return content
    except pickle.UnpicklingError as error:
        reason = str(error)
    except Exception as error:  # a damaged file may raise anything
        raise _damaged(path, "torch", str(error)) from error
    if any(name.startswith("torch.nn.modules.") for name in called):
        raise ValueError(
            f"{path} is a whole network, pickled (torch.save(network)), which only loads by "
            "running the code it names. Where that code is, and if you trust the file, save its "
            "weights: torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pt')."
        )
    told = re.search(r"(?:GLOBAL|class|instantiate|reduce|build) ([A-Za-z_]\w*\.[\w.]+)", reason)
    others = [n for n in called if n not in _NOT_NEEDED and not n.startswith(_PLAIN)]
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


def _look_into(path: Path, archive: bool) -> tuple[list[str], int]:
    """Return the names of what a file's pickles call, and the length of their longest storage.

    Nothing is called. The length of a storage is the last integer before each ``BINPERSID``,
    which names one.
    """
    called: list[str] = []
    strings: list[str] = []
    last = longest = 0
    for opcode, argument in _opcodes(path, archive):
        if opcode == "GLOBAL":
            called.append(str(argument).replace(" ", "."))
        elif opcode == "STACK_GLOBAL":
            called.append(".".join(strings[-2:]))
        elif opcode in _INTEGERS:
            last = argument if isinstance(argument, int) else 0
        elif opcode == "BINPERSID":
            longest = max(longest, last)
        elif isinstance(argument, str):
            strings.append(argument)
    return called, longest


def _opcodes(path: Path, archive: bool) -> Iterator[tuple[str, object]]:
    """Yield what a file's pickles consist of, up to where they are damaged."""
    with contextlib.suppress(Exception), contextlib.ExitStack() as opened:
        if archive:
            parts = opened.enter_context(zipfile.ZipFile(path))
            part = next(name for name in parts.namelist() if name.endswith("data.pkl"))
            stream: IO[bytes] = opened.enter_context(parts.open(part))
        else:
            stream = io.BytesIO(path.read_bytes())
        while True:  # the old format is several pickles, then numbers, which raise and end it
            for opcode, argument, _ in pickletools.genops(stream):
                yield opcode.name, argument


def _damaged(path: Path, kind: str, reason: str) -> ValueError:
    return ValueError(
        f"{path} is truncated or corrupted ({path.stat().st_size:,} bytes of a {kind} file): "
        f"{_first_line(reason)}. Fetch it again, and compare its size and checksum."
    )


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return (lines[0] if lines else "it ends early").rstrip(". ")[:200]
