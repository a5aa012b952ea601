"""Pickled modules: `torch.save(module)`, above all what onnx2torch writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel, UntrustedModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import build as torch_build
from fetafix.formats.torch import fx as torch_fx
from fetafix.formats.torch import pickle as torch_pickle
from fetafix.formats.torch import signature as torch_signature
from fetafix.formats.torch.program import Program, damaged, settled


def open_module(path: Path, options: OpenOptions) -> Program:
    """A pickled module, rebuilt from allowed parts; with `trust` unpickled by PyTorch where that is not possible."""
    details: dict[str, Any] = {}
    module = settled(_load(path, options.trust), details)
    details["class"] = type(module).__name__
    graph = torch_fx.trace(module)
    own = isinstance(module, type(graph)) and graph is module
    inputs = (
        torch_signature.of_graph(graph, options.input_shapes)
        if own
        else torch_signature.of_module(module, options.input_shapes)
    )
    return Program(
        module, inputs, lambda args: module(*args), graph, lambda gm, deep, out: _save(module, gm, deep, out), details
    )


def _load(path: Path, trust: bool) -> Any:
    import torch

    try:
        record = torch_pickle.load(path)
        if isinstance(record, torch_pickle.Held):
            raise UnreadableModel(f"{path}: holds a tensor; expected a model")
        return torch_build.build(record, path)
    except UntrustedModel:
        if not trust:
            raise
    try:
        module = torch.load(path, weights_only=False, map_location="cpu")
    except Exception as error:  # unpickling runs code of the file, which may fail in any way
        raise damaged(path, error) from error
    if not isinstance(module, torch.nn.Module):
        raise UnreadableModel(f"{path}: holds a {type(module).__name__}; expected an nn.Module")
    return module


def _save(module: Any, gm: Any, structural: bool, out: Path) -> None:
    import torch

    if gm is module or structural:
        torch.save(gm, out)
        return
    copy_tensors(gm, module)
    torch.save(module, out)


def copy_tensors(gm: Any, module: Any) -> None:
    """Give `module` the parameters and buffers of its traced twin, by path."""
    for path, value in [*gm.named_parameters(), *gm.named_buffers()]:
        *owner, name = path.split(".")
        holder = module.get_submodule(".".join(owner))
        (holder._parameters if name in holder._parameters else holder._buffers)[name] = value
