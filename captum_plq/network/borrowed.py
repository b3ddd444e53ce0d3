"""A copy of a network's modules that shares its weights, free to be hooked and switched.

PyTorch's hooks and the flags ``training`` and ``requires_grad`` act on every call of a module, in
whatever thread it runs. So nothing here sets them on a caller's network: they are set on a copy of
its tree of modules, made for one call as ``nn.DataParallel`` makes its replicas, that no other call
knows. The copy's parameters and buffers are the caller's own memory; the copy is always in
evaluation mode and runs eagerly.

The caller's hooks are the copy's too, and are called with the caller's modules; those that are
methods of the network itself, or close over its ``self``, are bound to the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import nn

from captum_plq.network.rebinding import Rebinder

__all__ = [
    "HOOKS",
    "STRUCTURE",
    "borrowed",
    "hookable",
    "is_searched",
    "modules_of",
    "original_of",
    "own_attributes",
    "own_copy",
    "unhook",
    "with_weights",
    "without_grad",
]

Module = TypeVar("Module", bound=nn.Module)

_MARK = "_borrowed_by_captum_plq"
"""Attribute of a copy that holds what it was made of."""
STRUCTURE = "_structure_by_captum_plq"
"""Attribute of a copy that is kept, of what :func:`~captum_plq.network.exploration.structure_of`
gives."""
_HOOKED = "_hooked_by_captum_plq"
"""Attribute of a copy: a list, one for all modules of the tree, of those that have own hooks."""
_OWN = frozenset({*vars(nn.Module()), _MARK, STRUCTURE, _HOOKED})
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Dictionaries of the hooks that a module runs."""
_FUNCTIONS = frozenset([FunctionType, MethodType])


def borrowed(model: Module, *, frozen: bool = False) -> Module:
    """Return a copy of the network for one call, in evaluation mode.

    Modules that a module holds in a container, an object, a bound method or the closure of a
    function become those of the copy as well. Copies are made without their ``__init__``.

    Args:

        model (nn.Module): Left as it is.
        frozen (bool): The copy's parameters require no grad, so nothing is kept in memory for them.

    Returns:
        *nn.Module*: of the same class, with the same names.
    """
    copies: dict[int, nn.Module] = {}
    waiting: list[nn.Module] = []
    hooked: list[nn.Module] = []

    def copy_of(module: nn.Module, training: bool | None = None) -> nn.Module:
        for inner in modules_of(module) if id(module) not in copies else ():
            if id(inner) not in copies:
                mode = inner.training if training is None else training
                copies[id(inner)] = _copy(inner, mode, hooked)
                waiting.append(copies[id(inner)])
        return copies[id(module)]

    copied = copy_of(model, training=False)
    rebind = Rebinder(copy_of)  # what is not a child of any keeps its mode
    while waiting:
        copy = waiting.pop()
        if isinstance(copy, torch.jit.ScriptModule):
            continue  # a program, in which hooks do not fire
        state = vars(copy)
        for name, child in state["_modules"].items():
            if child is not None:
                state["_modules"][name] = copies[id(child)]
        if is_searched(copy):
            state.update({name: rebind(value) for name, value in own_attributes(copy).items()})
        if any(map(state.get, HOOKS)):
            for name in HOOKS:
                hooks = vars(hookable(copy))[name]
                for key, hook in hooks.items():
                    hooks[key] = _hook_on_copy(hook, original_of(copy), copies, rebind)
        if frozen and state["_parameters"]:
            state["_parameters"] = without_grad(state["_parameters"])
    return copied  # type: ignore[return-value]


