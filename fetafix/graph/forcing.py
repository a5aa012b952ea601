"""The target's nodes, each computed from the source's activations wherever a twin is known ("teacher forcing")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import Index, Match, compare, relate
from fetafix.graph.halves import halves, vanishes
from fetafix.graph.hypotheses import Evidence
from fetafix.graph.rounding import Rounding, Signature, allowance, distance, unquantised
from fetafix.graph.segment import Layout
from fetafix.graph.store import ActivationStore
from fetafix.ir import Array, Graph, Node

_EXACT = {"f2": 4e-3, "V2": 3e-2}
_EXACT_FLOAT = 1e-5
_FAR, _EXTREMES = 1.0, 0.05  # how far apart fingerprints may be where values are rounded and extremes saturate
_NEARLY, _MUCH = 1.25, 2.0
_DEEP = 2  # over more roundings than that nothing is excused: noise that adds up would hide any fault
_HALF_STEP = 2.0**-11


def exact_tolerance(dtype: np.dtype[np.generic]) -> float:
    """Relative L2 error up to which two tensors are the same, by the target's precision."""
    return _EXACT.get(dtype.str[1:], _EXACT_FLOAT)


@dataclass(frozen=True, slots=True)
class Twin:
    """A target tensor's counterpart: a source tensor in a layout.

    error, explained: relative L2, where it was recognised by value: how far it is off, and what rounding explains.
    """

    source: str
    layout: Layout
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    error: float = 0.0
    explained: float = 0.0


@dataclass(frozen=True, slots=True)
class Slack:
    """What the walk knows of rounding: grids that both models share, and the source's own explained errors.

    coded: whether one of the models is quantised. theirs: grids of the source that explain nothing; all of them where
    the target is the same quantised model.
    skipped: source tensors that no target tensor may stand for: what a quantised source rounds next.
    """

    coded: bool = False
    shared: frozenset[Signature] = frozenset()
    theirs: frozenset[Signature] = frozenset()
    source: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    skipped: frozenset[str] = frozenset()


NO_SLACK = Slack()


