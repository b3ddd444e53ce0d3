"""From entries of a source to aligned faces, in this process or another one."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.faces import (
    AlignedFace,
    ImageError,
    NoFaceError,
    aligned_faces,
    decode_image,
)
from captum_plq.faces.align import Template
from captum_plq.preparation.entries import Entry, SourceGoneError, read_entry

__all__ = [
    "REASONS",
    "Chunk",
    "Preparation",
    "Status",
    "lost_chunk",
    "prepare_chunk",
    "source_state",
]

Status = Literal["ok", "refused", "failed"]
"""``"ok"``: the row has a quality; ``"refused"``: the image was looked at and cannot be used;
``"failed"``: it could not be looked at, and might be another time."""

REASONS: dict[str, Status] = {
    "not_an_image": "refused",
    "not_a_file": "refused",
    "empty": "refused",
    "damaged": "refused",
    "too_large": "refused",
    "too_small": "refused",
    "unknown_range": "refused",
    "no_face": "refused",
    "proportions": "refused",
    "uninformative": "refused",
    "missing": "failed",
    "unreadable": "failed",
    "timeout": "failed",
    "crash": "failed",
    "error": "failed",
}
"""What the column ``reason`` may say, and the status that goes with it."""


@dataclass(frozen=True)
class Preparation:
    """What is done to an image before the network sees it.

    Args:

        template (str): As for :func:`~captum_plq.faces.align_face`.
        size (tuple[int, int]): Height and width of a chip.
        aligned (bool): Images are aligned crops.
        all_faces (bool): Take every face found.
        timeout (float): Seconds after which an image is given up.
        anchor (str): Folder or archive that has to be there.
        state (tuple[int, int], optional): Of ``anchor`` when the run began, from
            :func:`source_state`.
        known (Mapping[int, str]): Images that are done, place → their bytes' hash; one of which
            that still holds has a row of the status ``"known"``.
    """

    template: Template
    size: tuple[int, int]
    aligned: bool = False
    all_faces: bool = False
    timeout: float = 60.0
    anchor: str = ""
    state: tuple[int, int] | None = None
    known: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Chunk:
    """Some consecutive entries, made ready.

    Args:

        start (int): The first entry's place in the source.
        rows (list[dict]): One per face, or per image without one; columns → values.
        places (list[int]): For each chip, its row.
        chips (ndarray): (n, H, W, 3), uint8.
        faces (list[AlignedFace]): Of each chip, what is known of its face, without the chip.
        seconds (dict[str, float]): Spent on reading, decoding and aligning.
        entries (int): How many there are.
        pinned (Tensor, optional): The chips in memory that a GPU copies from by itself.
    """

    start: int
    rows: list[dict[str, Any]]
    places: list[int]
    chips: NDArray[np.uint8]
    faces: list[AlignedFace]
    seconds: dict[str, float] = field(default_factory=dict)
    entries: int = 0
    pinned: Tensor | None = None

    def pin_memory(self) -> Chunk:
        """Pin the chips; PyTorch's loader calls this in a thread of its own."""
        self.pinned = torch.from_numpy(self.chips).pin_memory()
        return self

    def tensor(self) -> Tensor:
        """Return the chips as a tensor, pinned if they are."""
        return torch.from_numpy(self.chips) if self.pinned is None else self.pinned


_ONE_COLOUR = "shows one colour only, so there is no face to judge."


class _TooLongError(BaseException):
    """No ``Exception``, which a decoder might take for damage."""


