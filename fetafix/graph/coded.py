"""Weights of the target that are stored as codes and dequantise to something else than the source's weights.

With codes c and the source's weight w, the scale of a slice that explains w best is s = ⟨w, c − z⟩ / ⟨c − z, c − z⟩
(least squares), and the codes are those of w if no element is then off by more than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fetafix.graph.parameters import WEIGHT, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node
from fetafix.quantisation import Grid

_OFF, _MOST, _FEW = 0.75, 2.0, 0.01  # steps: of rounding with the fitted scale's error; at most; share beyond the first


@dataclass(frozen=True, eq=False, slots=True)
class Coded:
    """parameter: a weight that differs. node: its DequantizeLinear. codes: without the zero point, float64."""

    parameter: Parameter
    node: Node
    grid: Grid
    codes: Array

    @property
    def reference(self) -> Array:
        """The source's weight in the target's shape, float64."""
        return np.asarray(self.parameter.reference, np.float64)

    def fit(self, axis: int | None, zero: float = 0.0) -> Array | None:
        """Scales of the slices of an axis (None: of all) that make the source's weight of the codes; None if none do.

        zero: what is subtracted from the codes besides their zero point.
        """
        axes = tuple(i for i in range(self.codes.ndim) if i != axis)
        codes, reference = self.codes - zero, self.reference
        power = np.sum(np.square(codes), axis=axes, keepdims=True)
        scale = np.sum(codes * reference, axis=axes, keepdims=True) / np.where(power > 0, power, 1.0)
        noise = 1e-5 * float(np.max(np.abs(reference), initial=0.0))
        off = np.abs(reference - scale * codes) - noise
        if np.any(scale < 0) or np.any(off > _MOST * scale) or np.mean(off > _OFF * scale) > _FEW:
            return None
        return np.asarray(scale.ravel(), np.float32)


def coded(segment: Segment) -> Iterator[Coded]:
    """The segment's differing weights that are stored as codes."""
    for parameter in differing(segment, WEIGHT):
        found = of_node(segment.full, parameter)
        if found is not None:
            yield found


def of_node(graph: Graph, parameter: Parameter) -> Coded | None:
    """The codes behind a parameter; None where it is stored as it is."""
    tensor = parameter.node.input(parameter.slot)
    grid = graph.grid(tensor)
    if grid is None or parameter.value is None:
        return None
    node = graph.producers[tensor]
    codes = graph.initializers[node.input(0)]
    if codes.shape != parameter.reference.shape:
        return None
    return Coded(parameter, node, grid, codes.astype(np.float64) - grid.along(grid.zero_point, codes.ndim))


def weights_in_codes(graph: Graph) -> list[tuple[Node, Node, Grid, Array]]:
    """(DequantizeLinear, reader, grid, codes) of all weights that are stored as codes and read by one layer."""
    found = []
    for tensor, readers in graph.consumers.items():
        grid = graph.grid(tensor)
        if grid is None or len(readers) != 1 or readers[0][1] != 1:
            continue
        node = graph.producers[tensor]
        codes = graph.initializers[node.input(0)]
        if codes.ndim >= 2 and codes.dtype.itemsize == 1:
            found.append((node, readers[0][0], grid, codes))
    return found