@dataclass(slots=True)
class State:
    """What the walk knows so far. A tensor with a twin keeps no value: the source's activation is its value.

    shaken, depth: of tensors without a twin, what they might be as well by rounding (see `rounding`), and how many
    activations were rounded since the last twin.
    """

    values: dict[str, Array] = field(default_factory=dict)
    shaken: dict[str, Array] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)
    twins: dict[str, Twin] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class Forcing:
    """Computes nodes of a target and recognises what equals the source. Keeps no state but `shapes`, last computed."""

    def __init__(
        self, target: Graph, values: ActivationStore, index: Index, evaluator: Evaluator, evidence: Evidence,
        outputs: Mapping[str, str], slack: Slack = NO_SLACK,
    ) -> None:
        self.target, self.values, self.index = target, values, index
        self.evaluator, self.evidence, self.outputs = evaluator, evidence, outputs
        self.slack = slack
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.rounding = Rounding(target, evaluator.run, slack.shared)

    def step(self, node: Node, state: State, overlay: State | None = None) -> list[str]:
        """Compute a node from the values known; returns outputs that matched by value."""
        into = overlay or state
        into.done.add(node.key)
        if self.target.fixed(node.key):
            return []
        values, why = self._compute(node, state, overlay)
        depth = self._depth(node, state, overlay) if self.rounding.active else 0
        shaken = self._shaken(node, values or {}, state, overlay) if self.rounding.active and depth <= _DEEP else {}
        matched = []
        for out in (o for o in node.outputs if o):
            if values is None:
                into.failures[out] = why
                into.open[out] = None
                continue
            value = values[out]
            self.shapes[out] = value.shape
            explained = distance(shaken.get(out), value)
            match = self._match(out, value, state, explained)
            if match is not None:
                matched.append(out)
                by = float(np.hypot(explained, self.slack.source.get(match.source, 0.0)))
                into.twins[out] = Twin(match.source, match.layout, value.shape, value.dtype, match.error, by)
                continue
            into.values[out] = value
            if self.rounding.active:
                self._remember(node, out, shaken, depth, state, into)
            below = any(t in state.open or (overlay and t in overlay.open) for t in node.reads)
            if below or out in self.outputs or (value.dtype.kind in "fV" and value.size > 1):
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
        fixed = {t: c for t in node.reads if (c := self.target.value_of(t)) is not None}
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

    def _depth(self, node: Node, state: State, overlay: State | None) -> int:
        """How many activations were rounded between the last twins and what a node makes, by the longest way."""
        deepest = 0
        for tensor in node.reads:
            for layer in (overlay, state):
                if layer is not None and (tensor in layer.twins or tensor in layer.values):
                    deepest = max(deepest, layer.depth.get(tensor, 0) if tensor not in layer.twins else 0)
                    break
        return deepest + (node.op == "DequantizeLinear")

    def _remember(
        self, node: Node, out: str, shaken: Mapping[str, Array], depth: int, state: State, into: State
    ) -> None:
        """Keep what rounding says of a tensor without a twin.

        What was a twin before it was rounded and is none any more is wrongly rounded: that explains nothing behind it.
        """
        into.shaken.pop(out, None)
        if out in shaken:
            into.shaken[out] = shaken[out]
        before = unquantised(self.target, node)[0] if node.op == "DequantizeLinear" else ""
        into.depth[out] = _DEEP + 1 if before and (before in state.twins or before in into.twins) else depth

    def _shaken(
        self, node: Node, made: Mapping[str, Array], state: State, overlay: State | None
    ) -> dict[str, Array]:
        """What a node's outputs might be as well, since what it reads and its constants are rounded."""
        if not made:
            return {}
        feeds, shaken = {}, {}
        for tensor in node.reads:
            value = None if self.target.fixed(tensor) else self.value(tensor, state, overlay)
            if value is not None:
                feeds[tensor] = value
                again = self._held(tensor, state, overlay)
                if again is not None:
                    shaken[tensor] = again
        def sure(tensor: str) -> bool:
            return tensor in state.twins or (overlay is not None and tensor in overlay.twins)

        return self.rounding.step(node, feeds, shaken, made, lambda t: self.value(t, state, overlay), sure)

    def _held(self, tensor: str, state: State, overlay: State | None) -> Array | None:
        """The second value of a tensor; None where it has a twin, since rounding starts anew there."""
        for layer in (overlay, state):
            if layer is not None and (tensor in layer.twins or tensor in layer.values):
                return layer.shaken.get(tensor)
        return None

    def forced(self, source: str, layout: Layout, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """The source's activation as the target holds it; what is beyond the range of its type becomes infinite."""
        with np.errstate(over="ignore"):
            return relate(self.values[source], layout, shape).astype(dtype, copy=False)

    def _match(self, name: str, value: Array, state: State, explained: float = 0.0) -> Match | None:
        """The source tensor that equals a computed value, if any; a bound graph output only counts with its twin.

        explained: the error that rounding in the target explains. Of several source tensors within reach the nearest
        counts, and where all are equal the one whose producer is most alike.
        """
        if value.size < 2 and name not in self.outputs:
            return None
        halved = self.halved(name, state)
        exact = max(exact_tolerance(value.dtype), halved)
        rounded = bool(explained or self.slack.source)
        if name in self.outputs:
            candidates: Iterable[str] = [self.outputs[name]]
        else:
            loose = max(20 * exact, 1e-3)
            candidates = self._rounded(name, value, state) if rounded else self.index.near(value, loose)
        found = [
            Match(source, layout, error)
            for source in candidates if source not in self.slack.skipped or name in self.outputs
            for layout, error in compare(value, self.values[source], self._tolerance(exact, explained, source))
        ]
        if name in self.outputs:  # an output of the source's shape that is turned all the same is wrong
            found = [m for m in found if m.layout.perm is None or self.values[m.source].shape != value.shape]
        if not found or (halved and any(self._vanished(value, m) for m in found)):
            return None
        if rounded:
            found = self._nearest(name, found, exact, state)
        elif halved:
            least = min(m.error for m in found)
            found = [m for m in found if m.error <= max(_MUCH * least, _HALF_STEP)]
        producer = self.target.producers.get(name)
        while producer is not None and producer.op == "Cast":  # it changes the type, not what the tensor stands for
            made = producer.input(0)
            if made in state.twins:
                found = [m for m in found if m.source == state.twins[made].source] or found
            producer = self.target.producers.get(made)
        return min(found, key=lambda m: self.evidence.unlike(producer, m.source, state.twins))

    def _vanished(self, value: Array, match: Match) -> bool:
        return vanishes(value, relate(self.values[match.source], match.layout, value.shape))

    def halved(self, name: str, state: State) -> float:
        """What a tensor may be off since it is computed from float16 values, between twins and itself."""
        half, stack, seen = halves(self.target), [name], set[str]()
        while half and stack:
            node = self.target.producers.get(stack.pop())
            for read in node.reads if node is not None else ():
                if read in half:
                    return _EXACT["f2"]
                if read in state.open and read not in seen:
                    seen.add(read)
                    stack.append(read)
        return 0.0

    def _before(self, name: str) -> str:
        """What a tensor was before it was rounded; "" where it was not."""
        producer = self.target.producers.get(name)
        return unquantised(self.target, producer)[0] if producer and producer.op == "DequantizeLinear" else ""

    def _rounded(self, name: str, value: Array, state: State) -> list[str]:
        """Source tensors that a rounded value may be: what it was before that, and those of near fingerprints."""
        twin = state.twins.get(self._before(name))
        own = [twin.source] if twin is not None else []
        return [*own, *(s for s in self.index.near(value, _FAR, extremes=_EXTREMES) if s not in own)]

    def _nearest(self, name: str, found: list[Match], exact: float, state: State) -> list[Match]:
        """Of what is within reach by rounding, what is about as near as the nearest.

        What is rounded and read again stands for what it was before, unless something else is much nearer (a Relu that
        saturation does).
        """
        least = min(m.error for m in found)
        before = self._before(name)
        if before in state.twins:
            same = [m for m in found if m.source == state.twins[before].source and m.error <= _MUCH * max(least, exact)]
            if same:
                return same
        return [m for m in found if m.error <= max(_NEARLY * least, exact)]

    def _tolerance(self, exact: float, explained: float, source: str) -> float:
        by = self.slack.source.get(source, 0.0)
        return max(exact, allowance(explained, by)) if explained or by else exact
