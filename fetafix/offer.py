"""Where the target's own format cannot express a repair: the repaired ONNX view, and what it converts to, judged.

Both are made in a folder that does not stay, and come to their place beside the output only where they are to be
written and agree with the source better than the target as it is. Whatever fails on the way is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetafix.convert import places
from fetafix.errors import EditError, FetafixError
from fetafix.formats import sha256
from fetafix.formats.base import OpenOptions
from fetafix.journal import Journal
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.reconvert import Converted, reconvert, suffix
from fetafix.repair import Group, Trial, better, prepared
from fetafix.report import Offer
from fetafix.session import Session


@dataclass
class Offered:
    """What is offered, and the notes that say so, or why not."""

    models: list[Offer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def unwritten(trial: Trial) -> list[Group]:
    """The groups that the target's format could not express."""
    return [g for i, g in enumerate(trial.groups) if i in trial.refused and trial.refused[i].status == "unsupported"]


def offer(session: Session, lifted: Path, trial: Trial, out: Path, write: bool, journal: Journal) -> Offered:
    """All repairs in the lifted ONNX model, as `<out>.onnx`, and that converted to the target's format again.

    Without `write` nothing is left behind. Files that are there already stay as they are. An ONNX target is its own
    view: there is nothing to offer beside it.
    """
    target = session.target_info
    made = _Offering(session, lifted, trial, write, Offered())
    if target.format == "onnx":
        return made.found
    stem = out.name if session.paths[1].is_dir() else out.stem
    if made.view(out.with_name(f"{stem}.onnx")):
        made.conversion(out.with_name(f"{stem}.reconverted{suffix(target)}"))
    for model in made.found.models:
        journal.write("offered", offer=model)
    for note in made.found.notes:
        journal.write("offered", note=note)
    return made.found


@dataclass
class _Offering:
    """Makes and judges one model after the other, and keeps what came of it in `found`."""

    session: Session
    lifted: Path
    trial: Trial
    write: bool
    found: Offered

    def view(self, path: Path) -> bool:
        """The repaired view; whether it agrees better than the target."""
        names = ", ".join(g.entry.code for g in unwritten(self.trial))
        what = f"an ONNX model with all repairs, also those that the target's format cannot express ({names}),"
        made = self.lifted.with_name("offer.onnx")
        try:
            self._edit(made)
            with closing(ModelProcess(made, OpenOptions(threads=self.session.threads))) as repaired:
                judgement = self.session.judge("heldout", repaired, self._preprocess)
        except FetafixError as error:
            return self._no(f"{what} fails: {error}")
        return self._offered(what, path, "onnx", judgement, self._edit)

    def conversion(self, path: Path) -> None:
        """The repaired view as a model of the target's own format."""
        view, folder = self.lifted.with_name("offer.onnx"), self.lifted.with_name("reconverted")
        try:
            outcome = reconvert(self.session, view, folder, self._preprocess)
        except FetafixError as error:  # the source, or the samples: what is offered already stays
            self._no(f"that ONNX model is not offered in the target's own format again: {error}")
            return
        if outcome.model is None:
            self._no(f"that ONNX model is not offered as {outcome.format} again: {outcome.why}")
            return
        model = outcome.model
        what = f"that ONNX model converted to {outcome.format} again, by {model.converters},"

        def place(out: Path) -> None:
            places.move(model.path, out)

        if self._offered(what, path, outcome.format, model.judgement, place, model.converters):
            self.found.notes += self._differences(model)

    @property
    def _preprocess(self) -> Any:
        return prepared(self.session, self.trial.groups)

    def _edit(self, path: Path) -> None:
        """Write the view with all repairs. Raises EditError, OutputError."""
        edits = [e for g in self.trial.groups for e in g.edits]
        with closing(ModelProcess(self.lifted, OpenOptions(threads=self.session.threads))) as model:
            refused = model.write(edits, path, self.lifted).unsupported
        if refused:
            raise EditError(f"ONNX cannot express all of them either: {refused[0][1]}")

    def _offered(
        self, what: str, path: Path, name: str, judgement: Judgement, place: Callable[[Path], None],
        converters: str = "",
    ) -> bool:  # fmt: skip
        """Offer a model if it is a gain over the target; whether it is. place: writes it to a path."""
        ruling = judgement.ruling
        if not better(judgement, self.session.judge("heldout")):
            return self._no(f"{what} agrees no better than the target as it is, so it is not offered: {ruling.reason}")
        where, digest = f"would be written to {path} with --apply", ""
        if self.write:
            where, digest = self._placed(path, place)
        self.found.models.append(Offer(
            path=str(path), format=name, verdict=ruling.verdict, passed=ruling.passed, reason=ruling.reason,
            converters=converters, sha256=digest))  # fmt: skip
        self.found.notes.append(f"{what} {where}: {ruling.reason}")
        return True

    def _placed(self, path: Path, place: Callable[[Path], None]) -> tuple[str, str]:
        """Where a model is now, in words, and its hash; "" where it could not be put there."""
        taken = next((p for p in (path, path.with_name(f"{path.name}.data")) if p.exists() or p.is_symlink()), None)
        if taken is not None:
            return f"was not written, for {taken} exists already", ""
        try:
            place(path)
        except FetafixError as error:
            return f"was not written: {error}", ""
        return f"is {path}", sha256(path)

    def _no(self, note: str) -> bool:
        self.found.notes.append(note)
        return False

    def _differences(self, model: Converted) -> Sequence[str]:
        """In what a model that was made anew is another one than the target."""
        target = self.session.target_info
        notes = []
        if target.format in ("torch-state-dict", "safetensors"):
            notes.append("it is a TorchScript module, which carries its code along; the target holds parameters alone, "
                         "and the code that they are loaded into stays wrong where the repairs say so")
        if target.details.get("quantised") and not model.info.details.get("quantised"):
            notes.append("it computes in real numbers, the target in codes: quantise it again if it has to be as small")
        before, after = ([(t.name, t.shape) for t in i.inputs] for i in (target, model.info))
        if before != after:
            notes.append(f"its inputs are {_ports(after)}, the target's {_ports(before)}")
        return notes


def _ports(ports: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{n} {list(s) if s is not None else '?'}" for n, s in ports)
