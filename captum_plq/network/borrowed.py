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

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from captum_plq.network.rebinding import Rebinder

__all__ = [
    "borrowed",
    "hooked",
    "modules_of",
    "original_of",
    "originals_that_run",
    "own_copy",
]

Module = TypeVar("Module", bound=nn.Module)

_MARK = "_borrowed_by_captum_plq"
_OWN = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_FUNCTIONS = (FunctionType, MethodType)


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
    copies = {id(module): _copy(module) for module in modules_of(model)}
    waiting = list(copies.values())

    def copy_of(module: nn.Module) -> nn.Module:
        if id(module) not in copies:  # not a child of any: it keeps its mode
            for inner in modules_of(module):
                if id(inner) not in copies:
                    copies[id(inner)] = _copy(inner, training=inner.training)
                    waiting.append(copies[id(inner)])
        return copies[id(module)]

    rebind = Rebinder(copy_of)
    while waiting:
        copy = waiting.pop()
        if isinstance(copy, torch.jit.ScriptModule):
            continue  # a program, in which hooks do not fire
        state = vars(copy)
        children = state["_modules"]
        for name, child in children.items():
            if child is not None:
                children[name] = copies[id(child)]
        pytorch = type(copy).__module__.startswith("torch.nn.") and "forward" not in state
        for name, value in state.items():
            # PyTorch's own modules hold no others but as children, and in functions given to them
            if name not in _OWN and name != _MARK and (not pytorch or type(value) in _FUNCTIONS):
                state[name] = rebind(value)
        for name in _HOOKS:
            if state[name]:
                _own_hooks(copy)
                hooks = state[name]
                for key, hook in hooks.items():
                    hooks[key] = _hook_on_copy(hook, original_of(copy), copies, rebind)
    if frozen:
        _freeze(copies.values())
    return copies[id(model)]  # type: ignore[return-value]


def original_of(model: nn.Module) -> nn.Module:
    """Return what a copy was made of; the model itself if it is not a copy."""
    loan: _Loan | None = vars(model).get(_MARK)
    return model if loan is None else original_of(loan.original)


def own_copy(model: nn.Module) -> nn.Module:
    """Return the model if :func:`borrowed` made it, or else a copy of it."""
    return model if _MARK in vars(model) else borrowed(model)


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return all modules of a network, itself first, each once; faster than ``modules()``."""
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
    """Set a forward hook on a module of a copy; no other thread, call or network runs it.

    Args:

        module (nn.Module): Of a copy that :func:`borrowed` made.
        hook (Callable): As for ``register_forward_hook``.
        pre (bool): Before the module's forward, not after it.
        with_kwargs (bool): The hook takes the keyword arguments too.
        in_turn (bool): Take off what was set on this module in turn before.

    Returns:
        *RemovableHandle*: to take it off again.
    """
    loan = _own_hooks(module)
    if in_turn and loan.in_turn is not None:
        loan.in_turn.remove()
    register = module.register_forward_pre_hook if pre else module.register_forward_hook
    handle: RemovableHandle = register(hook, with_kwargs=with_kwargs)
    if in_turn:
        loan.in_turn = handle
    return handle


@contextmanager
def originals_that_run(
    model: nn.Module, complain: Callable[[str], Exception]
) -> Iterator[list[str]]:
    """Record which original modules run in this thread in place of their copies.

    Args:

        model (nn.Module): The network that copies are made of.
        complain (Callable): Makes an exception of a module's name.

    Yields:
        *list[str]*: their names so far.

    Raises:
        Exception: what ``complain`` makes, before a module in training mode runs.
    """
    names = {
        id(module): name
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    }
    thread, ran = threading.get_ident(), list[str]()

    def look(module: nn.Module, _: object) -> None:
        if id(module) in names and threading.get_ident() == thread and _MARK not in vars(module):
            if module.training:
                raise complain(names[id(module)])
            ran.append(names[id(module)])

    with register_module_forward_pre_hook(look):
        yield ran


@dataclass
class _Loan:
    """What is recorded about a module of a copy."""

    original: nn.Module
    has_own_hooks: bool = False
    in_turn: RemovableHandle | None = None


class _Eager(nn.Module):
    """Stands in a copy for a compiled module: runs what was compiled, as it is."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._orig_mod = original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module that was compiled."""
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


def _copy(module: nn.Module, *, training: bool = False) -> nn.Module:
    """Copy the module alone: its children are still the original's."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    kind = type(module)
    copy: nn.Module
    if kind.__name__ == "OptimizedModule":
        copy, state = _Eager.__new__(_Eager), vars(nn.Module())
        state.update({name: value for name, value in vars(module).items() if name in _OWN})
    else:  # not by the class's own __new__, which for a GraphModule makes another class
        copy, state = object.__new__(kind), vars(module).copy()
    if state["_modules"]:
        state["_modules"] = state["_modules"].copy()
    state["training"] = training
    state[_MARK] = _Loan(module)
    if state.get("_compiled_call_impl") is not None:  # of module.compile()
        state["_compiled_call_impl"] = None
    object.__setattr__(copy, "__dict__", state)
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(module, slot):
                object.__setattr__(copy, slot, getattr(module, slot))
    return copy


def _own_hooks(module: nn.Module) -> _Loan:
    """Give a module of a copy hooks of its own; until then it shares the original's."""
    loan: _Loan = vars(module)[_MARK]
    if not loan.has_own_hooks:
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                vars(module)[name] = value.copy()
        loan.has_own_hooks = True
    return loan


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
