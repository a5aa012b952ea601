"""Localization where a lift is wrong or cannot be made: by what the layers compute in the native runtimes.

Coarser than a common graph of both models, but true. A side whose lift is sound is looked into through it, the other
through taps of its own runtime. Layers that are fed what the source has, and make something else, introduce the
difference (`graph.traces`). What lies behind is told only where values can be forced: then the source's activation is
put in the layer's place, which proves the pair if what follows agrees again, and shows the next fault. Nothing is
repaired from here: taps know no operators' parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from fetafix.errors import FetafixError, LiftError
from fetafix.findings import Names
from fetafix.formats.base import Tap, Taps
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import relate
from fetafix.graph.segment import relative_error
from fetafix.graph.traces import Introduced, Traces
from fetafix.ir import Array, Graph
from fetafix.options import Side
from fetafix.parallel import ModelProcess
from fetafix.report import Finding
from fetafix.workbench import Workbench

CODE = "cg-native"
_TRIES = 12  # suppositions per place that goes astray
_ROUNDS = 12
_SAME = 1e-3


class View(Protocol):
    """A model that can be looked into."""

    how: str

    def taps(self, forced: Mapping[str, Array]) -> Taps:
        """What its layers compute, with some tensors replaced. Raises FetafixError where that is not possible."""
        ...


@dataclass
class NativeView:
    """Through taps of its own runtime."""

    process: ModelProcess
    feeds: Mapping[str, Array]
    how: str = "in its own runtime"

    def taps(self, forced: Mapping[str, Array]) -> Taps:
        """See `View`. Raises LiftError where looking at the layers changes the model's answers."""
        taps = self.process.tap(self.feeds, forced)
        if not forced:
            self._unchanged(taps)
        return taps

    def _unchanged(self, taps: Taps) -> None:
        own = self.process.run({k: v[None] for k, v in self.feeds.items()}, batched=False)
        for name, value in own.items():
            seen = taps.values.get(name)
            if seen is None or relative_error(seen, value[0]) > _SAME:
                raise LiftError(
                    f"{self.process.path}: output {name!r} is another one while its layers are looked at, so they "
                    "tell nothing of the model as it runs"
                )


@dataclass
class LiftedView:
    """Through its ONNX view."""

    graph: Graph
    names: Names
    feeds: Mapping[str, Array]
    evaluator: Evaluator
    how: str = "in its ONNX view"
    _layers: tuple[Tap, ...] = field(init=False)

    def __post_init__(self) -> None:
        """The layers are known before anything runs."""
        fixed = set(self.graph.initializers)
        self._layers = tuple(
            Tap(self.names.layer(n.key) or n.key, n.op, tuple(t for t in n.reads if t not in fixed),
                tuple(o for o in n.outputs if o))
            for n in self.graph.nodes
        )

    def taps(self, forced: Mapping[str, Array]) -> Taps:
        """See `View`."""
        names = [o for tap in self._layers for o in tap.outputs]
        given = {**self.feeds, **forced}
        values = self.evaluator.run(self.graph, given, names)
        return Taps(self._layers, {**dict(zip(names, values, strict=True)), **given})


@dataclass(frozen=True)
class Looks:
    """What both models computed. target: by itself; traces: compared, once the places found were forced."""

    source: Taps
    target: Taps
    traces: Traces


