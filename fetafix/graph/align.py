"""Both models' canonical graphs on the same samples, aligned: activations, twins and guilty segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.graph.arithmetic import EXACT
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import Index, relate
from fetafix.graph.forcing import NO_SLACK, Slack, Twin, exact_tolerance
from fetafix.graph.halves import HALF, halves
from fetafix.graph.hypotheses import CHANNEL_MOVES
from fetafix.graph.rounding import (
    FACTOR,
    Rounding,
    Signature,
    allowance,
    distance,
    explained,
    quantised,
    rounds,
    signatures,
)
from fetafix.graph.segment import Anchor, Layout, Segment, relative_error
from fetafix.graph.store import ActivationStore
from fetafix.graph.walk import Guilty, Walk
from fetafix.ir import Array, Graph, Node

_NOISE_FACTOR = 30.0
_HALF_FACTOR, _HALF_ULP = 4.0, 2.0**-11
_SAME_MODEL = 0.5  # share of the source's grids that the target has too where both are the same quantised model
_SAME_GRIDS = 0.9  # share of all grids that both have, from which the few others are faults and explain nothing
_TURNED = 12  # anchors that a segment may give up to reach the Transpose that turned them
_MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast"})


@dataclass(frozen=True, slots=True)
class InputTwin:
    """A target input, the source input that carries the same samples, and how the target holds it."""

    target: str
    source: str
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, slots=True)
class Rounded:
    """A target tensor that equals its twin up to rounding: relative L2 error measured, and what rounding explains."""

    target: str
    source: str
    measured: float
    explained: float


class Aligner:
    """Runs the source once on a batch and aligns targets with it. A context manager: it may hold a spill file.

    source: canonical graph. feeds: its inputs on one batch of a few samples.
    """

    def __init__(self, source: Graph, feeds: Mapping[str, Array], evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._stack = ExitStack()
        self.values = self._stack.enter_context(ActivationStore())
        self.index = Index()
        shapes: dict[str, tuple[int | str | None, ...]] = dict(source.shapes)
        for name, value in feeds.items():
            self._keep(name, value, shapes)
        self._coded = quantised(source)
        for node in source.nodes:
            if not source.fixed(node.key):
                self._run_node(source, node.key, shapes)
        self.source = replace(source, shapes=MappingProxyType(shapes))

    def __enter__(self) -> Aligner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _keep(self, name: str, value: Array, shapes: dict[str, tuple[int | str | None, ...]]) -> None:
        self.values.put(name, value)
        self.index.add(name, value)
        shapes[name] = value.shape

    def _run_node(self, source: Graph, key: str, shapes: dict[str, tuple[int | str | None, ...]]) -> None:
        node = source.producers[key]
        fixed = {t: c for t in node.reads if (c := source.value_of(t)) is not None}
        feeds = {t: self.values[t] for t in node.reads if t not in fixed}
        outs = [o for o in node.outputs if o]
        single = Graph((node,), fixed, (), (), source.opset)
        try:
            made = self.evaluator.run(single, feeds, outs)
        except RuntimeCrash as error:
            raise RuntimeCrash(f"the source's node {node.label!r} ({node.op}) cannot be run alone: {error}") from error
        for name, value in zip(outs, made, strict=True):
            self._keep(name, value, shapes)

    def align(
        self,
        target: Graph,
        inputs: tuple[InputTwin, ...],
        outputs: Mapping[str, str],
        own: Mapping[str, Array] = MappingProxyType({}),
    ) -> Alignment:
        """Walk a canonical target graph. outputs: bound outputs, target name → source name.

        own: target inputs that get values of their own (another preprocessing), and so have no twin.
        """
        twins = {}
        feeds = dict(own)
        declared = {v.name: v for v in target.inputs}
        for pair in inputs:
            value = self.values[pair.source]
            shape = value.shape if pair.layout.perm is None else tuple(value.shape[p] for p in pair.layout.perm)
            dtype = declared[pair.target].dtype
            twins[pair.target] = Twin(pair.source, pair.layout, shape, dtype)
            feeds[pair.target] = relate(value, pair.layout, shape).astype(dtype, copy=False)
        bound = {t: s for t, s in outputs.items() if s in self.values}
        slack = self._slack(target)
        walk = Walk(self.source, target, self.values, self.index, self.evaluator, bound, slack)
        walk.run(feeds, twins)
        return Alignment(self, target, walk, feeds, slack)

    def _slack(self, target: Graph) -> Slack:
        """What rounding explains between the source and a target: nothing where both are stored in floats."""
        coded = quantised(target)
        if not coded and not self._coded:
            return NO_SLACK
        source = self.source
        if not self._coded:
            return Slack(coded=True)
        own, other = signatures(source), signatures(target)
        shared = own & other
        if coded and len(shared) >= _SAME_MODEL * len(own):
            same = len(shared) >= _SAME_GRIDS * len(own | other)
            return Slack(True, own | other if same else shared, own)
        skipped = frozenset[str]() if rounds(target) else frozenset(
            t for n in source.nodes for t in n.outputs
            if (readers := source.consumers.get(t)) and all(r.op == "QuantizeLinear" for r, _ in readers))
        return Slack(True, shared, shared, self._source_rounding(shared, skipped), skipped)

    def _source_rounding(self, shared: frozenset[Signature], skipped: frozenset[str]) -> dict[str, float]:
        """What rounding explains of each source tensor, computed from tensors that a target's may stand for."""
        rounding = Rounding(self.source, self.evaluator.run, shared, lenient=bool(skipped))
        found, shaken = dict[str, float](), dict[str, Array]()
        for node in self.source.nodes:
            if self.source.fixed(node.key):
                continue
            feeds = {t: self.values[t] for t in node.reads if t in self.values}
            made = {o: self.values[o] for o in node.outputs if o in self.values}
            again = rounding.step(node, feeds, {t: shaken[t] for t in feeds if t in shaken}, made, self.values.get,
                                  lambda _: True)
            for name, value in again.items():
                if value.dtype.kind != "f" or name in skipped:
                    shaken[name] = value
                elif off := distance(value, made[name]):
                    found[name] = off
        return found


