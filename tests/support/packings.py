"""What networks return: their embedding in tuples, dictionaries and objects."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.support.architectures import Head


@dataclass
class Output:
    feature: Tensor
    name: str = "face"
    norm: Tensor | None = None


NamedOutput = namedtuple("NamedOutput", ["feature", "norm"])


class ModelOutput(OrderedDict):
    """As Hugging Face's: keys, attributes and slices of the same values."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Packed(Head):
    """Returns whatever ``pack`` makes of the embedding."""

    def __init__(self, pack: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, x: Tensor) -> object:
        return self.pack(super().forward(x))


def norm_of(x: Tensor) -> Tensor:
    return x.norm(dim=1, keepdim=True)


PACKINGS = {
    "tuple": (lambda x: (x, norm_of(x)), 0),
    "list": (lambda x: [norm_of(x), x], 1),
    "dict": (lambda x: {"norm": norm_of(x), "feature": x}, "feature"),
    "dataclass": (lambda x: Output(x, norm=norm_of(x)), "feature"),
    "namedtuple by name": (lambda x: NamedOutput(x, norm_of(x)), "feature"),
    "namedtuple by index": (lambda x: NamedOutput(x, norm_of(x)), 0),
    "model output": (
        lambda x: ModelOutput(last_hidden_state=x.unsqueeze(1), pooler_output=x),
        "pooler_output",
    ),
    "function": (lambda x: {"deep": [None, (x, 1)]}, lambda out: out["deep"][1][0]),
    "tensor by function": (lambda x: torch.cat([x, norm_of(x)], 1), lambda out: out[:, :-1]),
}
"""Name → what a model does with its embedding, and the selector that gets it back."""

LONE = {
    "tuple": lambda x: (x,),
    "list": lambda x: [None, x],
    "dict": lambda x: {"feature": x, "name": "face"},
    "dataclass": lambda x: Output(x),
    "namedtuple": lambda x: NamedOutput(x, None),
    "model output": lambda x: ModelOutput(feature=x),
    "twice the same tensor": lambda x: (x, x),
}
"""Containers with one tensor: no selector needed."""