def source_state(anchor: str) -> tuple[int, int] | None:
    """Return which folder or file a path is; ``None``: there is none."""
    try:
        found = os.stat(anchor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def prepare_chunk(entries: list[Entry], how: Preparation) -> Chunk:
    """Read, decode and align some images; what cannot be used becomes a row that says why.

    Args:

        entries (list[Entry]): Consecutive ones.
        how (Preparation): What to do.

    Returns:
        *Chunk*: of these entries.

    Raises:
        SourceGoneError: if the source as a whole is not there any more.
        MissingExtraError: if the extra ``faces`` is not installed.
    """
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    chips: list[NDArray[np.uint8]] = []
    faces: list[AlignedFace] = []
    seconds = {"read": 0.0, "decode": 0.0, "align": 0.0}
    for entry in entries:
        for row, face in _prepare(entry, how, seconds):
            if face is not None and face.chip is not None:
                places.append(len(rows))
                chips.append(face.chip)
                faces.append(replace(face, chip=None))
            rows.append(row)
    stacked = np.stack(chips) if chips else np.empty((0, *how.size, 3), np.uint8)
    return Chunk(entries[0].index, rows, places, stacked, faces, seconds, len(entries))


def lost_chunk(entry: Entry, how: Preparation, reason: str, detail: str) -> Chunk:
    """Return the chunk of an image whose process was lost.

    Args:

        entry (Entry): The image.
        how (Preparation): As for :func:`prepare_chunk`.
        reason (str): ``"crash"`` or ``"timeout"``.
        detail (str): The sentence.
    """
    chips = np.empty((0, *how.size, 3), np.uint8)
    return Chunk(entry.index, [_failure(entry, reason, detail, {})], [], chips, [], {}, 1)


def _is_of_one_colour(chip: NDArray[np.uint8]) -> bool:
    """Tell whether all pixels (H, W, 3) are the same; the first row as a rule says no."""
    first = chip[0, 0]
    return bool((chip[0] == first).all()) and bool((chip == first).all())


def _prepare(
    entry: Entry, how: Preparation, seconds: dict[str, float]
) -> list[tuple[dict[str, Any], AlignedFace | None]]:
    """The rows of an image, each with its face if that can be judged."""
    known: dict[str, Any] = {}
    try:
        with _time_limit(how.timeout):
            return list(_faces(entry, how, seconds, known))
    except ImportError:
        raise
    except _TooLongError:
        reason, detail = "timeout", f"was given up after {how.timeout:g} seconds."
    except ImageError as error:
        reason, detail = error.reason, str(error)
    except NoFaceError as error:
        reason, detail = "no_face", str(error)
    except ValueError as error:
        reason, detail = ("proportions" if how.aligned else "no_face"), str(error)
    except Exception as error:  # whatever a decoder makes of a damaged file
        reason, detail = "error", f"{type(error).__name__}: {error}"
    if (
        REASONS[reason] == "failed"
        and how.state is not None
        and how.state != source_state(how.anchor)
    ):
        raise SourceGoneError(
            f"{how.anchor} is not there any more, or is another one than at the beginning: mend "
            "that, and run the same again to go on."
        )
    return [(_failure(entry, reason, detail.removeprefix(f"{entry.file} "), known), None)]


def _failure(entry: Entry, reason: str, detail: str, known: dict[str, Any]) -> dict[str, Any]:
    return {"index": entry.index, "path": entry.text, **known, **_why(reason, detail)}


def _why(reason: str, detail: str) -> dict[str, Any]:
    detail = detail.encode("utf-8", "backslashreplace").decode("utf-8")
    return {"status": REASONS[reason], "reason": reason, "detail": detail}


def _faces(
    entry: Entry, how: Preparation, seconds: dict[str, float], known: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], AlignedFace | None]]:
    with _clock(seconds, "read"):
        data = read_entry(entry)
        known["sha256"] = hashlib.sha256(data).hexdigest()
    row = {"index": entry.index, "path": entry.text, "status": "ok", **known}
    if how.known.get(entry.index) == known["sha256"]:
        yield {**row, "status": "known"}, None
        return
    with _clock(seconds, "decode"):
        image = decode_image(data, entry.file if entry.offset < 0 else entry.path)
    with _clock(seconds, "align"):
        for found in aligned_faces(
            image,
            template=how.template,
            size=how.size,
            aligned=how.aligned,
            all_faces=how.all_faces,
        ):
            told: dict[str, Any] = {"face": found.number}
            if found.face is not None:
                told |= {
                    "faces": len(found.detected),
                    "box": list(found.face.box),
                    "landmarks": found.face.landmarks.flatten().tolist(),
                    "detector_score": found.face.score,
                    "cut_off": found.cut_off,
                }
            if found.chip is None:
                told |= _why("no_face", found.problem)
            elif _is_of_one_colour(found.chip):
                told |= _why("uninformative", _ONE_COLOUR)
            yield {**row, **told}, found if "reason" not in told else None


@contextmanager
def _clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - start


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise after some seconds, where the system can wake this thread; within C code it cannot."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
