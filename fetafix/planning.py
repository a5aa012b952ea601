"""Plans between a session and a person: writing what a repair proposes, reading what was approved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.errors import OutputError, UsageError
from fetafix.inputs.recipe import Preprocess, diff, parse
from fetafix.journal import Journal
from fetafix.options import RUNTIME, Options, RepairOptions
from fetafix.repair import Group
from fetafix.report import ModelInfo
from fetafix.session import Session

_OPTIONS = (
    "samples", "seed", "rounds", "batch", "threads", "gate", "task", "max_mismatch", "confidence", "search",
    "source_arch", "target_arch", "trust",
    *(f"{side}_{name}" for side in ("source", "target") for name in RUNTIME),
)  # fmt: skip
_TOLD = frozenset({*_OPTIONS, "source_preprocess", "target_preprocess", "tolerance", "data"})
_BOUNDS = ("max_abs", "mean_abs", "max_rel", "rel_l2")


@dataclass(frozen=True, slots=True)
class Held(os.PathLike[str]):
    """A plan as it was read at one moment: what is decided in its file afterwards plays no part."""

    path: str
    plan: plans.Plan
    store: ArrayStore

    def __fspath__(self) -> str:
        """The file that it was read from."""
        return self.path

    def __str__(self) -> str:
        return self.path


def held(path: str | os.PathLike[str]) -> Held:
    """The plan of a file, or one that is held already. Raises UsageError where it cannot be read."""
    return path if isinstance(path, Held) else Held(os.fspath(path), *plans.load(os.fspath(path)))


def approved(session: Session, held: Held) -> list[plans.Entry]:
    """The approved entries of a plan made for these very models. Raises UsageError where none is approved."""
    first, second = (plans.File(path=i.path, sha256=i.sha256) for i in (session.source_info, session.target_info))
    held.plan.check_models(first, second)
    return held.plan.approved()


def groups(session: Session, wanted: RepairOptions, journal: Journal) -> list[Group]:
    """The approved entries of the plan that `wanted` names, as groups of edits."""
    assert wanted.plan is not None
    plan = held(wanted.plan)
    entries = approved(session, plan)
    refused = [e.id for e in plan.plan.entries if e.approved is False]
    journal.write("plan", path=str(wanted.plan), approved=[e.id for e in entries], approved_by=wanted.approved_by,
                  rejected=refused)  # fmt: skip
    return [Group(e, plans.edits_of(e, plan.store)) for e in entries]


def save(
    session: Session, wanted: RepairOptions, path: str | Path, proposed: Sequence[Group], store: ArrayStore
) -> None:
    """Write a plan of all groups, none of them decided. Raises OutputError."""
    entries = [g.entry for g in proposed]
    plans.save(planned(session.source_info, session.target_info, session.options, wanted, entries), path, store)


def planned(
    source: ModelInfo, target: ModelInfo, options: Options, wanted: RepairOptions, entries: list[plans.Entry]
) -> plans.Plan:
    """A plan of these entries, made here and now; relative paths in it start from the current folder."""
    first, second = (plans.File(path=i.path, sha256=i.sha256) for i in (source, target))
    return plans.Plan(
        source=first, target=second, seed=options.seed, folder=str(Path.cwd()), options=told(options, wanted),
        entries=entries,
    )  # fmt: skip


def offer(
    session: Session, wanted: RepairOptions, path: str | Path, proposed: Sequence[Group], store: ArrayStore
) -> str:
    """Write a plan that nobody asked for by name, where there is room; the note that says what became of it."""
    try:
        save(session, wanted, path, proposed, store)
    except OutputError as error:
        return f"no plan was written: {error}"
    return f"plan written to {path}: read and decide it with fetafix review {path}, or apply it with --apply --plan"


def plain(session: Session, wanted: RepairOptions) -> dict[str, Any]:
    """The options of a session as plain data."""
    return told(session.options, wanted)


def told(given: Options, wanted: RepairOptions) -> dict[str, Any]:
    """The options of a run as plain data; `options_of` is the way back."""
    data = {n: getattr(given, n) for n in _OPTIONS}
    data |= {n: _recipe(getattr(given, n)) for n in ("source_preprocess", "target_preprocess")}
    data["tolerance"] = {name: _bounds(value) for name, value in given.tolerance.items()}
    return {**data, "data": None if given.data is None else str(given.data), "bake": wanted.bake, "apply": wanted.apply}


def options_of(plan: plans.Plan, data: str | Path | None, trust: bool) -> Options:
    """The options that a plan was made with, as the plan tells them; what it does not tell is left to the defaults.

    data: where the samples are now. trust: whoever applies a plan says anew whether code may run; a plan cannot.
    Raises UsageError where the plan's options make no sense.
    """
    given = {k: v for k, v in plan.options.items() if k not in ("bake", "apply")}
    if unknown := sorted(given.keys() - _TOLD):  # among them what names a file to be written
        raise UsageError(f"the plan was made with an option {unknown[0]!r} that no plan of this fetafix has")
    try:
        return Options(**{**given, "data": data, "trust": trust, "seed": plan.seed})
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the plan's options cannot be read: {error}") from error


def _recipe(given: Any) -> Any:
    """Preprocessing as plain data: a preset's name or a text stays, a record becomes what it changes."""
    return given if given is None or isinstance(given, str) else diff(Preprocess(), parse(given)) or "raw"


def _bounds(given: Any) -> Any:
    """A tolerance as plain data."""
    if isinstance(given, int | float | Mapping):
        return given
    return {n: v for n in _BOUNDS if (v := getattr(given, n, None)) is not None}
