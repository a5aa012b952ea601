"""Decisions about a plan: each names the state that it was made on, and none is lost where several decide at once.

A decision is written while nobody else writes: the plan is read anew, and decided where the entry is still as it was
when the person looked. So decisions on different entries add up, be they made on two pages, by two servers, or in a
terminal; one on an entry that somebody decided meanwhile is refused, and comes back with what the other one said.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import msgspec

from fetafix import plan as plans
from fetafix.errors import OutputError, UsageError
from fetafix.files import locked
from fetafix.journal import Journal, read
from fetafix.planning import Held, held

LONGEST_NAME, LONGEST_COMMENT = 200, 4000
Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Comment = Annotated[str, msgspec.Meta(max_length=LONGEST_COMMENT)]


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody decides about an entry. approved: None takes a decision back. state: `stamp` of what they saw."""

    entry: str
    approved: bool | None
    by: Name
    state: str
    comment: Comment = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of decisions. made: the entries as they are decided now. refused: those that others were faster at."""

    plan: plans.Plan
    made: tuple[plans.Entry, ...] = ()
    refused: tuple[plans.Entry, ...] = ()


def stamp(entry: plans.Entry) -> str:
    """The state of an entry: changes whenever somebody decides about it."""
    return _hash([entry.id, entry.approved, entry.comment, entry.decided_by, entry.decided_at])


def revision(plan: plans.Plan) -> str:
    """The state of all entries together."""
    return _hash([stamp(e) for e in plan.entries])


def word(approved: bool | None) -> str:
    """A decision as the journal calls it."""
    return "withdrawn" if approved is None else "approved" if approved else "rejected"


class Desk:
    """Where a plan is decided. A context manager; threads may share it. Nothing is written before a decision is made.

    plan: its file. journal: what decisions are appended to.
    """

    def __init__(self, plan: Path, journal: Path) -> None:
        self.path, self.journal = plan, journal
        self._open: Journal | None = None
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._mutex:
            if self._open is not None:
                self._open.close()
                self._open = None

    def read(self) -> plans.Plan:
        """The plan as it is now, without its arrays. Raises UsageError."""
        return plans.read(self.path)

    def decide(self, wanted: Sequence[Decision]) -> Outcome:
        """Write decisions to the plan and the journal, whole or, on an error, not at all.

        Raises UsageError where one names no entry of the plan or nobody who decides, OutputError where the plan or the
        journal cannot be written.
        """
        with self._alone():
            plan, made, refused = self.read(), list[tuple[plans.Entry, plans.Entry]](), list[plans.Entry]()
            for decision in wanted:
                entry, decided = _decided(plan, decision)
                if stamp(entry) == decision.state:
                    plan = plans.decide(plan, entry.id, decided.approved, decided.decided_by, decided.decided_at,
                                        decided.comment)  # fmt: skip
                    made.append((entry, decided))
                elif not _alike(entry, decided):  # the same twice, say an answer that got lost, is no conflict
                    refused.append(entry)
            if made:
                self._record(made)
                plans.write(plan, self.path)
        return Outcome(plan, tuple(e for _, e in made), tuple(refused))

    def hold(self, seen: str | None = None) -> Held | None:
        """The plan with its arrays, to be applied as it is now; None where it is no longer of the revision `seen`."""
        with self._alone():
            now = held(self.path)
        return now if seen is None or revision(now.plan) == seen else None

    def note(self, event: str, **fields: object) -> None:
        """Append to the journal. Raises OutputError."""
        with self._mutex:
            if self._open is None:
                self._open = Journal(self.journal, command="review", plan=str(self.path))
            self._open.write(event, **fields)

    def applied(self) -> dict[str, str] | None:
        """Who applied this plan last ("by"), when ("time") and where to ("path", "" for nowhere), as the journal tells.

        None where nobody has.
        """
        try:
            told = [e for e in read(self.journal) if e.get("event") == "applied"] if self.journal.is_file() else []
        except UsageError:  # a journal that cannot be read keeps nobody from reading the plan
            return None
        here = [e for e in told if Path(str(e.get("plan"))).name == self.path.name]
        if not here:
            return None
        output = here[-1].get("output")
        path = output.get("path", "") if isinstance(output, dict) else ""
        return {"by": str(here[-1].get("by")), "time": str(here[-1].get("time")), "path": str(path)}

    def _record(self, made: Sequence[tuple[plans.Entry, plans.Entry]]) -> None:
        """Into the journal first: a decision that is in the plan has a line there, whatever happens in between."""
        for before, e in made:
            was = {"approved": before.approved, "by": before.decided_by, "why": before.comment}
            self.note(word(e.approved), entry=e.id, code=e.code, target_layer=e.target_layer, by=e.decided_by,
                      why=e.comment, was=was, plan=str(self.path))  # fmt: skip

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with locked(self.path):
                yield
        except OSError as error:
            raise OutputError(f"the plan {self.path} cannot be decided: {error.strerror or error}") from error


def _decided(plan: plans.Plan, decision: Decision) -> tuple[plans.Entry, plans.Entry]:
    """The entry that a decision is about, as it is and as it would be."""
    by = " ".join(decision.by.split())
    if not by:
        raise UsageError("a decision needs a name: say who decides")
    entry = next((e for e in plan.entries if e.id == decision.entry), None)
    if entry is None:
        known = ", ".join(e.id for e in plan.entries) or "none"
        raise UsageError(f"the plan has no entry {decision.entry!r}; it has {known}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return entry, msgspec.structs.replace(
        entry, approved=decision.approved, decided_by=by, decided_at=now, comment=decision.comment.strip())


def _alike(a: plans.Entry, b: plans.Entry) -> bool:
    return (a.approved, a.comment, a.decided_by) == (b.approved, b.comment, b.decided_by)


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
