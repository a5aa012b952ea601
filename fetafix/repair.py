"""Repair the target: find edits in the lifted graph, write them natively to a copy, believe only what is measured
there.

propose → try on the segment → apply to a copy in the target's own format → judge on the search set → prove on the
held-out set. Edits that a format cannot express are replaced by the next candidate that it can, or reported. Originals
stay as they are; without `apply` nothing is left behind but the report, and the plan and the journal where they were
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType
from fetafix.findings import proposals
from fetafix.formats.base import Written
from fetafix.inputs.preprocess import ASSUMED
from fetafix.journal import Journal
from fetafix.judging import Judgement
from fetafix.localize import Located
from fetafix.parallel import ModelProcess
from fetafix.plan import Entry
from fetafix.report import Repair
from fetafix.session import Session
from fetafix.treat import Step
from fetafix.workbench import Workbench

_ALTERNATIVES = 3
_SINGLES = 8
_LIKE = 3  # digits to which answers are alike: what is below is for the numbers to tell


@dataclass(frozen=True, slots=True)
class Group:
    """Edits that stand or fall together: one entry of the plan, with other remedies for the same place."""

    entry: Entry
    edits: tuple[Edit, ...]
    alternatives: Iterable[tuple[Edit, ...]] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a group is left out; status as in the report: "unsupported" by the format, or "rejected" by measurement."""

    status: str
    why: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the target with edits, written natively and opened."""

    path: Path
    process: ModelProcess
    preprocess: Any


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of applying groups. copy: the best copy, None where none is better than the target as it is.

    refused: group index → why it is not in the copy. judgement: of the copy, on the search set.
    """

    groups: tuple[Group, ...]
    copy: Copy | None
    judgement: Judgement
    refused: Mapping[int, Refusal] = field(default_factory=dict)

    @property
    def kept(self) -> list[Group]:
        """The groups that the copy holds."""
        return [g for i, g in enumerate(self.groups) if i not in self.refused]


def groups_of(located: Located, bench: Workbench, catalogue: Mapping[str, FaultType], store: ArrayStore) -> list[Group]:
    """The groups to apply, in order. Unrelated weights are not copied wholesale."""
    if located.treatment.unrelated:
        return []
    made = proposals(located.steps, catalogue, *bench.names, store)
    return [Group(entry, step.edits, _Alternatives(step)) for entry, step in made]


@dataclass(frozen=True, slots=True)
class _Alternatives:
    """Other remedies that heal the same site, smallest first: for formats that cannot express the chosen one.

    They are tried only where somebody asks.
    """

    step: Step

    def __iter__(self) -> Iterator[tuple[Edit, ...]]:
        return (r.edits for r in islice(self.step.diagnosis.others(), _ALTERNATIVES))


