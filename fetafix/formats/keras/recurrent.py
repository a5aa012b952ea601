"""Parameters of recurrent layers: ONNX stacks directions and gates in a tensor, Keras has one a direction, transposed.

ONNX: W (directions, gates·hidden, inputs), R likewise, B (directions, input biases, recurrence biases); an LSTM's
gates are i, o, f, c, a GRU's z, r, h. Keras: kernel (inputs, gates·hidden) and recurrent_kernel in the order i, f, c, o
or z, r, h; one bias, or both as (2, gates·hidden) in a GRU with reset_after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.transfer import SetConstant
from fetafix.ir import Array

_ORDERS: Mapping[str, Sequence[int]] = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
_BIAS = 3


def recurrent(change: SetConstant) -> bool:
    """Whether a constant is W, R or B of a recurrent layer."""
    return change.node.op in _ORDERS and change.slot in (1, 2, _BIAS)


def rewritten(held: Mapping[str, Any], change: SetConstant) -> dict[str, Array]:
    """Weight → new value, for every weight that a change of W, R or B changes.

    Raises Unsupported where the layer holds no such weight or cannot say the new value.
    """
    if change.old is None or change.new is None or change.old.shape != change.new.shape:
        raise Unsupported(f"{change.node.label}: Keras's recurrent layers have all their weights")
    made: dict[str, Array] = {}
    for old, new in zip(change.old, change.new, strict=True):
        if np.array_equal(old, new):
            continue
        forms = zip(_forms(change, old), _forms(change, new), strict=True)
        found = ((name, theirs) for ours, theirs in forms for name, v in held.items() if _equal(np.asarray(v), ours))
        name, value = next(found, ("", None))
        if value is None:
            raise Unsupported(f"{change.node.label}: input {change.slot} is no weight of the layer's own there")
        made[name] = value.astype(np.asarray(held[name]).dtype)
    return made


def _forms(change: SetConstant, value: Array) -> Iterator[Array]:
    """The ways in which Keras may hold what ONNX has for one direction."""
    order = list(_ORDERS[change.node.op])
    if change.slot != _BIAS:
        yield np.ascontiguousarray(_ordered(value, order).T)
        return
    both = [_ordered(h, order) for h in np.split(value, 2)]
    yield np.stack(both)
    yield both[0] + both[1]  # one bias: of an LSTM, and of a GRU that resets first; both only ever add up there


def _ordered(value: Array, order: Sequence[int]) -> Array:
    return value.reshape(len(order), -1, *value.shape[1:])[list(order)].reshape(value.shape)


def _equal(variable: Array, value: Array) -> bool:
    return variable.shape == value.shape and bool(np.allclose(variable, value, rtol=1e-6, atol=1e-7))
