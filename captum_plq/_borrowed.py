"""A copy of a network's modules that shares its weights, to do with as one likes.

PyTorch's hooks and the flags ``training`` and ``requires_grad`` act on every call of a module, in
whatever thread it runs. So nothing here sets them on a caller's network: they are set on a copy of
its tree of modules, made for one call as ``nn.DataParallel`` makes its replicas, that no other call
knows. The copy's parameters and buffers are the caller's own memory; the copy is always in
evaluation mode, runs eagerly, and carries whatever hooks the caller has set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = [
    "borrowed",
    "hooked",
    "modules_behind",
    "modules_of",
    "original_of",
    "own_copy",
    "rebound",
]

_MARK = "_borrowed_by_captum_plq"
_OWN = frozenset(vars(nn.Module()))
_PLAIN = frozenset([bool, bytes, float, int, str, Tensor, type(None)])
_HOLDERS = (FunctionType, MethodType, partial, list, tuple, dict)
_DEPTH = 3
"""How many holders of modules may lie within each other."""

T = TypeVar("T")


def borrowed(model: nn.Module, *, frozen: bool = False) -> nn.Module:
    """A copy of the network for one call, in evaluation mode.

    Modules that a module holds in a list, tuple or dictionary, as a bound method, or in the closure
    of a function, become those of the copy as well. Copies are made without their ``__init__``.

    Args:

        model (nn.Module): Left as it is.
        frozen (bool): The copy's parameters require no grad, so nothing is kept in memory for them.

    Returns:
        *nn.Module*: of the same class, with the same names.
    """
    copies = {
        id(module): module if isinstance(module, torch.jit.ScriptModule) else _copy(module)
        for module in modules_of(model)
    }
    for module in copies.values():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # a program, in which hooks do not fire
        state = vars(module)
        children = state["_modules"]
        for name, child in children.items():
            if child is not None:
                children[name] = copies[id(child)]
        if type(module).__module__.startswith("torch.nn.") and "forward" not in state:
            continue  # PyTorch's own modules hold no others but as children
        for name, value in state.items():
            if type(value) not in _PLAIN and name not in _OWN:
                new = _rebound(value, copies, _DEPTH)
                if new is not None:
                    state[name] = new
    if frozen:
        _freeze(copies.values())
    return copies[id(model)]


def original_of(model: nn.Module) -> nn.Module:
    """What a copy was made of; the model itself if it is none."""
    loan: _Loan | None = vars(model).get(_MARK)
    return model if loan is None else original_of(loan.original)


def own_copy(model: nn.Module) -> nn.Module:
    """The model if it already is a copy that :func:`borrowed` made, or else a copy of it."""
    return model if _MARK in vars(model) else borrowed(model)


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a network, itself first, each once; faster than ``modules()``."""
    found = {id(model): model}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        scripted = isinstance(module, torch.jit.ScriptModule)
        for child in module.children() if scripted else module._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return list(found.values())


def hooked(
    module: nn.Module,
    hook: Callable[..., Any],
    *,
    pre: bool = False,
    with_kwargs: bool = False,
    in_turn: bool = False,
) -> RemovableHandle:
    """Sets a forward hook on a module of a copy; no other thread, call or network will run it.

    Args:

        module (nn.Module): Of a copy that :func:`borrowed` made.
        hook (Callable): As for ``register_forward_hook``.
        pre (bool): Before the module's forward, not after it.
        with_kwargs (bool): The hook takes the keyword arguments too.
        in_turn (bool): Take off what was set on this module in turn before.

    Returns:
        *RemovableHandle*: to take it off again.
    """
    loan: _Loan = vars(module)[_MARK]
    if not loan.has_own_hooks:  # until now they were kept in the original's dictionaries
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                vars(module)[name] = value.copy()
        loan.has_own_hooks = True
    if in_turn and loan.in_turn is not None:
        loan.in_turn.remove()
    register = module.register_forward_pre_hook if pre else module.register_forward_hook
    handle: RemovableHandle = register(hook, with_kwargs=with_kwargs)
    if in_turn:
        loan.in_turn = handle
    return handle


def rebound(value: T, copies: Mapping[int, nn.Module], depth: int = _DEPTH) -> T:
    """The value with modules replaced by their copies; itself where it holds none.

    Args:

        value (object): A module, a bound method, a function, a ``partial``, a list, tuple or
            dictionary, or anything else, which is returned as it is.
        copies (Mapping[int, nn.Module]): By the ``id`` of the module.
        depth (int): How many of these may lie within each other.
    """
    new = _rebound(value, copies, depth)
    return value if new is None else new


def modules_behind(function: object, depth: int = _DEPTH) -> list[nn.Module]:
    """The modules that a callable is bound to, closes over, or names as globals.

    Args:

        function (object): Of the kinds that :func:`rebound` knows.
        depth (int): How many of these may lie within each other.

    Returns:
        *list[nn.Module]*: each once, those found first in front.
    """
    if isinstance(function, nn.Module):
        return [function]
    found = [
        module for part in _parts(function) if depth for module in modules_behind(part, depth - 1)
    ]
    return list(dict.fromkeys(found))


@dataclass
class _Loan:
    """What is known of a module of a copy."""

    original: nn.Module
    has_own_hooks: bool = False
    in_turn: RemovableHandle | None = None


