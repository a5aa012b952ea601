"""Constants and layouts that both a lifted and a canonical graph may hold in several ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fetafix.ir import Array, Graph, Node

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def constant(graph: Graph, node: Node, slot: int) -> Array | None:
    """The constant in an input slot, an initializer or the output of a Constant node; None where it is computed."""
    value = graph.constant(node, slot)
    maker = graph.producers.get(node.input(slot))
    if value is None and maker is not None and maker.op == "Constant" and not maker.domain:
        for name, held in maker.attrs.items():
            if name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
                return np.asarray(held)
    return value


def concrete(graph: Graph, tensor: str) -> tuple[int, ...] | None:
    """A tensor's shape where every dimension but the first is a known number; an unknown first one counts as 1."""
    known = graph.value_of(tensor)
    if known is not None:
        return known.shape
    declared = next((v.shape for v in graph.inputs if v.name == tensor), None)
    dims = graph.shapes.get(tensor, declared)
    if dims is None:
        return None
    dims = tuple(1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(dims))
    return tuple(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def held(graph: Graph, value: Array | None) -> bool:
    """Whether a graph holds a constant among its initializers, as it is or (a matrix) transposed, up to float noise."""
    for other in graph.initializers.values() if value is not None else ():
        for way in (other, other.T)[:2 if other.ndim == 2 else 1]:
            if value is not None and way.shape == value.shape and np.allclose(way, value, rtol=1e-5, atol=1e-7):
                return True
    return False


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))
