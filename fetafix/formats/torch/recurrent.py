"""Parameters of recurrent layers: ONNX stacks directions and gates in one tensor, torch has one a direction and kind.

ONNX: W (directions, gates·hidden, inputs), R likewise, B (directions, input biases then recurrence biases); an LSTM's
gates are i, o, f, c, a GRU's z, r, h. Torch: weight_ih, weight_hh, bias_ih, bias_hh, and i, f, g, o or r, z, n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.transfer import SetConstant
from fetafix.ir import Array

_ORDERS: Mapping[str, Sequence[int]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_BIAS = 3


def recurrent(change: SetConstant) -> bool:
    """Whether a constant is W, R or B of a recurrent layer."""
    return change.node.op in _ORDERS and change.slot in (1, 2, _BIAS)


def pieces(change: SetConstant) -> list[tuple[Array, Array]]:
    """(old, new) for each of torch's tensors that a change of W, R or B changes. Raises Unsupported."""
    if change.old is None or change.new is None or change.old.shape != change.new.shape:
        raise Unsupported(f"{change.node.label}: torch's layers have all their weights and biases, or no bias at all")
    both = zip(_split(change.node.op, change.slot, change.old), _split(change.node.op, change.slot, change.new),
               strict=True)
    return [(old, new) for old, new in both if not np.array_equal(old, new)]


def overwriting(held: Sequence[Any], change: SetConstant) -> Callable[[], None]:
    """What puts the new numbers into a layer's tensors; those that have them already stay.

    Raises Unsupported where a tensor with the old numbers is not among `held`.
    """
    import torch

    found = []
    for old, new in pieces(change):
        tensor = next((t for t in held if _holds(t, old) or _holds(t, new)), None)
        if tensor is None:
            raise Unsupported(f"{change.node.label}: input {change.slot} is no tensor of the layer's own there")
        found.append((tensor, torch.from_numpy(new)))

    def act() -> None:
        for tensor, value in found:
            tensor.data.copy_(value)

    return act


def _holds(tensor: Any, value: Array) -> bool:
    return tuple(tensor.shape) == value.shape and bool(np.array_equal(tensor.detach().numpy(), value))


def _split(op: str, slot: int, value: Array) -> list[Array]:
    """An ONNX tensor as torch's: by direction, a bias in two halves, gates in torch's order."""
    halves = [h for d in value for h in (np.split(d, 2) if slot == _BIAS else [d])]
    order = list(_ORDERS[op])
    return [np.ascontiguousarray(h.reshape(len(order), -1, *h.shape[1:])[order].reshape(h.shape)) for h in halves]