class Surgeon:
    """Applies groups of edits to copies of a session's target and judges them. A context manager: copies stay open."""

    def __init__(self, session: Session, lifted: Path, folder: Path, journal: Journal) -> None:
        self._session, self._lift, self._folder, self._journal = session, lifted, folder, journal
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def operate(self, groups: Sequence[Group], before: Judgement) -> Trial:
        """Write and judge all groups; where that is no gain, one after the other, keeping those that are."""
        path = self._path()
        chosen, refused = list(groups), self._write(groups, path)
        if refused:
            chosen, refused = self._exchanged(chosen, refused)
            self._write([g for i, g in enumerate(chosen) if i not in refused], path := self._path())
        usable = {i: g for i, g in enumerate(chosen) if i not in refused}
        trial = self._judged(usable, path) if usable else None
        if trial is not None and better(trial[1], before):
            return Trial(tuple(chosen), *trial, refused)
        kept: dict[int, Group] = {}
        best: tuple[Copy, Judgement] | None = None
        for i, group in list(usable.items())[:_SINGLES] if len(usable) > 1 else ():
            path = self._path()
            if not self._write([*kept.values(), group], path):
                single = self._judged({**kept, i: group}, path)
                if single is not None and better(single[1], best[1] if best else before):
                    kept[i], best = group, single
        useless = {i: Refusal("rejected", "does not improve the native model") for i in usable if i not in kept}
        copy, judgement = best or (None, before)
        return Trial(tuple(chosen), copy, judgement, {**refused, **useless})

    def write(self, groups: Sequence[Group], out: Path) -> Written:
        """Write the target with the groups' edits to `out`. Raises EditError, OutputError."""
        return self._session.target.write([e for g in groups for e in g.edits], out, self._lift)

    def judge(self, which: Any, copy: Copy) -> Judgement:
        """A copy against the source on the search or the held-out set."""
        return self._session.judge(which, copy.process, copy.preprocess)

    def _write(self, groups: Sequence[Group], path: Path) -> dict[int, Refusal]:
        """Write the groups; what the format cannot express, by index, is not in the file."""
        if not groups:
            return {}
        flat = [i for i, g in enumerate(groups) for _ in g.edits]
        try:
            written = self.write(groups, path)
        except FetafixError as error:
            if len(groups) == 1:
                return {0: Refusal("unsupported", str(error))}
            alone = {i: self._write([g], self._path()) for i, g in enumerate(groups)}
            refused = {i: found[0] for i, found in alone.items() if found}
            return refused or {i: Refusal("unsupported", str(error)) for i in range(len(groups))}
        return {flat[i]: Refusal("unsupported", why) for i, why in written.unsupported}

    def _exchanged(self, groups: list[Group], refused: Mapping[int, Refusal]) -> tuple[list[Group], dict[int, Refusal]]:
        """Exchange groups that the format cannot express for alternatives that it can."""
        left = dict(refused)
        for i in refused:
            others = (Group(groups[i].entry, edits) for edits in groups[i].alternatives)
            fit = next((g for g in others if not self._write([g], self._path())), None)
            if fit is not None:
                groups[i] = fit
                del left[i]
        return groups, left

    def _judged(self, groups: Mapping[int, Group], path: Path) -> tuple[Copy, Judgement] | None:
        ids = [g.entry.id for g in groups.values()]
        process = self._stack.enter_context(closing(ModelProcess(path, self._session.opening("target"))))
        copy = Copy(path, process, prepared(self._session, groups.values()))
        try:
            judgement = self.judge("search", copy)
        except FetafixError as error:
            self._journal.write("trial failed", entries=ids, error=str(error))
            return None
        figures = judgement.agreement
        self._journal.write(
            "trial", entries=ids, verdict=str(judgement.ruling.verdict), top1=figures.top1, max_abs=figures.max_abs,
            answers=judgement.answers, likeness=judgement.likeness,
        )
        return copy, judgement

    def _path(self) -> Path:
        self._count += 1
        folder = self._folder / f"copy{self._count}"
        folder.mkdir()
        return folder / self._session.paths[1].name


def preprocessing(groups: Iterable[Group]) -> dict[str, Any]:
    """The fields of the target's preprocessing that groups change."""
    return {k: v for g in groups for e in g.edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}


def prepared(session: Session, groups: Iterable[Group]) -> Any:
    """The target's preprocessing with the groups' changes; None where they change nothing of it."""
    changes = preprocessing(groups)
    return (session.samplings.target.preprocess or ASSUMED).changed(changes) if changes else None


def better(after: Judgement, before: Judgement) -> bool:
    """Whether answers agree more often; as often while they are more alike; or just so while the numbers are nearer."""
    if not after.comparison.samples:
        return False
    if after.answers != before.answers:
        return after.answers > before.answers
    if after.ruling.passed and not before.ruling.passed:
        return True  # say, batches that failed are answered now
    now, then = len(after.bindings.extra), len(before.bindings.extra)
    if now != then and bool(after.ruling.passed) >= bool(before.ruling.passed):
        return now < then
    alike = round(after.likeness, _LIKE), round(before.likeness, _LIKE)
    if alike[0] != alike[1]:
        return alike[0] > alike[1]
    return error(after) < error(before)


def error(judgement: Judgement) -> float:
    """Largest relative L2 error of an output; inf where one cannot be compared."""
    figures = [o.rel_l2 if o.rel_l2 is not None else float("inf") for o in judgement.agreement.outputs]
    return max(figures, default=float("inf"))


def records(trial: Trial, extra: Sequence[Repair]) -> list[Repair]:
    """The report's repairs: what was kept, what could not be written, what was tried and left."""
    made = []
    for i, group in enumerate(trial.groups):
        e, refusal = group.entry, trial.refused.get(i)
        edits = [{"kind": x.kind, "description": x.describe()} for x in group.edits]
        made.append(
            Repair(
                id=e.id,
                code=e.code,
                target_layer=e.target_layer,
                edits=edits,
                status=refusal.status if refusal else "kept",
                before=e.before,
                after=e.after,
                why=refusal.why if refusal else e.why,
            )
        )
    return [*made, *extra]
