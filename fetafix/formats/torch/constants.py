"""Find the native tensor that held an ONNX constant, by its name or by its value up to transposition."""

from __future__ import annotations

from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.transfer import SetConstant
from fetafix.ir import Array


def as_native(new: Array | None, old: Any, transposed: bool = False) -> Any:
    """The new value as a torch tensor in the old one's shape and dtype. Raises Unsupported where it does not fit."""
    import torch

    if new is None:
        raise Unsupported("the layer needs this tensor")
    array = np.ascontiguousarray(new.T if transposed else new)
    if tuple(array.shape) != tuple(old.shape):
        raise Unsupported(f"the layer's tensor has shape {list(old.shape)}, the new one {list(array.shape)}")
    value = torch.from_numpy(np.array(array))
    if value.is_floating_point() != old.is_floating_point():
        raise Unsupported(f"the layer's tensor is {old.dtype}, the new one {value.dtype}")
    return value.to(old.dtype)


def layer_parameter(module: Any, path: str, change: SetConstant) -> tuple[str, Any] | None:
    """(name within the layer, new value) for a constant of a layer; None where the layer does not hold it."""
    import torch

    if change.node.op in ("Conv", "ConvTranspose", "Gemm") and change.slot == 2 and hasattr(module, "bias"):
        if change.new is None:
            return "bias", None
        if module.bias is None and change.old is None and change.new.ndim == 1:
            return "bias", torch.from_numpy(np.array(change.new)).to(module.weight.dtype)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    name = change.tensor.removeprefix(f"{path}.")
    if name in tensors and change.tensor != name:
        return name, as_native(change.new, tensors[name])
    for transposed in (False, True):
        for name, tensor in tensors.items():
            held = tensor.detach().numpy()
            held = held.T if transposed else held
            if change.old is not None and held.shape == change.old.shape and np.array_equal(held, change.old):
                return name, as_native(change.new, tensor, transposed)
    return None
