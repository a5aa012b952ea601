"""The target's nodes, each computed from the source's activations wherever a twin is known ("teacher forcing")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import Index, Match, compare, relate
from fetafix.graph.hypotheses import Evidence
from fetafix.graph.segment import Layout
from fetafix.graph.store import ActivationStore
from fetafix.ir import Array, Graph, Node

_EXACT = {"f2": 4e-3, "V2": 3e-2}
_EXACT_FLOAT = 1e-5


def exact_tolerance(dtype: np.dtype[np.generic]) -> float:
    """Relative L2 error up to which two tensors are the same, by the target's precision."""
    return _EXACT.get(dtype.str[1:], _EXACT_FLOAT)


@dataclass(frozen=True, slots=True)
class Twin:
    """A target tensor's counterpart: a source tensor in a layout."""

    source: str
    layout: Layout
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(slots=True)
class State:
    """What the walk knows so far. A tensor with a twin keeps no value: the source's activation is its value."""

    values: dict[str, Array] = field(default_factory=dict)
    twins: dict[str, Twin] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class Forcing:
    """Computes nodes of a target and recognises what equals the source. Keeps no state of its own."""

    def __init__(
        self, target: Graph, values: ActivationStore, index: Index, evaluator: Evaluator, evidence: Evidence,
        outputs: Mapping[str, str],
    ) -> None:
        self.target, self.values, self.index = target, values, index
        self.evaluator, self.evidence, self.outputs = evaluator, evidence, outputs

    def step(self, node: Node, state: State, overlay: State | None = None) -> list[str]:
        """Compute a node from the values known; returns outputs that matched by value."""
        into = overlay or state
        into.done.add(node.key)
        values, why = self._compute(node, state, overlay)
        matched = []
        for out in (o for o in node.outputs if o):
            if values is None:
                into.failures[out] = why
                into.open[out] = None
                continue
            value = values[out]
            match = self._match(out, value, state)
            if match is not None:
                matched.append(out)
                into.twins[out] = Twin(match.source, match.layout, value.shape, value.dtype)
                continue
            into.values[out] = value
            below = any(t in state.open or (overlay and t in overlay.open) for t in node.reads)
            if below or (value.dtype.kind in "fV" and value.size > 1):
                into.open[out] = None
        return matched

    def value(self, tensor: str, state: State, overlay: State | None = None) -> Array | None:
        """What a target tensor holds: the source's activation where it has a twin, else what was computed."""
        for layer in (overlay, state):
            if layer is None:
                continue
            if tensor in layer.twins:
                twin = layer.twins[tensor]
                return self.forced(twin.source, twin.layout, twin.shape, twin.dtype)
            if tensor in layer.values:
                return layer.values[tensor]
            if tensor in layer.failures:
                return None
        return None

    def _compute(self, node: Node, state: State, overlay: State | None) -> tuple[dict[str, Array] | None, str]:
        feeds: dict[str, Array] = {}
        fixed = {t: self.target.initializers[t] for t in node.reads if t in self.target.initializers}
        for tensor in node.reads:
            if tensor not in fixed:
                value = self.value(tensor, state, overlay)
                if value is None:
                    return None, ""
                feeds[tensor] = value
        outs = [o for o in node.outputs if o]
        try:
            single = Graph((node,), fixed, (), (), self.target.opset)
            return dict(zip(outs, self.evaluator.run(single, feeds, outs), strict=True)), ""
        except RuntimeCrash as error:
            return None, str(error)

    def forced(self, source: str, layout: Layout, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """The source's activation as the target holds it."""
        return relate(self.values[source], layout, shape).astype(dtype, copy=False)

    def _match(self, name: str, value: Array, state: State) -> Match | None:
        """The source tensor that equals a computed value, if any; a bound graph output only counts with its twin."""
        if value.size < 2 and name not in self.outputs:
            return None
        tolerance = exact_tolerance(value.dtype)
        if name in self.outputs:
            candidates: Iterable[str] = [self.outputs[name]]
        else:
            candidates = self.index.near(value, max(20 * tolerance, 1e-3))
        found = [
            Match(source, layout, error)
            for source in candidates
            for layout, error in compare(value, self.values[source], tolerance)
        ]
        if not found:
            return None
        producer = self.target.producers.get(name)
        return min(found, key=lambda m: self.evidence.unlike(producer, m.source, state.twins))