@dataclass(frozen=True)
class Tapped:
    """What was found, and what to know about how. places: one a finding; looks: None where nothing was seen."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    places: tuple[Introduced, ...] = ()
    looks: Looks | None = None


def locate(bench: Workbench) -> Tapped:
    """Find the introducing layers of a workbench that could not be entered; its `failures` say why."""
    notes = [f"{error}" for error in bench.failures.values()]
    try:
        views = _view(bench, "source"), _view(bench, "target")
        looks, found, behind, forcing = _search(views[0].taps({}), views[1], bench.session.bindings.output_names)
    except FetafixError as error:
        return Tapped((), (*notes, f"nor can the layers be compared in the native runtimes: {error}"))
    notes.append(f"layers were compared by their activations instead: those of the source {views[0].how}, of the "
                 f"target {views[1].how}; this tells where the difference is introduced, not how to repair it")
    if behind and found:
        notes.append(f"{behind} layer(s) of the target lie behind: they carry the difference on, and nothing more can "
                     f"be told of them {'where the source has no counterpart' if forcing else 'without forcing'}")
    if not found:
        notes.append("no layer was found that introduces the difference")
    return Tapped(tuple(_finding(i, views[1].how) for i in found), tuple(notes), tuple(found), looks)


def _view(bench: Workbench, side: Side) -> View:
    session = bench.session
    feeds = bench.source_feeds if side == "source" else bench.target_feeds
    if side in bench.failures:
        return NativeView(session.source if side == "source" else session.target, feeds)
    if side == "source":
        graph, native = bench.source, bench.source_lift.names
    else:
        graph, native = bench.target, bench.target_lift.names
    return LiftedView(graph, Names(graph, native), feeds, bench.evaluator)


def _search(
    source: Taps, target: View, outputs: Mapping[str, str]
) -> tuple[Looks, list[Introduced], int, bool]:
    """(what was seen, places, layers astray behind them, whether values could be forced)."""
    plain = target.taps({})
    traces = Traces(source, plain, outputs)
    found: list[Introduced] = []
    forced: dict[str, Array] = {}
    could = True
    for _ in range(_ROUNDS):
        fresh = traces.introduced()
        if not fresh:
            break
        settled = None
        for guess in (g for g in fresh if g.target not in forced):
            settled = _settled(guess, traces, source, target, outputs, forced)
            if settled is not None:
                break
        if settled is None:
            found += [g for g in fresh if g.target not in forced]
            could = bool(forced)
            break
        place, traces = settled
        found.append(place)
    return Looks(source, plain, traces), found, traces.passed_on(found), could


def _settled(
    guess: Introduced, traces: Traces, source: Taps, target: View, outputs: Mapping[str, str], forced: dict[str, Array]
) -> tuple[Introduced, Traces] | None:
    """The pair of tensors at a place that proves itself when forced, the smallest region first; None where none does.

    `forced` gets the value that proved it.
    """
    tries = [s for _, s in zip(range(_TRIES), traces.suppositions(guess.layers[0]), strict=False)]
    for supposed in sorted(tries, key=lambda s: len(s.layers)):
        there, held = source.values[supposed.source], traces.target.values[supposed.target]
        value = relate(there, supposed.layout, held.shape).astype(held.dtype)
        try:
            again = Traces(source, target.taps({**forced, supposed.target: value}), outputs)
        except FetafixError:
            return None
        if again.agrees_behind(supposed.target) or outputs.get(supposed.target) == supposed.source:
            forced[supposed.target] = value
            return replace(supposed, proved=True), again
    return None


def _finding(place: Introduced, how: str) -> Finding:
    mine, theirs = ([t.layer for t in side] for side in (place.layers, place.source_layers))
    many = len(set(mine)) > 1
    evidence: dict[str, Any] = {
        "compared": how, "target_operators": [t.op for t in place.layers],
        "source_operators": [t.op for t in place.source_layers],
        "proved_by_forcing": place.proved,
    }  # fmt: skip
    if many:
        evidence["target_layers"] = mine
    what = "one of these layers of the target is" if many else "this layer of the target is"
    proof = (
        "; with the source's activation in its place what follows agrees again"
        if place.proved
        else "; behind it nothing can be told without forcing"
    )
    return Finding(
        code=CODE,
        category="CG",
        title="Introduces the difference (seen in the native runtime)",
        source_layer=_called(theirs) or None,
        target_layer=_called(mine),
        evidence=evidence,
        local_error=float(place.error) if np.isfinite(place.error) else None,
        confidence=0.95 if place.proved else 0.7 if not many else 0.5,
        explanation=f"{what} fed what the source has, and makes something else{proof}",
    )


def _called(layers: list[str]) -> str:
    """A layer's name, or the first and the last of several."""
    distinct = list(dict.fromkeys(layers))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} … {distinct[-1]}" if distinct else ""
