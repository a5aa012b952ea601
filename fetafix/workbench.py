"""Both models lifted to ONNX and run node by node on a few samples: where localization and repair take place.

The judge stays the native runtime: what a lift says counts only where the lift agrees with its own artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fetafix import lift_check
from fetafix.annex import Annex, carry
from fetafix.drawing import sides
from fetafix.errors import InputDataError, LiftError, ModelError
from fetafix.faults.base import Interface
from fetafix.findings import Names
from fetafix.formats.base import Lifted
from fetafix.graph.align import Aligner, Alignment, InputTwin
from fetafix.graph.arithmetic import rounded_otherwise
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.graph.rounding import moved_by_flips
from fetafix.graph.segment import Layout
from fetafix.inputs.pairing import pair_feeds
from fetafix.inputs.preprocess import ASSUMED
from fetafix.inputs.recipe import Preprocess
from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array, Graph
from fetafix.judge.noise import EPS, SAFETY
from fetafix.options import Side
from fetafix.parallel import ModelProcess
from fetafix.pending import Pending
from fetafix.probing import takes_batches
from fetafix.session import Session

_SAMPLES = 4
_CLOSE = 1.5e-5  # relative L2 of outputs that agree: 128 units in the last place of float32


class Workbench:
    """The lifted pair of a session. A context manager: it holds activations, perhaps in a temporary file.

    Entering raises LiftError where a model cannot be lifted, or its lift cannot be run node by node, or answers
    otherwise than the model. `failures` then says which; the other side's lift stands.
    """

    def __init__(self, session: Session, folder: Path, annex: Annex | None = None) -> None:
        """annex: look at its inputs instead of samples."""
        self.session, self.folder = session, folder
        self.evaluator = Evaluator()
        able = takes_batches(session.source_info) and takes_batches(session.target_info)
        both = session.inside(_SAMPLES) if annex is None else _few(annex)
        able = able and not any(p["batch_failure"] for p in session.probes.values())
        self.count = len(both[0]) if able and all(s.stackable for s in both) else 1
        self._stackable = [s.stackable for s in both]
        self.source_feeds, self.target_feeds = (s.feed(0, self.count) for s in both)
        self._indices = both[0].indices[: self.count]
        self.own: dict[str, Array] = {}
        self.failures: dict[Side, ModelError] = {}
        self._first: tuple[Graph, Alignment] | None = None  # kept for exhibits alone: it takes memory
        self._last: tuple[Graph, Alignment] | None = None

    def __enter__(self) -> Workbench:
        ours = self.session.source.start_lift(self._folder("source"), self.source_feeds)
        theirs = self.session.target.start_lift(self._folder("target"), self.target_feeds)
        with self._noting("source"):
            self._opened("source", ours, self._open_source)
        with self._noting("target"):
            self._opened("target", theirs, self._open_target)
        if self.failures:
            raise LiftError(". ".join(dict.fromkeys(map(str, self.failures.values()))))
        self._settle_inputs(self.target_feeds)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is held; for a workbench that could not be entered."""
        if hasattr(self, "aligner"):
            self.aligner.__exit__(None, None, None)

    @property
    def source(self) -> Graph:
        """The canonical source graph with concrete shapes."""
        return self.aligner.source

    @property
    def names(self) -> tuple[Names, Names]:
        """(source's, target's) layer names."""
        return Names(self.source, self.source_lift.names), Names(self.target, self.target_lift.names)

    def align(self, target: Graph) -> Alignment:
        """Align a version of the target graph with the source."""
        for known in (self._first, self._last):
            if known is not None and known[0] is target:
                return known[1]
        kept = {t: s for t, s in self.session.bindings.output_names.items() if t in target.output_names}
        inputs = tuple(t for t in self._twins if t.target in target.input_names)
        self._last = target, self.aligner.align(target, inputs, kept, self.own)
        if self._first is None and self.session.options.exhibits:
            self._first = self._last
        return self._last[1]

    def use(self, feeds: Mapping[str, Array]) -> None:
        """Feed the target these values from now on (its preprocessing was changed)."""
        self._settle_inputs(feeds)

    def _folder(self, name: str) -> Path:
        (made := self.folder / name).mkdir()
        return made

    def _opened(self, side: Side, lift: Pending[Lifted], use: Callable[[Lifted], None]) -> None:
        """Look at a side's lift; at one by another converter where the first answers otherwise than the model."""
        try:
            use(lift.result())
        except LiftError as first:
            process = self.session.source if side == "source" else self.session.target
            feeds = self.source_feeds if side == "source" else self.target_feeds
            if process.info().format == "onnx":
                raise
            try:
                lifted = process.start_lift(self._folder(f"{side}-again"), feeds, again=True).result()
                use(replace(lifted, notes=(*lifted.notes, f"{first}; by another converter it answers as the model")))
            except LiftError:
                raise first from None

    @contextmanager
    def _noting(self, side: Side) -> Iterator[None]:
        """Keeps what is wrong with a side's lift, so that the other side is looked at all the same."""
        try:
            yield
        except ModelError as error:
            self.failures[side] = error

    def _open_source(self, lifted: Lifted) -> None:
        self.source_lift = lifted
        graph = canonical(load_graph(lifted.path), self.evaluator)
        self.aligner = Aligner(graph, self.source_feeds, self.evaluator)
        if self.session.source_info.format != "onnx":
            names = [n for n in self.source.output_names if n in self.aligner.values]
            values = {n: self.aligner.values[n] for n in names}
            self._agrees(self.session.source, graph, self.source_feeds, values, self._stackable[0])

    def _open_target(self, lifted: Lifted) -> None:
        self.target_lift = lifted
        self.target = canonical(load_graph(lifted.path), self.evaluator)
        if self.session.target_info.format != "onnx":
            values = self._run_target(self.target, self.target_feeds)
            self._agrees(self.session.target, self.target, self.target_feeds, values, self._stackable[1])

    def _settle_inputs(self, feeds: Mapping[str, Array]) -> None:
        """Inputs that hold the source's values in some layout are twins; others get their own values."""
        twins, own = [], {}
        for binding in self.session.bindings.inputs:
            mine, theirs = feeds[binding.target], self.aligner.values[binding.source]
            moved = binding.to_target(theirs)
            if moved.shape == mine.shape and np.array_equal(moved.astype(mine.dtype), mine):
                twins.append(InputTwin(binding.target, binding.source, Layout(binding.perm)))
            else:
                own[binding.target] = np.asarray(mine)
        self._twins, self.own = tuple(twins), own
        self._first = self._last = None

    def _agrees(
        self, process: ModelProcess, graph: Graph, feeds: Mapping[str, Array], lifted: Mapping[str, Array],
        stackable: bool,
    ) -> None:
        """Compare a lift with its own artifact. ONNX models are their own lift, and are not compared.

        Raises LiftError, which says which output differs how much, beyond what `lift_check` allows.
        """
        samples = feeds if stackable else {k: v[None] for k, v in feeds.items()}
        native = process.run(samples, self.count, stackable)
        details = process.info().details
        for name, value in lifted.items():
            flipped = partial(moved_by_flips, graph, feeds, self.evaluator.run)
            rounded = partial(rounded_otherwise, graph, feeds, self.evaluator.run, EPS)
            found = lift_check.differs(name, value, native.get(name), details, flipped, rounded)
            if found:
                raise LiftError(
                    f"the ONNX view of {process.path} answers otherwise than the model itself (output {name!r}: "
                    f"{found}): the lift is wrong, not your model, so layers cannot be compared in it"
                )

    @cached_property
    def interface(self) -> Interface:
        """Both models as a whole, for the fault types of preprocessing, inputs, outputs and batch."""
        session = self.session
        samples = session.sets("search", self.count)
        images = any(s.images for s in samples)
        known = [s.preprocess.as_dict() if s.preprocess is not None else None for s in samples]
        bound = session.bindings
        return Interface(
            source=self.source,
            target=self.align(self.target).target,
            inputs=bound.input_names,
            outputs=bound.output_names,
            source_feeds=self.source_feeds,
            target_feeds=self.target_feeds,
            expected={s: self.aligner.values[s] for s in bound.output_names.values() if s in self.aligner.values},
            run_target=self._run_target,
            preprocess=(known[0], known[1]),
            images=images,
            extra_outputs=bound.extra,
            probes=session.probes,
            tolerance=max(_CLOSE, *(SAFETY * session.noise.floor(s).rel_l2 for s in bound.output_names.values())),
            refeed=self.refeed if images else None,
        )

    def _run_target(self, graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        names = graph.output_names
        return dict(zip(names, self.evaluator.run(graph, feeds, names), strict=True))

    def changed_preprocess(self, changes: Mapping[str, Any]) -> Preprocess:
        """The target's preprocessing with some fields changed."""
        base = self.session.sets("search", 1)[1].preprocess or ASSUMED
        return base.changed(changes)

    def refeed(self, changes: Mapping[str, Any]) -> Mapping[str, Array]:
        """The target's feeds for the same samples under a changed preprocessing."""
        session = self.session
        both = sides(
            session.source_info,
            session.target_info,
            session.bindings,
            session.options,
            self.changed_preprocess(changes),
        )
        found = [i for i, index in enumerate(self._indices) if index < 0]
        if not found:
            return pair_feeds(session.samplings.data, self._indices, *both)[1].feed(0, self.count)
        fresh = pair_feeds(session.samplings.data, session.sets("search", self.count)[0].indices, *both)[1]
        again = carry(session.sets("search", self.count)[0], fresh, session.bindings.inputs)
        if again is None or not all(self._stackable):
            raise InputDataError("inputs that a search found cannot be prepared otherwise")
        return again(self.source_feeds).feed(0, self.count)


def _few(annex: Annex) -> tuple[SampleSet, SampleSet]:
    """The first inputs of an annex that a repair may be chosen on, as many as it wants in one batch."""
    at = annex.search[: annex.batch or _SAMPLES]
    return annex.source.take(at), annex.target.take(at)
