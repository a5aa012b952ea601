"""Apply a patch to a model file, or take it back: open, lift, replay, write, and try what was written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fetafix import lift_check
from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import EditError, FetafixError, RuntimeCrash, UsageError
from fetafix.findings import Names
from fetafix.formats import sha256
from fetafix.formats.base import Lifted, OpenOptions
from fetafix.formats.staging import staging
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.graph.structure import outline
from fetafix.inputs.preprocess import ASSUMED, parse
from fetafix.inputs.samples import SampleSet
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.ir import Array, Graph
from fetafix.outputs import keep_apart, writable
from fetafix.parallel import ModelProcess
from fetafix.patch.make import undoing
from fetafix.patch.outcome import Outcome, Placed, Wish
from fetafix.patch.record import edits_of, load, outline_of
from fetafix.patch.replay import Fate, Replayed, Step, replay
from fetafix.plan import Entry
from fetafix.preparation import option
from fetafix.report import Output, TensorInfo

_DONE = {"apply": "applied", "revert": "reverted"}


def apply(patch: str | Path, model: str | Path, wish: Wish | None = None) -> Outcome:
    """Replay a patch onto a model; the result is a new file.

    Raises UsageError where the patch cannot be read, OutputError where the result cannot be written, ModelError where
    the model cannot be opened. A patch that does not fit is an outcome.
    """
    return _Use("apply", Path(patch), Path(model), wish or Wish()).run()


def revert(patch: str | Path, model: str | Path, wish: Wish | None = None) -> Outcome:
    """Take a patch back from a model that it was applied to; the result is a new file. Raises as `apply` does."""
    return _Use("revert", Path(patch), Path(model), wish or Wish()).run()


class _Use:
    def __init__(self, command: str, path: Path, model: Path, wish: Wish) -> None:
        self._command, self._path, self._model, self._wish = command, path, model, wish
        tail = "patched" if command == "apply" else "reverted"
        self._out = Path(wish.out) if wish.out else model.with_name(f"{model.stem}.{tail}{model.suffix}")
        keep_apart({"output": self._out}, {"target": model, "patch": path})
        writable(self._out) if not self._out.is_dir() else None
        self._patch, self._store = load(path)

    def run(self) -> Outcome:
        patch = self._patch
        if self._command == "revert" and patch.irrevocable:
            return self._outcome("refused", f"the patch cannot be taken back: {patch.irrevocable}")
        self._check_preprocess()
        with ModelProcess(self._model, self._wish.options) as process, tempfile.TemporaryDirectory() as folder:
            samples = SyntheticSource(0).feeds(range(1), _declared(process.info().inputs, self._patch.inputs))
            lifted = process.lift(Path(folder), samples.feed(0))
            graph = canonical(load_graph(lifted.path), Evaluator())
            done = replay(*self._side(self._command), outline(graph))
            placed = self._placed(done, Names(graph, lifted.names))
            refused = done.of("refused")
            if refused and (not self._wish.partial or len(refused) == len(done.fates)):
                return self._refused(done, placed, graph)
            edits = [e for e in done.edits if not isinstance(e, SetPreprocessing)]
            if not edits:
                return self._unwritten(done, placed)
            unfit = self._written(process, edits, lifted, done.graph, samples)
        if unfit:
            return self._outcome("refused", unfit, done, placed)
        output = Output(path=str(self._out), sha256=sha256(self._out))
        return self._outcome("written", self._summary(done), done, placed, output)

    def _side(self, command: str) -> tuple[Any, list[Step]]:
        """The outline that the steps are made for, and the steps."""
        patch, store = self._patch, self._store
        if command == "apply":
            return outline_of(patch.before, store), [Step(e.id, edits_of(e.edits, store)) for e in patch.entries]
        undo = [edits_of(u, store) for u in patch.undo]
        return outline_of(patch.after, store), undoing(patch.entries, undo)

    def _written(
        self, process: ModelProcess, edits: Sequence[Edit], lifted: Lifted, wanted: Graph, samples: SampleSet
    ) -> str:
        """Write the model; why that could not be done, or "". What does not answer as it should gets no name."""
        with staging(self._out) as folder:
            copy = folder / self._out.name
            try:
                written = process.write(edits, copy, lifted.path)
            except EditError as error:
                return f"the model cannot be written with the edits: {error}"
            if written.unsupported:
                return f"the format cannot express an edit: {written.unsupported[0][1]}"
            unlike = _unlike(copy, self._wish.options, wanted, samples)
        if not unlike:
            process.write(edits, self._out, lifted.path)
        return unlike

    def _refused(self, done: Replayed, placed: list[Placed], graph: Graph) -> Outcome:
        """The outcome where steps do not fit: perhaps the patch was applied, or reverted, before."""
        other = "revert" if self._command == "apply" else "apply"
        if other == "apply" or not self._patch.irrevocable:
            back = replay(*self._side(other), outline(graph))
            if len(back.of("fits")) == len(back.fates):
                which = "already as the patch makes it" if other == "revert" else "as it is without the patch"
                placed = [msgspec.structs.replace(p, status="in place", why="") for p in placed]
                return self._outcome("in place", f"the model is {which}; nothing is written", back, placed)
        refused = done.of("refused")
        placed = [msgspec.structs.replace(p, status="fits") if p.status == _DONE[self._command] else p for p in placed]
        reason = f"{len(refused)} of {len(done.fates)} repairs did not fit this model, so nothing is written: "
        return self._outcome("refused", reason + "; ".join(dict.fromkeys(f.why for f in refused)), done, placed)

    def _unwritten(self, done: Replayed, placed: list[Placed]) -> Outcome:
        """The outcome where the model needs no edit."""
        if done.of("fits"):
            return self._outcome("preprocessing", "the model stays as it is; its inputs are to be prepared otherwise",
                                 done, placed)  # fmt: skip
        return self._outcome("in place", "the model has every repair already; nothing is written", done, placed)

    def _placed(self, done: Replayed, names: Names) -> list[Placed]:
        entries = {e.id: e for e in self._patch.entries}
        return [_entry(f, entries[f.id], names, self._command) for f in done.fates]

    def _summary(self, done: Replayed) -> str:
        count, total = len(done.of("fits")), len(done.fates)
        some = f"{count} of {total}" if count < total else str(count)
        return f"{some} repair{'s' if total > 1 else ''} {_DONE[self._command]}; the written model was opened and run"

    def _check_preprocess(self) -> None:
        """Raise UsageError where the inputs are prepared otherwise than the patch expects."""
        now, changes = self._preprocess(self._command == "revert"), self._changes()
        if self._wish.preprocess is None or not changes or now is None:
            return
        given = parse(self._wish.preprocess).as_dict()
        for name in changes:
            if given.get(name) != now.get(name):
                raise UsageError(f"the patch expects that inputs are prepared with {name}={now.get(name)}, found "
                                 f"{name}={given.get(name)}")  # fmt: skip

    def _changes(self) -> dict[str, Any]:
        edits = (e for s in self._side("apply")[1] for e in s.edits)
        return {k: v for e in edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}

    def _preprocess(self, after: bool) -> Mapping[str, Any] | None:
        """The target's preprocessing without or with the patch, as plain data."""
        both = self._patch.preprocess
        known = both[int(after)] if len(both) == 2 else None
        if known is not None or not self._changes():
            return known
        return (ASSUMED.changed(self._changes()) if after else ASSUMED).as_dict()

    def _outcome(
        self, status: str, reason: str, done: Replayed | None = None, placed: Sequence[Placed] = (),
        output: Output | None = None,
    ) -> Outcome:
        wanted = self._preprocess(self._command == "apply") if status != "refused" and self._changes() else None
        notes = [] if wanted is None else [f"prepare this model's inputs with {option(parse(dict(wanted)))}"]
        return Outcome(
            command=self._command, patch=str(self._path), model=str(self._model), status=status, reason=reason,
            entries=list(placed), output=output, preprocess=None if wanted is None else dict(wanted), notes=notes,
            share=round(done.share, 4) if done else 0.0, weights=round(done.weights, 4) if done else 0.0,
        )  # fmt: skip


