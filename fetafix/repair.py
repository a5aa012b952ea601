"""Repair the target: find edits in the lifted graph, write them natively to a copy, believe only what is measured there.

propose → try on the segment → apply to a copy in the target's own format → judge on the search set → prove on the held-out
set. Edits that a format cannot express are replaced by the next candidate that it can, or reported. Originals stay as
they are; without `apply` nothing is left behind but the report, and the plan and the journal where they were asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetafix import journal as journals
from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError, ModelError, OutputError
from fetafix.faults.base import FaultType
from fetafix.findings import proposals, rejected
from fetafix.formats.base import OpenOptions, Written
from fetafix.judging import Judgement
from fetafix.localize import Located
from fetafix.parallel import ModelProcess
from fetafix.plan import Entry
from fetafix.report import Output, Repair
from fetafix.session import Session
from fetafix.treat import Step
from fetafix.workbench import Workbench

_ALTERNATIVES = 3
_SINGLES = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Edits that stand or fall together: one entry of the plan, with other remedies for the same place."""

    entry: Entry
    edits: tuple[Edit, ...]
    alternatives: tuple[tuple[Edit, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """A written copy, judged. unsupported: group index → why its edits cannot be written natively."""

    groups: tuple[Group, ...]
    written: Path | None
    judgement: Judgement
    unsupported: Mapping[int, str] = field(default_factory=dict)


def groups_of(located: Located, bench: Workbench, catalogue: Mapping[str, FaultType], store: ArrayStore) -> list[Group]:
    """The groups to apply, in order. Unrelated weights are not copied wholesale."""
    if located.treatment.unrelated:
        return []
    made = proposals(located.steps, catalogue, *bench.names, store)
    return [Group(entry, step.edits, _alternatives(step)) for entry, step in made]


def _alternatives(step: Step) -> tuple[tuple[Edit, ...], ...]:
    """Other remedies that heal the same segment, smallest first: for formats that cannot express the chosen one."""
    healed = [r for r in step.diagnosis.tried if r.healed and r is not step.remedy]
    return tuple(r.edits for r in sorted(healed, key=lambda r: r.cost)[:_ALTERNATIVES])


class Surgeon:
    """Applies groups of edits to copies of a session's target and judges them; temporary files live in `folder`."""

    def __init__(self, session: Session, bench_lift: Path, folder: Path, journal: journals.Journal | None) -> None:
        self._session, self._lift, self._folder, self._journal = session, bench_lift, folder, journal
        self._count = 0

    def operate(self, groups: Sequence[Group], before: Judgement) -> Trial:
        """Write and judge all groups; where that is no gain, those of them that are one by one."""
        groups, unsupported = self._supported(groups)
        usable = [g for i, g in enumerate(groups) if i not in unsupported]
        trial = self._try(usable, tuple(groups), unsupported)
        if trial is not None and better(trial.judgement, before):
            return trial
        kept: list[Group] = []
        best: Trial | None = None
        for group in usable[:_SINGLES] if len(usable) > 1 else ():
            single = self._try([*kept, group], tuple(groups), unsupported)
            if single is not None and better(single.judgement, best.judgement if best else before):
                kept.append(group)
                best = single
        if best is None:
            return Trial(tuple(groups), None, before, unsupported)
        dropped = {i: "does not improve the native model" for i, g in enumerate(groups) if g not in kept and i not in unsupported}
        return Trial(tuple(groups), best.written, best.judgement, {**unsupported, **dropped})

    def write(self, groups: Sequence[Group], out: Path) -> Written:
        """Write the target with the groups' edits to `out`."""
        return self._session.target.write([e for g in groups for e in g.edits], out, self._lift)

    def open(self, path: Path) -> ModelProcess:
        """A repaired copy in a process of its own."""
        options = self._session.options
        return ModelProcess(path, OpenOptions(trust=options.trust, arch=options.target_arch, threads=options.threads or 0))

    def judge(self, which: Any, path: Path, groups: Sequence[Group], bench: Workbench | None = None) -> Judgement:
        """A copy against the source on the search or the held-out set."""
        with closing(self.open(path)) as process:
            return self._session.judge(which, process, self._preprocess(groups))

    def _preprocess(self, groups: Sequence[Group]) -> Any:
        changes = {k: v for g in groups for e in g.edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}
        if not changes:
            return None
        from fetafix.inputs.preprocess import ASSUMED

        return (self._session.samplings.target.preprocess or ASSUMED).changed(changes)

    def _supported(self, groups: Sequence[Group]) -> tuple[list[Group], dict[int, str]]:
        """Exchange groups that the format cannot express for alternatives that it can; the rest with the reason."""
        chosen, reasons = list(groups), dict[int, str]()
        for i, why in self._refused(chosen).items():
            reasons[i] = why
            for edits in groups[i].alternatives:
                other = Group(groups[i].entry, edits)
                if not self._refused([other]):
                    chosen[i] = other
                    del reasons[i]
                    break
        return chosen, reasons

    def _refused(self, groups: Sequence[Group]) -> dict[int, str]:
        path = self._path()
        flat = [(i, e) for i, g in enumerate(groups) for e in g.edits]
        try:
            written = self._session.target.write([e for _, e in flat], path, self._lift)
        except (FetafixError) as error:
            if len(groups) == 1:
                return {0: str(error)}
            refused: dict[int, str] = {}
            for i, group in enumerate(groups):
                refused.update({i: why for why in self._refused([group]).values()})
            return refused
        return {flat[i][0]: why for i, why in written.unsupported}

    def _try(self, groups: Sequence[Group], everything: tuple[Group, ...], unsupported: Mapping[int, str]) -> Trial | None:
        if not groups:
            return None
        path = self._path()
        try:
            self.write(groups, path)
            judgement = self.judge("search", path, groups)
        except (ModelError, FetafixError) as error:
            self._note("trial failed", groups, error=str(error))
            return None
        self._note("trial", groups, verdict=str(judgement.ruling.verdict), top1=judgement.agreement.top1,
                   max_abs=judgement.agreement.max_abs)
        return Trial(everything, path, judgement, unsupported)

    def _path(self) -> Path:
        self._count += 1
        folder = self._folder / f"copy{self._count}"
        folder.mkdir()
        return folder / self._session.paths[1].name

    def _note(self, event: str, groups: Sequence[Group], **fields: Any) -> None:
        if self._journal is not None:
            self._journal.write(event, entries=[g.entry.id for g in groups], **fields)


def better(after: Judgement, before: Judgement) -> bool:
    """Whether labels agree more often, or as often while the numbers are nearer."""
    a, b = after.agreement, before.agreement
    if not after.comparison.samples:
        return False
    labels = ((a.top1 or 0.0) if a.top1 is not None else 0.0, (b.top1 or 0.0) if b.top1 is not None else 0.0)
    if labels[0] != labels[1]:
        return labels[0] > labels[1]
    return error(after) < error(before)


def error(judgement: Judgement) -> float:
    """Largest relative L2 error of an output; inf where one cannot be compared."""
    figures = [o.rel_l2 if o.rel_l2 is not None else float("inf") for o in judgement.agreement.outputs]
    return max(figures, default=float("inf"))


def records(trial: Trial, extra: Sequence[Repair]) -> list[Repair]:
    """The report's repairs: what was kept, what could not be written, what was tried and left."""
    made = []
    for i, group in enumerate(trial.groups):
        why = trial.unsupported.get(i)
        kept = why is None and (trial.written is not None)
        status = "kept" if kept else "rejected" if why is None or why.startswith("does not") else "unsupported"
        e = group.entry
        edits = [{"kind": x.kind, "description": x.describe()} for x in group.edits]
        made.append(Repair(id=e.id, code=e.code, target_layer=e.target_layer, edits=edits, status=status,
                           before=e.before, after=e.after, why=why or e.why))
    return [*made, *extra]


def default_output(target: Path) -> Path:
    """`model.repaired.onnx` beside `model.onnx`."""
    return target.with_name(f"{target.stem}.repaired{target.suffix}")


def check_output(out: Path, originals: Sequence[Path]) -> None:
    """Raise OutputError where `out` is one of the models, or where there is no folder to write it to."""
    if any(out.resolve() == p.resolve() for p in originals):
        raise OutputError(f"{out} is one of the two models; the repaired model goes to a file of its own (-o)")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out} cannot be written: there is no folder {out.absolute().parent}")
