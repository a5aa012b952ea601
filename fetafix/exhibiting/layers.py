"""The error layer by layer: how far off each tensor of the target is from its twin in the source.

Three runs tell it. The target as it is, fed its own inputs, carries what came before along. Each segment fed with the
source's activations (`graph.walk`) shows what is introduced there. And the repaired target, by itself again, shows what
is left. All of them in the lifted graphs, on the few samples that localization looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetInputShape, SetPreprocessing, apply
from fetafix.errors import FetafixError
from fetafix.exhibiting.places import Key, Place
from fetafix.exhibits import LayerError
from fetafix.faults.base import Interface
from fetafix.graph.align import Alignment
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import relate
from fetafix.graph.forcing import Twin
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Array, Graph, Node
from fetafix.localize import Located
from fetafix.report import Finding
from fetafix.workbench import Workbench

_AT_INPUT = frozenset({"PP", "ID"})


@dataclass(frozen=True)
class Marks:
    """Which tensors introduce error: tensor → (relative L2, codes and layers of the findings there)."""

    errors: Mapping[str, float]
    findings: Mapping[str, tuple[Key, ...]]


def layers(
    bench: Workbench, located: Located | None, places: Mapping[Key, Place], findings: Sequence[Finding],
    kept: Sequence[Edit] | None,
) -> list[LayerError]:  # fmt: skip
    """In the order of the target's layers. located: None where a plan was applied. kept: the repair's edits, if any."""
    target = bench.target
    entrance = _entrance(located)
    asked = _aligned(bench, target, entrance)
    healed = _healed(bench, located, target, kept)
    twins = [a.twins for a in (healed, asked) if a is not None]
    marks = _marks(target, located, places, asked, {t for known in twins for t in known})
    carried = _errors(bench, target, bench.target_feeds, twins)
    again = _fed(bench, kept) if kept else None
    repaired = _edited(target, kept) if kept else None
    after = {} if repaired is None or again is None else _errors(bench, repaired, again, twins)
    introduced = {t: w.error for t, w in (asked.twins if asked is not None else {}).items()} | dict(marks.errors)
    changed = None if again is bench.target_feeds else again  # what is mended in the graph stays as it is before it
    inputs = _inputs(bench, findings, bench.target_feeds, changed)
    return [*inputs, *_rows(bench, twins, marks, findings, (carried, introduced, after))]


def _entrance(located: Located | None) -> list[Edit]:
    """What the interface needs before anything behind it can be fed with the source's activations."""
    steps = located.steps if located is not None else ()
    return [e for s in steps if isinstance(s.diagnosis.site, Interface) for e in s.edits]


def _edited(target: Graph, edits: Sequence[Edit]) -> Graph | None:
    try:
        return apply(target, edits) if edits else target
    except FetafixError:
        return None


def _aligned(bench: Workbench, target: Graph, edits: Sequence[Edit]) -> Alignment | None:
    graph = _edited(target, edits)
    try:
        return None if graph is None else bench.align(graph)
    except FetafixError:
        return None


def _healed(
    bench: Workbench, located: Located | None, target: Graph, kept: Sequence[Edit] | None
) -> Alignment | None:
    """The alignment of the target once it is repaired: it knows more twins, and surely."""
    found = [e for s in located.steps for e in s.edits] if located is not None else []
    if kept and set(map(id, kept)) != set(map(id, found)):
        return _aligned(bench, target, kept)
    if located is None or located.treatment.target is target or located.treatment.unrelated:
        return None
    return _aligned(bench, located.treatment.target, [])  # most likely it was aligned last


def _marks(
    target: Graph, located: Located | None, places: Mapping[Key, Place], asked: Alignment | None, known: set[str]
) -> Marks:
    """Findings at the tensors that they name, else at those that are wrong by them, else at the next that have a row;
    and what stays guilty. known: tensors with a twin, which have one.
    """
    errors: dict[str, float] = {}
    found: dict[str, list[Key]] = {}
    order = {o: i for i, n in enumerate(target.nodes) for o in n.outputs if o}
    for name, place in places.items():
        options = [t for t in (place.target, place.goal) if t is not None and t in order]
        behind = (o for n in target.nodes[order[options[0]]:] for o in n.outputs) if options else ()
        at = next((t for t in (*options, *behind) if t in known), None)
        if at is not None:
            found.setdefault(at, []).append(name)
            errors[at] = place.error
    if located is None:
        left = asked.segments() if asked is not None else []
    else:
        left = list(located.treatment.remaining)
        left += [s for step in located.steps if isinstance(s := step.diagnosis.site, Segment)]
    places_of = {p.goal for p in places.values()}
    for segment in left:
        if segment.goal.target not in places_of:
            errors.setdefault(segment.goal.target, segment.error)
    return Marks(errors, {t: tuple(k) for t, k in found.items()})


