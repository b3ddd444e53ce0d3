"""Loads a network of the user's own from a Python file that builds it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from os import PathLike
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.weight_files.regular_file import regular_file
from captum_plq.models.weight_files.sound import refuse_unsound

__all__ = ["load_user_file"]


def load_user_file(path: str | PathLike[str]) -> FaceModel:
    """Run a Python file and call the ``load_model()`` that it defines.

    The file is code and may do anything: only load files you trust. While it runs, its own
    folder is first on the module search path, as with ``python file.py``, so it may import
    the file next to it in which the architecture is defined. The CPU's global random state
    is put back afterwards. What it prints goes to the standard error.

    Args:

        path (str or PathLike): A ``.py`` file that defines ``load_model()``, without
            arguments, returning a :class:`FaceModel`, or the network and its
            :class:`ModelSpec` as a tuple.

    Returns:
        *FaceModel*: in eval mode, whatever mode the file left it in.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it raises or exits (the cause is chained), lacks ``load_model``, or
            returns something else, or a network with NaN in its parameters.

    Examples::

        >>> # my_network.py, complete; my_network.pt lies next to it
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_plq.models import FaceModel, ModelSpec
        >>> from iresnet import iresnet50  # the architecture, from iresnet.py next to it
        >>>
        >>> def load_model() -> FaceModel:
        ...     net = iresnet50()
        ...     file = Path(__file__).with_name("my_network.pt")
        ...     net.load_state_dict(torch.load(file, weights_only=True))
        ...     return FaceModel(net, ModelSpec("mine", (112, 112), (127.5,) * 3, (127.5,) * 3))
        >>>
        >>> # anywhere else
        >>> model = load_user_file("my_network.py")
    """
    path = regular_file(path).resolve()
    # A name of its own, so that it neither hides a module nor is hidden by one.
    name = f"_captum_plq_user_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    before = sys.modules.get(name)
    sys.path.insert(0, str(path.parent))
    try:
        # What it prints is no result of ours.
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):
            model = _face_model(path, _run(path, name))
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    finally:
        with contextlib.suppress(ValueError):  # the file may have removed it itself
            sys.path.remove(str(path.parent))
    return model.eval()


def _run(path: Path, name: str) -> object:
    """Return what the file's ``load_model()`` returns."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look the module up
    try:
        # Compiled here, as the import system would leave a __pycache__ next to the file.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} could not be run: {_describe(error)}") from error
    load = getattr(module, "load_model", None)
    if not callable(load):
        raise ValueError(
            f"{path} defines no function load_model(): write one that takes nothing and returns "
            "FaceModel(network, ModelSpec(...))."
        )
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"load_model() of {path} failed: {_describe(error)}") from error


def _face_model(path: Path, result: object) -> FaceModel:
    match result:
        case FaceModel():
            model = result
        case (nn.Module() as network, ModelSpec() as spec) if not isinstance(network, FaceModel):
            model = FaceModel(network, spec)
        case _:
            parts = result if isinstance(result, tuple) else (result,)
            got = ", ".join(type(part).__name__ for part in parts)
            raise ValueError(
                f"load_model() of {path} must return a FaceModel, or a tuple of a network "
                f"(torch.nn.Module) and a ModelSpec, but returned {got}."
            )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(
            f"load_model() of {path} returned a TorchScript module, whose layers do not call "
            "the hooks that find the embedding: return the nn.Module it was scripted from."
        )
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # others may hold what they like
            weights[name] = buffer
    refuse_unsound(f"The network of {path}", weights)
    return model


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
