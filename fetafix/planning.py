"""Plans between a session and a person: writing what a repair proposes, reading what was approved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.errors import OutputError
from fetafix.journal import Journal
from fetafix.options import RUNTIME, RepairOptions
from fetafix.repair import Group
from fetafix.session import Session

_OPTIONS = (
    "samples", "seed", "rounds", "batch", "gate", "task", "max_mismatch", "confidence", "source_arch", "target_arch",
    "trust",
    *(f"{side}_{name}" for side in ("source", "target") for name in RUNTIME),
)  # fmt: skip


def approved(session: Session, path: str | Path) -> tuple[plans.Plan, ArrayStore, list[plans.Entry]]:
    """A plan made for these very models, and its approved entries. Raises UsageError where none is approved."""
    loaded, store = plans.load(path)
    loaded.check_models(*session.paths)
    return loaded, store, loaded.approved()


def groups(session: Session, wanted: RepairOptions, journal: Journal) -> list[Group]:
    """The approved entries of the plan that `wanted` names, as groups of edits."""
    assert wanted.plan is not None
    loaded, store, entries = approved(session, wanted.plan)
    refused = [e.id for e in loaded.entries if e.approved is False]
    journal.write("plan", path=str(wanted.plan), approved=[e.id for e in entries], approved_by=wanted.approved_by,
                  rejected=refused)  # fmt: skip
    return [Group(e, plans.edits_of(e, store)) for e in entries]


def save(
    session: Session, wanted: RepairOptions, path: str | Path, proposed: Sequence[Group], store: ArrayStore
) -> None:
    """Write a plan of all groups, none of them decided. Raises OutputError."""
    first, second = session.source_info, session.target_info
    plan = plans.Plan(
        source=plans.File(path=first.path, sha256=first.sha256),
        target=plans.File(path=second.path, sha256=second.sha256),
        seed=session.options.seed,
        options=plain(session, wanted),
        entries=[g.entry for g in proposed],
    )
    plans.save(plan, path, store)


def offer(
    session: Session, wanted: RepairOptions, path: str | Path, proposed: Sequence[Group], store: ArrayStore
) -> str:
    """Write a plan that nobody asked for by name, where there is room; the note that says what became of it."""
    try:
        save(session, wanted, path, proposed, store)
    except OutputError as error:
        return f"no plan was written: {error}"
    return f'plan written to {path}: set "approved" in it, and apply it with --apply --plan {path}'


def plain(session: Session, wanted: RepairOptions) -> dict[str, Any]:
    """The options of a run as plain data."""
    given = session.options
    data = {n: getattr(given, n) for n in _OPTIONS}
    return {**data, "data": None if given.data is None else str(given.data), "bake": wanted.bake, "apply": wanted.apply}
