"""What rounding to codes explains: how far a tensor may be off because numbers are stored in few bits.

Wherever a DequantizeLinear stands, the true number lay anywhere within half a step of what it gives. So each tensor is
computed a second time with such a deviation drawn at every DequantizeLinear since the last tensor that is known to
agree (uniform within ± half a step, seeded by the tensor's name), and the relative L2 distance of both is the error
that the bit width explains. Nothing is assumed about the operators in between.

A measured error counts as explained up to `FACTOR` times that. Both are sums of many independent roundings, so their
ratio is close to 1; the fewest there are in practice are one per output channel of a small layer, and with 8 degrees of
freedom on each side the ratio of two such sums exceeds 3 in 0.3% of cases (F(8, 8) > 9).

A range is chosen on calibration samples, and other samples go beyond it here and there: what a QuantizeLinear cuts off
counts as explained where it concerns at most 1% of the values (or a tensor of few), none beyond twice the range. Where
a target does not round activations and its source does, whatever the source cuts off is its own doing: `lenient`.

An activation's step counts as no finer than a grid of its bits over the source's values would have (else saturation
would excuse itself) and no coarser than 5 times that: a grid may be laid out for more than these few samples, for
the other inputs of a Concat, or by rule (Softmax), but not for another range altogether. Grids and constants that both
models share explain nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.graph.segment import relative_error
from fetafix.graph.weights import moments
from fetafix.ir import Array, Graph, Node
from fetafix.quantisation import Grid

FACTOR = 3.0
_COARSER = 5.0
_MOST = 0.5  # an "explanation" of more than this explains nothing
_BEYOND, _SHARE, _FEW = 2.0, 0.01, 64
_MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool"})
_RULED = frozenset({"Softmax", "Sigmoid", "Tanh", "LogSoftmax", "LpNormalization"})  # TFLite prescribes their grids

Run = Callable[[Graph, Mapping[str, Array], Sequence[str]], list[Array]]
Signature = tuple[Any, ...]


def quantised(graph: Graph) -> bool:
    """Whether a graph holds numbers as codes."""
    return any(n.op == "DequantizeLinear" for n in graph.nodes)


def rounds(graph: Graph) -> bool:
    """Whether a graph rounds activations as it runs."""
    return any(n.op == "QuantizeLinear" for n in graph.nodes)


def signatures(graph: Graph) -> frozenset[Signature]:
    """What tells the grids of a graph's activations and the values of its quantised constants from others."""
    return frozenset(s for n in graph.nodes if n.op == "DequantizeLinear" and (s := _signature(graph, n)) is not None)


def _signature(graph: Graph, node: Node) -> Signature | None:
    value, grid = graph.value_of(node.key), graph.grid_of(node)
    if value is not None:
        return ("constant", *(f"{m:.6e}" for m in moments(value)))
    if grid is None:
        return None
    zero = grid.zero_point.astype(np.int64) - grid.bounds[0]
    return ("grid", np.dtype(grid.dtype).itemsize, *(f"{s:.6e}" for s in grid.scale.ravel()), *zero.ravel().tolist())


def sound_step(grid: Grid, values: Array | None, rank: int) -> Array:
    """The step of an activation's grid, within what a grid of its bits over these values would have."""
    step = grid.step(rank)
    if values is None or values.size == 0 or grid.scale.size > 1:
        return step
    low, high = grid.bounds
    spread = max(float(np.max(values)), 0.0) - min(float(np.min(values)), 0.0)
    own = spread / (high - low)
    return np.clip(step, own, _COARSER * own) if np.isfinite(own) and own > 0 else step


def unquantised(graph: Graph, node: Node) -> tuple[str, Node | None]:
    """What a DequantizeLinear's codes were made of: the tensor before the QuantizeLinear and the latter; "" if none."""
    tensor = node.input(0)
    while (maker := graph.producers.get(tensor)) is not None:
        if maker.op == "QuantizeLinear":
            return maker.input(0), maker
        if maker.op not in _MOVES:
            break
        tensor = maker.input(0)
    return "", None


def excess(grid: Grid, values: Array, lenient: bool = False) -> Array | None:
    """What saturation cuts off values, where so little goes so far beyond the range that it was calibrated so."""
    low, high = (float(v) for v in grid.values(np.array(grid.bounds, grid.dtype)))
    if values.size == 0:
        return None
    values = np.maximum(values, 0) if low == 0 else values  # saturation that does a Relu
    off = values - np.clip(values, low, high)
    share = np.count_nonzero(np.abs(off) > 0.5 * float(grid.scale.reshape(-1)[0])) / values.size
    far = (high < float(np.max(values)) / _BEYOND) or (float(np.min(values)) / _BEYOND < low)
    small = values.size <= _FEW * max(values.shape[0] if values.ndim else 1, 1)
    usual = not far and (share <= _SHARE or small)
    return off if share > 0 and (usual or lenient) else None


