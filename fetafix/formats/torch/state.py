"""State dicts: tensors by name, with the architecture from the user's own code (`--arch module:factory`)."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetafix.errors import FetafixError, UnreadableModel
from fetafix.formats.arch import built
from fetafix.formats.base import OpenOptions, Unsupported
from fetafix.formats.torch import fx as torch_fx
from fetafix.formats.torch import pickle as torch_pickle
from fetafix.formats.torch import safetensors as torch_safetensors
from fetafix.formats.torch import signature as torch_signature
from fetafix.formats.torch.program import Program, damaged, settled

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params", "ema_state_dict", "state_dict_ema")
_PARALLEL = "module."
_TENSORS_ONLY = "a state dict holds tensors only; the layers and their settings live in your code"


def open_state_dict(path: Path, options: OpenOptions) -> Program:
    """The factory's module with the file's tensors. Raises UsageError for a wrong --arch, UnreadableModel otherwise."""
    import torch

    if not options.arch:
        raise UnreadableModel(
            f"{path}: a state dict holds tensors without the architecture. Give the function that builds it: "
            f"--arch module:factory (importable from the current folder, returning an nn.Module)"
        )
    content = container(path, options.trust)
    wrapper, tensors = unwrap(content, path)
    module = built(options.arch, torch.nn.Module, "an nn.Module", "models:resnet20")
    prefix = _prefix(tensors, module)
    _fill(module, {k.removeprefix(prefix): v for k, v in tensors.items()}, path, options.arch)
    details: dict[str, Any] = {"arch": options.arch, "wrapper": wrapper, "prefix": prefix}
    settled(module, {})
    graph = torch_fx.trace(module)

    def save(gm: Any, structural: bool, out: Path) -> None:
        if structural:
            raise Unsupported(_TENSORS_ONLY)
        _save(content, wrapper, prefix, gm, out, torch_safetensors.is_file(path))

    inputs = torch_signature.of_module(module, options.input_shapes)
    return Program(module, inputs, lambda args: module(*args), graph, save, details, tensors_only=_TENSORS_ONLY)


def container(path: Path, trust: bool = False) -> Any:
    """What a file of tensors holds: a dictionary. Raises UnreadableModel, UntrustedModel."""
    import torch

    if torch_safetensors.is_file(path):
        return torch_safetensors.load(path)
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise damaged(path, error) from error
        if trust:
            return torch.load(path, weights_only=False, map_location="cpu")
        reason = next(
            (line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), "it holds objects"
        )
        raise torch_pickle.refuse(path, f"the checkpoint holds more than tensors ({reason.strip()[:200]})") from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise damaged(path, error) from error


def unwrap(container: Any, path: Path) -> tuple[str, Mapping[str, Any]]:
    """(key of the wrapper or "", the tensors by name)."""
    import torch

    def is_state(value: Any) -> bool:
        return isinstance(value, Mapping) and any(isinstance(v, torch.Tensor) for v in value.values())

    for key in _WRAPPERS:
        if isinstance(container, Mapping) and is_state(container.get(key)):
            return key, {k: v for k, v in container[key].items() if isinstance(v, torch.Tensor)}
    if is_state(container):
        return "", {k: v for k, v in container.items() if isinstance(v, torch.Tensor)}
    keys = ", ".join(map(str, list(container)[:8])) if isinstance(container, Mapping) else type(container).__name__
    raise UnreadableModel(
        f"{path}: no state dict in it; expected tensors by name, or one of {', '.join(_WRAPPERS[:4])}; found {keys}"
    )


def _prefix(tensors: Mapping[str, Any], module: Any) -> str:
    """The prefix that DataParallel left on every key."""
    own = module.state_dict()
    wrapped = bool(tensors) and all(k.startswith(_PARALLEL) for k in tensors)
    return _PARALLEL if wrapped and not any(k in own for k in tensors) else ""


def _fill(module: Any, tensors: dict[str, Any], path: Path, arch: str) -> None:
    try:
        result = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        shapes = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise _mismatch(path, arch, "; ".join(shapes[:4]) or str(error)) from error
    missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        parts = [
            f"{what}: {', '.join(keys[:6])}{' …' if len(keys) > 6 else ''}"
            for what, keys in (("missing", missing), ("unexpected", result.unexpected_keys))
            if keys
        ]
        raise _mismatch(path, arch, "; ".join(parts))


def _mismatch(path: Path, arch: str, what: str) -> FetafixError:
    return UnreadableModel(
        f"{path}: does not fit {arch}: {what}. Check that --arch builds the architecture of this file."
    )


def _save(container: Any, wrapper: str, prefix: str, gm: Any, out: Path, safetensors: bool) -> None:
    """The same container, wrapper, prefix, order and dtypes, with the tensors that changed."""
    import torch

    held = container[wrapper] if wrapper else container
    for path, value in gm.state_dict().items():
        key = prefix + path
        if key in held and not torch.equal(held[key], value.to(held[key].dtype)):
            held[key] = value.detach().to(held[key].dtype)
    if safetensors:
        torch_safetensors.save(held, out)
    else:
        torch.save(container, out)