def without_grad(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a module as tensors that share their memory and require no grad."""
    return {
        name: p.detach() if type(p) is nn.Parameter and p.requires_grad else p
        for name, p in parameters.items()
    }


def with_weights(model: Module, weights: Mapping[int, torch.Tensor]) -> Module:
    """Return a copy for one call some of whose parameters are other tensors.

    Args:

        model (nn.Module): Left as it is.
        weights (mapping): The ``id`` of a parameter → what stands in its place, of its shape.

    Returns:
        *nn.Module*: as of :func:`borrowed`; its other parameters require no grad.
    """
    copy, frozen = borrowed(model), dict[int, torch.Tensor]()
    for module in modules_of(copy):
        state = vars(module)
        if isinstance(module, torch.jit.ScriptModule) or not state["_parameters"]:
            continue
        own = dict(state["_parameters"])
        for name, p in own.items():
            if p is not None:
                other = weights.get(id(p))
                own[name] = frozen.setdefault(id(p), p.detach()) if other is None else other
        state["_parameters"] = own
    return copy


def original_of(model: nn.Module) -> nn.Module:
    """Return what a copy was made of; the model itself if it is not a copy."""
    while _MARK in vars(model):
        model = vars(model)[_MARK]
    return model


def own_copy(model: nn.Module) -> nn.Module:
    """Return the model if :func:`borrowed` made it, or else a copy of it."""
    return model if _MARK in vars(model) else borrowed(model)


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return all modules of a network, itself first, each once; faster than ``modules()``."""
    found = {id(model): model}
    waiting = [model]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return list(found.values())


def hookable(module: nn.Module) -> nn.Module:
    """Return a module of a copy, ready to be given hooks that no other call or network runs.

    Until then it shares the hooks of its original.
    """
    state, shared = vars(module), vars(vars(module)[_MARK])
    if state["_forward_hooks"] is shared["_forward_hooks"]:
        for name, value in state.items():
            if "_hooks" in name and isinstance(value, dict):
                state[name] = value.copy()
        state[_HOOKED].append(module)
    return module


def unhook(copy: nn.Module) -> None:
    """Take all hooks off a copy, and off its children, but those of its original.

    Args:

        copy (nn.Module): Of :func:`borrowed`.
    """
    hooked = vars(copy)[_HOOKED]
    while hooked:
        state = vars(hooked.pop())
        original = vars(state[_MARK])
        state.update({name: hooks for name, hooks in original.items() if "_hooks" in name})


def is_searched(module: nn.Module) -> bool:
    """Tell whether a module may hold modules elsewhere than as children.

    PyTorch's own do not, but in functions given to them.
    """
    state = vars(module)
    pytorchs = type(module).__module__.startswith("torch.nn.") and "forward" not in state
    return not pytorchs or not _FUNCTIONS.isdisjoint(map(type, state.values()))


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes, without those that every module has."""
    return {name: value for name, value in vars(module).items() if name not in _OWN}


class _Eager(nn.Module):
    """Stands in a copy for a compiled module: runs what was compiled, as it is."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module that was compiled."""
        return self._orig_mod(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._orig_mod)

    def __getattr__(self, name: str) -> Any:
        original = vars(self)["_modules"]["_orig_mod"]
        return original if name == "_orig_mod" else getattr(original, name)


def _copy(module: nn.Module, training: bool, hooked: list[nn.Module]) -> nn.Module:
    """Copy the module alone: its children are still the original's."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    copy: nn.Module
    if type(module).__name__ == "OptimizedModule":
        copy, state = _Eager.__new__(_Eager), vars(nn.Module())
        state.update({name: value for name, value in vars(module).items() if name in _OWN})
    else:  # not by the class's own __new__, which for a GraphModule makes another class
        copy, state = object.__new__(type(module)), vars(module).copy()
    if state["_modules"]:
        state["_modules"] = state["_modules"].copy()
    state["training"] = training
    state[_MARK], state[_HOOKED] = module, hooked
    if state.get("_compiled_call_impl") is not None:  # of module.compile()
        state["_compiled_call_impl"] = None
    object.__setattr__(copy, "__dict__", state)
    return copy


def _hook_on_copy(
    hook: Callable[..., Any], original: nn.Module, copies: dict[int, nn.Module], rebind: Rebinder
) -> Callable[..., Any]:
    """Bind a hook of the network itself to the copy; call any other with the caller's module.

    PyTorch's own (``weight_norm``, ``prune``) compute a weight of the module they are called with.
    """
    if type(hook).__module__.startswith("torch.nn.utils."):
        return hook
    own = isinstance(hook, MethodType) and id(hook.__self__) in copies
    closes = isinstance(hook, FunctionType) and "self" in hook.__code__.co_freevars
    if own or closes:
        bound: Callable[..., Any] = rebind(hook)
        return bound

    def call(_: nn.Module, *args: Any) -> Any:
        return hook(original, *args)

    return call
