"""A guilty segment: the place between two anchors where the target introduces error, ready to be examined and healed.

Everything a fault type may look at is here: both sub-graphs, the source's activations that feed them, what the source
computes from them and what the target computes instead. `trial(edits)` tells in milliseconds what edits would do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from types import MappingProxyType

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.errors import FetafixError
from fetafix.ir import Array, Graph, Node, Value

_NEVER = 0.5  # no rounding explains a larger relative L2 error


@dataclass(frozen=True, slots=True)
class Layout:
    """How a target tensor holds a source tensor's values: target = source.transpose(perm).reshape(shape of target).

    `perm` None means no transposition; `reshaped` says that the shapes differ beyond the transposition.
    """

    perm: tuple[int, ...] | None = None
    reshaped: bool = False

    @property
    def identity(self) -> bool:
        """Whether both hold the values in the same order and shape."""
        return self.perm is None and not self.reshaped


@dataclass(frozen=True, slots=True)
class Anchor:
    """A pair of tensors that carry the same values up to layout."""

    target: str
    source: str
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, eq=False)
class Segment:
    """One target segment that introduces error, and its counterpart in the source.

    target, source: sub-graphs from the anchors to the goal (their inputs are anchors; `target.shapes` and
      `source.shapes` know every tensor's concrete shape on the batch used).
    anchors: the tensors where both models still agree, upstream of the segment.
    goal: the pair of tensors that should agree and do not.
    feeds, source_feeds: the SOURCE's activations for the segment's inputs, in the target's and in the source's layout.
    expected: the source's value of the goal, in the target's layout and shape; actual: what the target makes of `feeds`
      (None where the segment cannot even run or gives another size; `failure` then says why).
    error: relative L2 error of actual against expected (inf where it cannot run); tolerance: the local noise floor.
    at_input: the segment reads a graph input of the target. at_output: its goal is a graph output of the target.
    full: the whole canonical target graph, for edits that look beyond the segment.
    allowed: of quantised models, the error that a version of the target's sub-graph may have by rounding on `feeds`.
    """

    target: Graph
    source: Graph
    anchors: tuple[Anchor, ...]
    goal: Anchor
    feeds: Mapping[str, Array]
    source_feeds: Mapping[str, Array]
    expected: Array
    actual: Array | None
    error: float
    tolerance: float
    full: Graph
    run: Callable[[Graph, Mapping[str, Array], Sequence[str]], list[Array]]
    failure: str = ""
    at_input: bool = False
    at_output: bool = False
    pairs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    allowed: Callable[[Graph, Mapping[str, Array]], float] | None = None

    @cached_property
    def node(self) -> Node:
        """The target node to blame: the one that differs from its twin, else the one that makes the goal."""
        return self.target.producers[self.goal.target]

    def trial(self, edits: Sequence[Edit]) -> float:
        """Relative L2 error of the goal after the edits; inf where they do not fit or the segment cannot run."""
        return self.after(edits).error

    def after(self, edits: Sequence[Edit]) -> Segment:
        """The segment as it is once the edits are made; its error is inf where they do not fit or it cannot run."""
        goal, graph = self.goal.target, self.full
        try:
            if goal not in graph.output_names:
                # As an output of the graph the goal keeps its name where an edit inserts or removes a node right there.
                graph = replace(graph, outputs=(*graph.outputs, Value(goal, self.expected.dtype)))
            full = apply(graph, edits)
            piece = full.between(self.feeds, [goal])
            if any(n not in self.feeds for n in piece.input_names):
                # Removing the node that makes an output gives the output's name to what fed it: cut there beforehand.
                piece = apply(self._cut(graph), edits).between(self.feeds, [goal])
            (value,) = self.run(piece, {n: self.feeds[n] for n in piece.input_names if n in self.feeds}, [goal])
        except FetafixError as error:
            return replace(self, actual=None, error=float("inf"), failure=str(error))
        found = self._off(value)
        noise = self._rounding(piece, found)
        return replace(self, target=piece, full=full, actual=value, error=found, failure="", tolerance=noise)

    def _off(self, value: Array) -> float:
        """The error of a value of the goal. What is merely reshaped may get another shape by an edit, in its order."""
        free = self.goal.layout.reshaped and self.goal.layout.perm is None and value.size == self.expected.size
        return relative_error(value.reshape(self.expected.shape) if free else value, self.expected)

    def _cut(self, graph: Graph) -> Graph:
        """The graph with the segment's feeds as inputs, without the nodes that make them."""
        nodes = tuple(n for n in graph.nodes if not any(o in self.feeds for o in n.outputs))
        made = tuple(Value(t, v.dtype, v.shape) for t, v in self.feeds.items() if t not in graph.input_names)
        return replace(graph, nodes=nodes, inputs=(*graph.inputs, *made))

    def on(self, graph: Graph) -> Segment:
        """The same segment of another version of the whole graph, with what that makes of the feeds."""
        goal = self.goal.target
        piece = graph.between(self.feeds, [goal])
        try:
            (value,) = self.run(piece, {n: self.feeds[n] for n in piece.input_names if n in self.feeds}, [goal])
        except FetafixError as error:
            return replace(self, target=piece, full=graph, actual=None, error=float("inf"), failure=str(error))
        found = self._off(value)
        noise = self._rounding(piece, found)
        return replace(self, target=piece, full=graph, actual=value, error=found, failure="", tolerance=noise)

    def _rounding(self, piece: Graph, error: float) -> float:
        """The tolerance for another version of the segment: what rounding there explains.

        It takes a run with every number rounded otherwise, which is spared where no tolerance would be enough.
        """
        hopeless = error > max(self.tolerance, _NEVER)
        return self.tolerance if self.allowed is None or hopeless else self.allowed(piece, self.feeds)

    def healed(self, error: float) -> bool:
        """Whether an error is within the segment's own noise."""
        return error <= self.tolerance


def relative_error(value: Array, expected: Array) -> float:
    """‖value − expected‖₂ / ‖expected‖₂ ; inf for another shape, or where only one of the two is finite."""
    if value.shape != expected.shape:
        return float("inf")
    quick = _quick_error(value, expected)
    if quick is not None:
        return quick
    a, b = np.asarray(value, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    a, b = a[finite], b[finite]
    if not np.isfinite(a).all():
        return float("inf")
    norm = float(np.linalg.norm(b))
    diff = float(np.linalg.norm(a - b))
    return diff / norm if norm > 0 else (0.0 if diff == 0 else float("inf"))


def layout_blind_error(value: Array | None, expected: Array) -> float:
    """Relative L2 error of a value against an expected one that may lie in another layout; inf where sizes differ."""
    if value is None or value.size != expected.size:
        return float("inf")
    if value.shape == expected.shape or value.ndim != expected.ndim or value.ndim > 5:
        return relative_error(value, expected)
    perms = (p for p in permutations(range(value.ndim)) if tuple(expected.shape[i] for i in p) == value.shape)
    return min((relative_error(value, expected.transpose(p)) for p in perms), default=float("inf"))


def _quick_error(value: Array, expected: Array) -> float | None:
    """The same in float32, where nothing overflows, vanishes or is not finite; None otherwise."""
    if value.dtype != np.float32 or expected.dtype != np.float32:
        return None
    b = expected.reshape(-1)
    d = value.reshape(-1) - b
    with np.errstate(over="ignore"):
        num, den = float(np.dot(d, d)), float(np.dot(b, b))
    if not (np.isfinite(num) and np.isfinite(den)) or den < 1e-20:
        return None
    return float(np.sqrt(num / den))