def _turned(layout: Layout) -> bool:
    """Whether axes lie as neither channels-first nor channels-last has them."""
    return layout.perm is not None and not layout.reshaped and layout.perm not in CHANNEL_MOVES


class Alignment:
    """A walked target: its twins and what is guilty."""

    def __init__(
        self, aligner: Aligner, target: Graph, walk: Walk, inputs: Mapping[str, Array], slack: Slack = NO_SLACK
    ) -> None:
        self._aligner, self._walk, self._inputs, self._slack = aligner, walk, inputs, slack
        shapes = {**target.shapes, **walk.forcing.shapes}
        shapes.update({t: w.shape for t, w in walk.state.twins.items()})
        shapes.update({t: v.shape for t, v in walk.state.values.items()})
        self.source = aligner.source
        self.target = replace(target, shapes=MappingProxyType(shapes))
        self.twins: Mapping[str, Twin] = walk.state.twins
        self.unmatched = tuple(walk.state.open)

    def rounded(self, guilty: Sequence[Segment] = ()) -> tuple[Rounded, ...]:
        """What rounding explains, tensor by tensor, in the target's order; `guilty` segments with what they are off."""
        found = [Rounded(t, w.source, w.error, w.explained) for t, w in self.twins.items() if w.explained]
        found += [Rounded(s.goal.target, s.goal.source, s.error, s.tolerance / FACTOR) for s in guilty if s.allowed]
        return tuple(found)

    def segments(self) -> list[Segment]:
        """The guilty segments in topological order; those whose error is their own noise are left out."""
        found = [self._segment(g) for g in self._walk.guilty]
        return [s for s in found if s.error > s.tolerance]

    def _segment(self, guilty: Guilty) -> Segment:
        values = self._aligner.values
        before = self._straight({t: w for t, w in self.twins.items() if t != guilty.target}, guilty.target)
        target = self._widened(self.target.between(before, [guilty.target]), before, guilty.target)
        reverse: dict[str, str] = {}
        for name, twin in before.items():
            reverse.setdefault(twin.source, name)
        used = {before[t].source for t in target.input_names if t in before}
        inner = {before[o].source for n in target.nodes for o in n.outputs if o in before}  # what only values moved
        stops = set(reverse) - {guilty.source} - inner | used
        source = self._between(stops, guilty.source)
        anchors = {t: before[t] for t in target.input_names if t in before}
        for name in source.input_names:
            if name in reverse and name not in {w.source for w in anchors.values()}:
                anchors[reverse[name]] = before[reverse[name]]
        feeds = {t: self._inputs[t] for t in target.input_names if t in self._inputs}
        feeds.update({t: self._held(w) for t, w in anchors.items()})
        twin = self.twins[guilty.target]
        expected = self._held(twin)
        error = float("inf") if guilty.actual is None else relative_error(guilty.actual, expected)
        source_feeds = {n: values[n] for n in source.input_names if n in values}
        names = {v.name for v in self.target.inputs}
        exact = all(n.op in EXACT for n in (*target.nodes, *source.nodes))
        shaken = 0.0 if exact else self._noise(source, source_feeds, guilty.source)
        floor = max(exact_tolerance(expected.dtype), shaken)
        if halves(self.target) & {t for n in target.nodes for t in (*n.reads, *n.outputs)}:
            rough = _HALF_FACTOR * self._noise(source, source_feeds, guilty.source, _HALF_ULP) / _NOISE_FACTOR
            floor = max(floor, exact_tolerance(HALF), rough)
        allowed = self._allowed(floor, source, source_feeds, guilty)
        return Segment(
            target=target,
            source=source,
            anchors=tuple(Anchor(t, w.source, w.layout) for t, w in anchors.items()),
            goal=Anchor(guilty.target, guilty.source, guilty.layout),
            feeds=feeds,
            source_feeds=source_feeds,
            expected=expected,
            actual=guilty.actual,
            error=error,
            tolerance=floor if allowed is None else allowed(target, feeds),
            full=self.target,
            run=self._aligner.evaluator.run,
            failure=guilty.failure,
            at_input=bool(names & set(target.input_names)),
            at_output=guilty.target in self.target.output_names,
            pairs=MappingProxyType({t: w.source for t, w in before.items()}),
            allowed=allowed,
        )

    def _allowed(
        self, floor: float, source: Graph, source_feeds: Mapping[str, Array], guilty: Guilty
    ) -> Callable[[Graph, Mapping[str, Array]], float] | None:
        """The tolerance of a version of a segment's target, where one of the models is quantised."""
        if not self._slack.coded:
            return None
        run, shared = self._aligner.evaluator.run, self._slack.shared
        lenient, theirs = bool(self._slack.skipped), 0.0
        if source.nodes:
            theirs = explained(source, source_feeds, guilty.source, run, self._slack.theirs, lenient)

        def tolerance(piece: Graph, feeds: Mapping[str, Array]) -> float:
            return max(floor, allowance(theirs, explained(piece, feeds, guilty.target, run, shared)))

        return tolerance

    def _straight(self, before: Mapping[str, Twin], goal: str) -> Mapping[str, Twin]:
        """The anchors without those right before a segment that a Transpose turned in a way no layout does.

        Values survive a height for a width through pointwise layers, and it shows only where branches join.
        """
        kept = dict(before)
        queue = list(self.target.between(before, [goal]).input_names)
        mover: Node | None = None
        while queue and len(before) - len(kept) < _TURNED:
            tensor = queue.pop()
            node, twin = self.target.producers.get(tensor), kept.get(tensor)
            if node is not None and twin is not None and _turned(twin.layout):
                del kept[tensor]
                queue += node.reads
                mover = node if node.op == "Transpose" else mover
        return before if mover is None else kept

    def _widened(self, piece: Graph, before: Mapping[str, Twin], goal: str) -> Graph:
        """The segment and the nodes before it that only move values, or do nothing to them, as a scale of 1.

        Whether they should is part of the question.
        """
        cut = set(before)
        moved = [t for t in piece.input_names if t in self.target.producers]
        while moved:
            tensor = moved.pop()
            producer = self.target.producers.get(tensor)
            if producer is None or producer.input(0) not in before:
                continue
            if producer.op not in _MOVES and before[tensor].source != before[producer.input(0)].source:
                continue
            cut.discard(tensor)
            moved.append(producer.input(0))
        return self.target.between(cut, [goal])

    def _between(self, stops: set[str], goal: str) -> Graph:
        """The source's segment; empty where the goal itself is an anchor of the target's segment."""
        graph = self._aligner.source
        if goal in stops:
            return graph.between([goal], [])
        return graph.between(stops, [goal])

    def _held(self, twin: Twin) -> Array:
        return relate(self._aligner.values[twin.source], twin.layout, twin.shape).astype(twin.dtype, copy=False)

    def _noise(self, source: Graph, feeds: Mapping[str, Array], goal: str, ulp: float = 2.0**-23) -> float:
        """What one unit in the last place at the segment's inputs does to its output, with a margin."""
        if not source.nodes:
            return 0.0
        rng = np.random.default_rng(0)
        shaken = {
            k: (v * (1 + np.float32(ulp) * rng.choice([-1, 1], v.shape))).astype(v.dtype)
            if v.dtype.kind == "f"
            else v
            for k, v in feeds.items()
        }
        try:
            (value,) = self._aligner.evaluator.run(source, shaken, [goal])
        except RuntimeCrash:
            return 0.0
        noise = relative_error(value, self._aligner.values[goal])
        return _NOISE_FACTOR * noise if np.isfinite(noise) else 0.0
