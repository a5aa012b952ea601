"""The gate blocks of recurrent layers: in which order a target holds what the source holds.

ONNX stacks the gates along axis 1 of W (directions, gates·hidden, inputs), R (directions, gates·hidden, hidden) and B
(directions, 2·gates·hidden: the input biases Wb, then the recurrence biases Rb). LSTM: i, o, f, c; GRU: z, r, h. Torch
has i, f, g, o and r, z, n; Keras i, f, c, o and z, r, h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

GATES: Mapping[str, str] = {"LSTM": "iofc", "GRU": "zrh"}
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_BIAS = 3
SLOTS = (1, 2, _BIAS)


def parts(value: Array, slot: int) -> list[Array]:
    """A tensor's independent halves along axis 1: Wb and Rb of a bias, the tensor itself otherwise."""
    return np.split(value, 2, axis=1) if slot == _BIAS else [value]


def ordered(value: Array, gates: int, order: Sequence[int]) -> Array:
    """The blocks of axis 1 in another order: block k of the result is block order[k]."""
    blocks = value.reshape(value.shape[0], gates, -1, *value.shape[2:])
    return np.ascontiguousarray(blocks[:, list(order)].reshape(value.shape))


def rearranged(value: Array, slot: int, gates: int, order: Sequence[int], which: Sequence[int] = (0, 1)) -> Array:
    """W, R or B with its gate blocks in another order; of B the halves `which`."""
    made = [ordered(p, gates, order) if i in which or slot != _BIAS else p for i, p in enumerate(parts(value, slot))]
    return np.concatenate(made, axis=1)


def order_of(value: Array, reference: Array, gates: int, noise: float) -> tuple[int, ...] | None:
    """The order of blocks that makes `value` of `reference`; the identity where they are equal."""
    if value.shape != reference.shape or value.ndim < 2 or value.shape[1] % gates:
        return None
    orders: Iterator[tuple[int, ...]] = permutations(range(gates))
    return next((o for o in orders if close(value, ordered(reference, gates, o), noise)), None)


def layers(graph: Graph, *ops: str) -> list[Node]:
    """Recurrent nodes whose W and R are constant."""
    return [n for n in graph.nodes if n.op in (ops or RECURRENT) and not n.domain
            and graph.constant(n, 1) is not None and graph.constant(n, 2) is not None]


def named(op: str, order: Sequence[int]) -> str:
    """An order in the letters of ONNX's gates."""
    return "".join(GATES[op][i] for i in order)
