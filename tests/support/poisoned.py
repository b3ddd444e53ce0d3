"""NaN and infinity put into one input of a call after another: no finite number may come out."""

import dataclasses
import itertools
import math

import numpy as np
import torch
from torch import Tensor

POISONS = (math.nan, math.inf, -math.inf)


def poisonings(given, at=()):
    """Every floating input in keyword arguments: its path, as (key, …)."""
    items = given.items() if isinstance(given, dict) else enumerate(given)
    for key, value in items:
        path = (*at, key)
        if isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point()):
            yield path
        elif isinstance(value, (dict, list, tuple)):
            yield from poisonings(value, path)


def poisoned(given, path, poison):
    """The keyword arguments with the first entry of one input replaced."""
    key, *rest = path
    if isinstance(given, dict):
        return {k: _spoilt(v, rest, poison) if k == key else v for k, v in given.items()}
    spoilt = [_spoilt(v, rest, poison) if i == key else v for i, v in enumerate(given)]
    return type(given)(*spoilt) if hasattr(given, "_fields") else type(given)(spoilt)


def _spoilt(value, path, poison):
    if path:
        return poisoned(value, path, poison)
    if isinstance(value, float):
        return poison
    spoilt = value.clone()
    spoilt.view(-1)[0] = poison
    return spoilt


def numbers(result):
    """All numbers in a result: of tensors the first row, the entry that was spoilt being there."""
    if isinstance(result, (Tensor, np.ndarray)):
        row = torch.as_tensor(result)
        return (row[0] if row.ndim else row).reshape(-1).tolist()
    if dataclasses.is_dataclass(result):
        return numbers([getattr(result, f.name) for f in dataclasses.fields(result)])
    if isinstance(result, dict):
        return numbers(list(result.values()))
    if isinstance(result, (list, tuple)):
        return list(itertools.chain.from_iterable(map(numbers, result)))
    return [result] if isinstance(result, float) else []


def cases(table):
    """(name, path) for every floating input of every call of a table: name → (call, arguments)."""
    return [(name, path) for name, (_, given) in table.items() for path in poisonings(given)]


def check(call, given, path, poison, *, parts=False):
    """Fails if a finite number comes out.

    Args:
        parts: Whether it is enough that not all numbers are finite, as of an image.
    """
    try:
        result = call(**poisoned(given, path, poison))
    except ValueError as error:
        said = str(error).lower()
        assert any(word in said for word in ("nan", "finite", "inf", "above", "from", "between")), (
            said
        )
        return
    found = [x for x in numbers(result) if math.isfinite(x)]
    assert (len(found) < len(numbers(result))) if parts else not found, result