class _Eager(nn.Module):
    """Stands in a copy for a compiled module: runs what was compiled, as it is."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._orig_mod = original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the module that was compiled."""
        return self._orig_mod(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._orig_mod)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        return self._orig_mod[key]  # type: ignore[index]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)


def _copy(module: nn.Module) -> nn.Module:
    """The module alone: its children are still the original's."""
    kind = type(module)
    copy: nn.Module
    if kind.__name__ == "OptimizedModule":
        copy, state = _Eager.__new__(_Eager), vars(nn.Module())
        state.update({name: value for name, value in vars(module).items() if name in _OWN})
    else:  # not by the class's own __new__, which for a GraphModule makes another class
        copy, state = object.__new__(kind), vars(module).copy()
    if state["_modules"]:
        state["_modules"] = state["_modules"].copy()
    state["training"] = False
    state[_MARK] = _Loan(module)
    if state.get("_compiled_call_impl") is not None:  # of module.compile()
        state["_compiled_call_impl"] = None
    object.__setattr__(copy, "__dict__", state)
    return copy


def _freeze(modules: Iterable[nn.Module]) -> None:
    frozen: dict[int, Tensor] = {}
    for module in modules:
        trainable = {
            name: parameter
            for name, parameter in module._parameters.items()
            if type(parameter) is nn.Parameter and parameter.requires_grad
        }
        if trainable:
            vars(module)["_parameters"] = module._parameters.copy()
        for name, parameter in trainable.items():
            if id(parameter) not in frozen:
                frozen[id(parameter)] = parameter.detach()  # a tensor: cheaper than a Parameter
            module._parameters[name] = frozen[id(parameter)]  # type: ignore[assignment]


def _parts(value: object) -> list[object]:
    """What lies directly within a value of the kinds that can be rebound."""
    if isinstance(value, MethodType):
        inside = value.__self__
        own = [] if isinstance(inside, (nn.Module, type)) else list(vars_of(inside).values())
        return [inside, *own]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _is_filled(c)]
        named = [value.__globals__[n] for n in _global_names(value.__code__, value.__globals__)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *named]
    if isinstance(value, (list, tuple)):
        return list(value)
    return list(value.values()) if isinstance(value, dict) else []


def _rebound(value: object, copies: Mapping[int, nn.Module], depth: int) -> Any:
    """As :func:`rebound`; ``None`` where nothing is to be replaced."""
    if type(value) in _PLAIN:
        return None
    if isinstance(value, nn.Module):
        return copies.get(id(value))
    if depth == 0 or not isinstance(value, _HOLDERS):
        return None

    def anew(part: object) -> Any:
        return _rebound(part, copies, depth - 1)

    if isinstance(value, (list, tuple, dict)):
        return _rebound_container(value, anew)
    if not any(anew(part) is not None for part in _parts(value)):
        return None

    def put(part: Any) -> Any:
        new = anew(part)
        return part if new is None else new

    if isinstance(value, MethodType):
        return MethodType(value.__func__, _owner(value.__self__, put))
    if isinstance(value, partial):
        keywords = {k: put(v) for k, v in value.keywords.items()}
        return partial(put(value.func), *map(put, value.args), **keywords)
    assert isinstance(value, FunctionType)
    cells = tuple(
        CellType(put(c.cell_contents)) if _is_filled(c) else c for c in value.__closure__ or ()
    )
    names = _global_names(value.__code__, value.__globals__)
    replaced = {n: new for n in names if (new := anew(value.__globals__[n])) is not None}
    known = {**value.__globals__, **replaced} if replaced else value.__globals__
    defaults = None if value.__defaults__ is None else tuple(map(put, value.__defaults__))
    function = FunctionType(value.__code__, known, value.__name__, defaults, cells or None)
    if value.__kwdefaults__:
        function.__kwdefaults__ = {k: put(v) for k, v in value.__kwdefaults__.items()}
    return function


def _rebound_container(value: Any, anew: Any) -> Any:
    """A plain list, tuple or dictionary with what is in it replaced; others are left alone."""
    kind = type(value)
    if kind not in (list, tuple, dict):
        return None
    items = value.items() if kind is dict else enumerate(value)
    new = {key: part for key, old in items if (part := anew(old)) is not None}
    if not new:
        return None
    if kind is dict:
        return {**value, **new}
    return kind(new.get(i, old) for i, old in enumerate(value))


def _owner(owner: Any, put: Any) -> Any:
    """What a method is bound to: a module's copy, or a copy of any other object around it."""
    if isinstance(owner, nn.Module):
        return put(owner)
    copy = object.__new__(type(owner))
    copy.__dict__.update({name: put(part) for name, part in vars(owner).items()})
    return copy


def vars_of(value: object) -> dict[str, object]:
    """The attributes of an object that has a dictionary of them."""
    return getattr(value, "__dict__", {})


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises where the variable is not yet set
    except ValueError:
        return False
    return True


def _global_names(code: CodeType, known: Mapping[str, object]) -> list[str]:
    """Globals that a function, or one defined inside it, refers to and that can be rebound."""
    names = [n for n in code.co_names if isinstance(known.get(n), (nn.Module, partial, MethodType))]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _global_names(constant, known)
    return names
