"""``read_weights``, on files of weights, damaged or made to mislead."""

import io
import json
import struct
import zipfile

import torch
from safetensors.torch import save
from torch import Tensor

from captum_plq.models.weight_files.read import read_weights
from tests.fuzz.mutations import archive, damaged_archive, spoil
from tests.fuzz.target import Case, FileTarget, Finding

_OPCODES = (
    b"().0125BCFGHIJKLMNPQRSTUVX]_abcdeghijlopqrstu}"
    b"\x80\x81\x82\x85\x86\x87\x88\x8a\x8c\x8d\x8f\x93\x94\x95"
)
_VALUES = (
    "F32", "F16", "BF16", "I64", "BOOL", "F4", "F8_E4M3", "C64", [], [0], [1], [2**40], [2**63],
    [-1], [0, 4], [4, 0], [0, 2**62], None, 1.5, {"a": 1}, "x", True,
)  # fmt: skip
_NAMES = ("extra", "fc.weight", 3, None, ("a", 1), b"a", "", "\0", "a" * 5000)
_METADATA = ({"a": "b"}, {"a": 1}, [], "x", {"\0": "\0"})


class WeightFiles(FileTarget):
    """Any file: a ``ValueError`` that names it, or finite tensors on the CPU by name."""

    def __init__(self, folder):
        super().__init__(folder)
        generator = torch.Generator().manual_seed(0)
        self.state = {
            "conv.weight": torch.randn(8, 3, 3, 3, generator=generator),
            "bn.running_var": torch.rand(8, generator=generator),
            "bn.num_batches_tracked": torch.tensor(3),
            "fc.weight": torch.randn(16, 8, generator=generator).half(),
        }
        checkpoint = {"state_dict": self.state, "epoch": 3, "optimizer": {"lr": 0.1}}
        self.files = {
            "safetensors": save(self.state),
            "zip": _saved(self.state),
            "zip, a checkpoint": _saved(checkpoint),
            "legacy": _saved(self.state, _use_new_zipfile_serialization=False),
        }

    def case(self, rng):
        way = rng.choice(("bytes", "bytes", "header", "members", "pickle", "content"))
        if way == "bytes":
            name = rng.choice(tuple(self.files))
            damage, data = spoil(rng, self.files[name], tuple(self.files.values()))
            return Case(f"{name}: {damage}", data, rng.choice((".pth", ".safetensors", ".bin")))
        if way == "header":
            return Case(way, self._header(rng), ".safetensors")
        if way == "content":
            return Case(way, self._content(rng), ".pth")
        with zipfile.ZipFile(io.BytesIO(self.files[rng.choice(("zip", "zip, a checkpoint"))])) as z:
            parts = {name: z.read(name) for name in z.namelist()}
        if way == "members":
            return Case(way, damaged_archive(rng, parts.items(), rng.random() < 0.1), ".pth")
        name = next(name for name in parts if name.endswith("data.pkl"))
        parts[name] = _other_opcodes(rng, parts[name])
        return Case(way, archive(parts.items()), ".pth")

    def load(self, path, case):
        weights = read_weights(path)
        if not weights:
            raise Finding("no tensors, and no word")
        for name, x in weights.items():
            if not isinstance(name, str) or not isinstance(x, Tensor):
                raise Finding(f"not tensors by name, {type(name)}: {type(x)}")
            if x.layout != torch.strided or x.device.type != "cpu" or x.is_quantized:
                raise Finding(f"not plain tensors on the CPU, {name}: {x.layout} {x.device}")
            if x.is_floating_point() and not bool(x.isfinite().all()):
                raise Finding(f"weights that are not finite, {name}")
            x.clone()
        same = weights.keys() == self.state.keys() and all(
            torch.equal(weights[n], self.state[n]) for n in weights
        )
        if not same and case.kind.endswith("truncated"):
            raise Finding(f"truncated, loaded as good, {case.kind}")
        return "loaded, the same" if same else "loaded, other weights"

    def _header(self, rng):
        """A safetensors file whose header says something else, or is of a telling length."""
        data = self.files["safetensors"]
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        for _ in range(rng.choice((0, 1, 1, 2))):
            entry = header[rng.choice(tuple(header))]
            entry[rng.choice(("dtype", "shape", "data_offsets", "x"))] = rng.choice(_VALUES)
        if rng.random() < 0.1:
            header["__metadata__"] = rng.choice(_METADATA)
        text = json.dumps(header).encode()
        if rng.random() < 0.1:
            text = b"[" * rng.choice((10, 100_000)) + text
        first = rng.choice((0, 0x20, 0x28, 0x3C, 0x50, 0x7B, 0x80))
        text = text.ljust(rng.choice((0, first + 0x7B00, first + 0x3C00)))  # as others begin
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    def _content(self, rng):
        """A file that torch.save wrote, of something that is no good as weights."""
        state, key = dict(self.state), rng.choice(("state_dict", "model", "net", 3, ""))
        match rng.choice(("in", "instead", "under", "deep", "self")):
            case "in":
                state[rng.choice(_NAMES)] = _odd_tensor(rng)
            case "instead":
                state = _odd_tensor(rng)
            case "under":
                state = {key: rng.choice((state, _odd_tensor(rng), []))}
            case "deep":
                for _ in range(rng.choice((1, 3, 50, 900))):
                    state = {rng.choice(("model", "state_dict")): state}
            case "self":
                state[key] = state
        try:
            return _saved(state, _use_new_zipfile_serialization=rng.random() < 0.7)
        except RecursionError:
            return _saved({})


def _other_opcodes(rng, pickled):
    pickled = bytearray(pickled)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place, code = rng.randrange(len(pickled)), bytes([rng.choice(_OPCODES)])
        put, cut = rng.choice(((code, 1), (code, 0), (code * 2, 0), (code * 900, 0), (b"", 2)))
        pickled[place : place + cut] = put
    return bytes(pickled)


def _odd_tensor(rng):
    eye = torch.eye(4)
    plain = rng.choice((3, None, "x", [eye], (eye, eye), {"a": eye}, b"", 1.5))
    made = (
        lambda: eye.to_sparse(),
        lambda: eye.to_sparse_csr(),
        lambda: torch.empty(3, 3, device="meta"),
        lambda: torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8),
        lambda: torch.zeros(1).expand(2 ** rng.choice((4, 28, 40))),
        lambda: eye * rng.choice((float("nan"), float("inf"), 1e-45)),
        lambda: eye.to(rng.choice((torch.complex64, torch.bool, torch.bfloat16, torch.int8))),
        lambda: torch.empty(rng.choice(((0,), (0, 3), (2, 0, 5)))),
        lambda: eye.t()[1:, ::2],
        lambda: torch.nn.Parameter(eye),
        lambda: plain,
    )
    return rng.choice(made)()


def _saved(thing, **options):
    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


TARGET = WeightFiles