def _fed(bench: Workbench, edits: Sequence[Edit]) -> Mapping[str, Array] | None:
    """What the target's inputs get once edits are made; None where that cannot be told."""
    changes: dict[str, Any] = {k: v for e in edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}
    try:
        if changes:
            return bench.refeed(changes)
        if any(isinstance(e, SetInputShape) for e in edits):
            return bench.interface.refed(edits)
    except FetafixError:
        return None
    return bench.target_feeds


def _errors(
    bench: Workbench, graph: Graph, feeds: Mapping[str, Array], twins: Sequence[Mapping[str, Twin]]
) -> dict[str, float]:
    """How far off each tensor with a twin is when a graph runs by itself: relative L2; inf for another shape."""
    found = {}
    for name, value in alone(graph, feeds, bench.evaluator):
        options = [t[name] for t in twins if name in t]
        if options and value.dtype.kind in "fV":
            twin = next((t for t in options if t.shape == value.shape), options[0])
            found[name] = _off(value, bench.aligner.values[twin.source], twin)
    return found


def _off(value: Array, source: Array, twin: Twin) -> float:
    with np.errstate(all="ignore"):
        return relative_error(value, relate(source, twin.layout, twin.shape).astype(value.dtype, copy=False))


def alone(graph: Graph, feeds: Mapping[str, Array], evaluator: Evaluator) -> Iterator[tuple[str, Array]]:
    """Inputs, and what nodes make of them, in order; up to the first node that cannot run. Bounded memory."""
    values = {n: np.asarray(v) for n, v in feeds.items() if n in graph.input_names}
    yield from values.items()
    readers = {t: len({id(n) for n, _ in nodes}) for t, nodes in graph.consumers.items()}
    for node in graph.nodes:
        if graph.fixed(node.key):
            continue
        made = _step(graph, node, values, evaluator)
        if made is None:
            return
        yield from made.items()
        values |= made
        for tensor in (*node.reads, *made):
            if tensor in node.reads:
                readers[tensor] -= 1
            if readers.get(tensor, 0) <= 0:
                values.pop(tensor, None)


def _step(
    graph: Graph, node: Node, values: Mapping[str, Array], evaluator: Evaluator
) -> dict[str, Array] | None:
    fixed = {t: c for t in node.reads if (c := graph.value_of(t)) is not None}
    live = {t: values[t] for t in node.reads if t not in fixed and t in values}
    outs = [o for o in node.outputs if o]
    try:
        made = evaluator.run(Graph((node,), fixed, (), (), graph.opset), live, outs)
    except FetafixError:
        return None
    return dict(zip(outs, made, strict=True))


def _rows(
    bench: Workbench, twins: Sequence[Mapping[str, Twin]], marks: Marks, findings: Sequence[Finding],
    figures: tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]],
) -> list[LayerError]:  # fmt: skip
    positions: dict[Key, int] = {}
    for i, f in enumerate(findings):
        positions.setdefault((f.code, f.target_layer), i)
    rows = []
    source, target = bench.names
    for node in bench.target.nodes:
        for name in (o for o in node.outputs if o and not bench.target.fixed(o)):
            twin = next((t[name] for t in twins if name in t), None)
            if twin is None or (twin.dtype.kind not in "fV" and name not in marks.errors):
                continue
            at = sorted(positions[k] for k in marks.findings.get(name, ()) if k in positions)
            carried, introduced, after = (_finite(f.get(name)) for f in figures)
            rows.append(LayerError(
                target_layer=target.layer(name) or name, source_layer=source.layer(twin.source) or twin.source,
                op=node.op, carried=carried, introduced=introduced, after=after, guilty=marks.errors.get(name, 0.0) > 0,
                findings=at))  # fmt: skip
    return rows


def _inputs(
    bench: Workbench, findings: Sequence[Finding], fed: Mapping[str, Array], again: Mapping[str, Array] | None
) -> Iterator[LayerError]:
    """Inputs that do not hold what the source's hold, or that a finding without a layer is about.

    fed, again: what the target's inputs get, and get once it is repaired.
    """
    about = [i for i, f in enumerate(findings) if f.target_layer is None and f.category in _AT_INPUT]
    for binding in bench.session.bindings.inputs:
        expected = binding.to_target(np.asarray(bench.aligner.values[binding.source]))
        error, after = (None if f is None or binding.target not in f else _unlike(f[binding.target], expected)
                        for f in (fed, again))
        if error or about:
            here, about = about, []
            yield LayerError(
                target_layer=binding.target, source_layer=binding.source, op="input", carried=_finite(error),
                introduced=_finite(error), after=_finite(after), guilty=bool(here), findings=here)  # fmt: skip


def _unlike(value: Array, expected: Array) -> float:
    return relative_error(np.asarray(value), expected.astype(value.dtype, copy=False))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