def _declared(inputs: Sequence[TensorInfo], known: Sequence[Sequence[int]]) -> list[TensorInfo]:
    """What a model declares of its inputs, with the sizes of the repaired model where it leaves them open."""
    if len(inputs) != len(known):
        return list(inputs)
    made = []
    for info, sizes in zip(inputs, known, strict=True):
        shape = info.shape or [None] * len(sizes)
        fits = len(shape) == len(sizes)
        filled = [d if isinstance(d, int) or i == 0 else s for i, (d, s) in enumerate(zip(shape, sizes, strict=False))]
        made.append(msgspec.structs.replace(info, shape=type(shape)(filled)) if fits else info)
    return made


def _entry(fate: Fate, entry: Entry, names: Names, command: str) -> Placed:
    status = _DONE[command] if fate.status == "fits" else fate.status
    lines = [e.describe() for e in fate.edits]
    return Placed(id=fate.id, code=entry.code, status=status, layer=names.layer(fate.place), found=fate.found,
                  edits=lines, why=fate.why)  # fmt: skip


def _unlike(path: Path, options: OpenOptions, wanted: Graph, samples: SampleSet) -> str:
    """How a written model answers otherwise than the edited graph, natively, on a synthetic sample; "" if it does not.

    A graph that its runtime cannot run by itself cannot be compared; that the model runs must then be enough.
    """
    feeds = samples.feed(0)
    given: Mapping[str, Array] = feeds if samples.stackable else {k: v[None] for k, v in feeds.items()}
    try:
        with ModelProcess(path, options) as process:
            native = process.run(given, 1, samples.stackable)
            details = process.info().details
    except FetafixError as error:
        return f"the written model does not run: {error}"
    try:
        values = Evaluator().run(wanted, feeds, wanted.output_names)
    except RuntimeCrash:
        return ""
    names = list(native) if len(native) == len(values) else list(wanted.output_names)
    for name, value in zip(wanted.output_names, values, strict=True):
        own = native.get(name, native.get(names[wanted.output_names.index(name)]))
        found = lift_check.differs(name, value, own, details)
        if found:
            return f"the written model answers otherwise than the edited graph (output {name!r}: {found})"
    return ""