class Rounding:
    """Second values of a graph's tensors. `shared`: signatures of the other model's grids, which explain nothing."""

    def __init__(
        self, graph: Graph, run: Run, shared: frozenset[Signature] = frozenset(), lenient: bool = False
    ) -> None:
        self.graph, self._run, self._lenient = graph, run, lenient
        self.active = quantised(graph)
        self._shared = shared
        self._constants: dict[str, Array | None] = {}

    def step(
        self, node: Node, feeds: Mapping[str, Array], shaken: Mapping[str, Array], made: Mapping[str, Array],
        value: Callable[[str], Array | None], sure: Callable[[str], bool],
    ) -> dict[str, Array]:
        """Second values of a node's outputs; {} where nothing before it is rounded.

        feeds: what it reads. shaken: second values of some of that. made: its outputs. value: any tensor's value. sure:
        whether that is the source's; what saturation cuts off wrong values explains nothing.
        """
        if not self.active or (node.op == "QuantizeLinear" and not shaken):
            return {}
        constants = {t: c for t in node.reads if (c := self._constant(t)) is not None}
        again = dict(made)
        if shaken or constants:
            known = {t: c for t in node.reads if (c := self.graph.value_of(t)) is not None}
            try:
                single = Graph((node,), {**known, **constants}, (), (), self.graph.opset)
                again = dict(zip(made, self._run(single, {**feeds, **shaken}, list(made)), strict=True))
            except RuntimeCrash:
                return {}
        if node.op == "DequantizeLinear":
            return self._rounded(node, again, bool(shaken), value, sure)
        return again if shaken or constants else {}

    def _rounded(
        self, node: Node, made: dict[str, Array], shaken: bool, value: Callable[[str], Array | None],
        sure: Callable[[str], bool],
    ) -> dict[str, Array]:
        grid = self.graph.grid_of(node)
        if grid is None or _signature(self.graph, node) in self._shared:
            return made if shaken else {}
        out = made[node.key]
        before, rounder = unquantised(self.graph, node)
        true = value(before) if before else None
        maker = self.graph.producers.get(before)
        ruled = maker is not None and maker.op in _RULED
        step = sound_step(grid, None if ruled else true, out.ndim)
        again = out + _deviation(node.key, out.shape) * step + self._cut(node, rounder, true if sure(before) else None)
        return {node.key: again.astype(out.dtype)}

    def _cut(self, node: Node, rounder: Node | None, true: Array | None) -> Array | float:
        """What a QuantizeLinear cuts off the values behind a DequantizeLinear, as those lie there; 0 where nothing."""
        grid = None if rounder is None else self.graph.grid_of(rounder)
        off = None if grid is None or true is None or grid.scale.size > 1 else excess(grid, true, self._lenient)
        if off is None or rounder is None:
            return 0.0
        try:
            (moved,) = self._run(self.graph, {rounder.key: off}, [node.input(0)])
        except RuntimeCrash:
            return 0.0
        return moved

    def _constant(self, tensor: str) -> Array | None:
        """A quantised constant as it may have been; None for others."""
        if tensor not in self._constants:
            grid, value = self.graph.grid(tensor), self.graph.value_of(tensor)
            self._constants[tensor] = None
            if grid is not None and value is not None:
                node = self.graph.producers[tensor]
                if _signature(self.graph, node) not in self._shared:
                    off = _deviation(tensor, value.shape) * grid.step(value.ndim)
                    self._constants[tensor] = (value + off).astype(value.dtype)
        return self._constants[tensor]


def _deviation(name: str, shape: tuple[int, ...]) -> Array:
    """Uniform in −½…½, the same at each call."""
    return np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32) - np.float32(0.5)


def distance(shaken: Array | None, value: Array) -> float:
    """The error that second values explain: relative L2 distance; 0 where there are none."""
    if shaken is None or shaken.dtype.kind != "f":
        return 0.0
    off = relative_error(shaken, value)
    return off if math.isfinite(off) else 0.0


def allowance(*explained: float) -> float:
    """The relative L2 error up to which a difference counts as explained by independent roundings; 0 for none."""
    return min(FACTOR * math.hypot(*explained), _MOST)


def explained(
    piece: Graph, feeds: Mapping[str, Array], goal: str, run: Run, shared: frozenset[Signature], lenient: bool = False
) -> float:
    """The relative L2 error of a sub-graph's tensor that rounding within the sub-graph explains."""
    rounding = Rounding(piece, run, shared, lenient)
    if not rounding.active:
        return 0.0
    values, shaken = dict(feeds), dict[str, Array]()
    for node in piece.nodes:
        if piece.fixed(node.key) or all(o in values for o in node.outputs if o):
            continue
        known = {t: c for t in node.reads if (c := piece.value_of(t)) is not None}
        live = {t: values[t] for t in node.reads if t not in known and t in values}
        outs = [o for o in node.outputs if o]
        try:
            made = dict(zip(outs, run(Graph((node,), known, (), (), piece.opset), live, outs), strict=True))
        except RuntimeCrash:
            return 0.0
        again = rounding.step(node, live, {t: shaken[t] for t in live if t in shaken}, made, values.get,
                              feeds.__contains__)
        values.update(made)
        shaken.update(again)
    return distance(shaken.get(goal), values[goal]) if goal in values else 0.0


def moved_by_flips(graph: Graph, feeds: Mapping[str, Array], run: Run) -> dict[str, Array]:
    """The outputs of a graph whose activations are rounded the other way here and there.

    Two implementations of the same integer arithmetic round a value near the middle of two codes either way. So does
    this one: at every DequantizeLinear of an activation the value moves within ± half a step.
    """
    constants = frozenset(s for s in signatures(graph) if s[0] == "constant")
    rounding = Rounding(graph, run, constants)
    values, shaken = dict(feeds), dict[str, Array]()
    for node in graph.nodes:
        if graph.fixed(node.key):
            continue
        known = {t: c for t in node.reads if (c := graph.value_of(t)) is not None}
        live = {t: values[t] for t in node.reads if t not in known}
        outs = [o for o in node.outputs if o]
        made = dict(zip(outs, run(Graph((node,), known, (), (), graph.opset), live, outs), strict=True))
        moved = {t: shaken[t] for t in live if t in shaken}
        shaken.update(rounding.step(node, live, moved, made, values.get, lambda tensor: False))
        values.update(made)
    return {o: shaken.get(o, values[o]) for o in graph.output_names if o in values}
