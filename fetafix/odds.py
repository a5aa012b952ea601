"""How often a suspected fault type turned out to be the fault: counts, and the odds that order what is tried first.

Counted is what a proved repair settled: at each place that it mended, which fault types were suspected there, and which
of them the kept repair was; by the two formats and by the operator at the place (or "interface"). Nothing else is kept:
no file, no layer, no value.

The probability that a suspicion holds is smoothed from the general to the particular, with a weight of two cases for
what is known without it (k kept of n suspected):

    p(type) = (k + 2 · ½) / (n + 2)
    p(type, operator) = (k' + 2 · p(type)) / (n' + 2)
    p(type, operator, formats) = (k'' + 2 · p(type, operator)) / (n'' + 2)

Two sources add up: `odds.json` beside this file, which comes with fetafix and says where its counts are from, and the
user's own, in `$XDG_STATE_HOME/fetafix/odds.json` (`~/.local/state` by default), to which every `repair` that keeps a
journal adds. `FETAFIX_NO_STATISTICS=1` leaves the latter alone, unread and unwritten. What is tried first changes how
long a diagnosis takes, never what comes of it (`fetafix.heal`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from fetafix.errors import OutputError, UsageError
from fetafix.files import replacing
from fetafix.journal import read

VERSION = 1
OFF = "FETAFIX_NO_STATISTICS"
EVENT = "counted"
_PRIOR, _WEIGHT = 0.5, 2.0
_PACKAGED = Path(__file__).with_name("odds.json")


class Count(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault type between two formats at an operator: how often suspected there, and how often it was the fault."""

    code: str
    source: str
    target: str
    evidence: str
    suspected: int
    kept: int

    def __post_init__(self) -> None:
        """Refuse what cannot have been counted."""
        if not 0 <= self.kept <= self.suspected:
            raise ValueError(f"expected 0 ≤ kept ≤ suspected, found {self.kept} of {self.suspected}")


class Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of one origin. runs: how many repairs they were taken from."""

    version: int = VERSION
    origin: str
    runs: int = 0
    counts: list[Count] = []

    def plus(self, more: Iterable[Count], runs: int = 1) -> Counts:
        """These and other counts together, in a fixed order."""
        sums: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        for c in (*self.counts, *more):
            key = (c.code, c.source, c.target, c.evidence)
            suspected, kept = sums.get(key, (0, 0))
            sums[key] = (suspected + c.suspected, kept + c.kept)
        counts = [
            Count(code=k[0], source=k[1], target=k[2], evidence=k[3], suspected=n, kept=m)
            for k, (n, m) in sorted(sums.items())
        ]
        return msgspec.structs.replace(self, runs=self.runs + runs, counts=counts)


@dataclass(frozen=True)
class Odds:
    """What is known from several origins. problem: why the user's own counts are left out, or ""."""

    origins: tuple[Counts, ...]
    problem: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all counts: what a journal names."""
        return hashlib.sha256(msgspec.json.encode([o.counts for o in self.origins])).hexdigest()

    @property
    def runs(self) -> int:
        """How many repairs the counts were taken from."""
        return sum(o.runs for o in self.origins)

    def counted(self, code: str, evidence: str = "", formats: tuple[str, str] | None = None) -> tuple[int, int]:
        """(suspected, kept) of a fault type, of all operators where none is given, of all formats likewise."""
        table = self._table
        return table.get((code, evidence, *(formats or ("", ""))), (0, 0))

    def probability(self, code: str, evidence: str = "", formats: tuple[str, str] | None = None) -> float:
        """How likely a suspicion holds, before the evidence of the models themselves; strictly between 0 and 1.

        At any operator where none is given, between any formats where those are not.
        """
        levels = [self.counted(code)]
        levels += [self.counted(code, evidence)] if evidence else []
        levels += [self.counted(code, evidence, formats)] if evidence and formats else []
        known = _PRIOR
        for suspected, kept in levels:
            known = (kept + _WEIGHT * known) / (suspected + _WEIGHT)
        return known

    @cached_property
    def _table(self) -> Mapping[tuple[str, str, str, str], tuple[int, int]]:
        sums: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        for c in (c for o in self.origins for c in o.counts):
            for key in {(c.code, "", "", ""), (c.code, c.evidence, "", ""), (c.code, c.evidence, c.source, c.target)}:
                suspected, kept = sums.get(key, (0, 0))
                sums[key] = (suspected + c.suspected, kept + c.kept)
        return sums


def place() -> Path | None:
    """Where the user's own counts lie; None where they are not wanted, or there is no home to keep them in."""
    if os.environ.get(OFF):
        return None
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError:  # no home directory
        return None
    return base / "fetafix" / "odds.json"


def packaged() -> Counts:
    """The counts that come with fetafix."""
    return _read(_PACKAGED)


def own() -> Counts:
    """The user's own counts, none where there are none yet. Raises UsageError where the file cannot be read."""
    path = place()
    return _read(path) if path is not None and path.exists() else Counts(origin="your own repairs")


def known() -> Odds:
    """Everything that is known; a file of the user's that cannot be read is left out, and `problem` says so."""
    try:
        return Odds((packaged(), own()))
    except UsageError as error:
        return Odds((packaged(),), str(error))


def add(counts: Iterable[Count], runs: int = 1) -> Path | None:
    """Add to the user's own counts; where they lie, or None where they are not wanted. Raises OutputError, UsageError.

    Several processes may add at once.
    """
    path = place()
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_name(f".{path.name}.lock")):
            text = msgspec.json.encode(own().plus(counts, runs))
            with replacing(path) as temporary:
                temporary.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
    except OSError as error:
        raise OutputError(f"the statistics {path} cannot be written: {error.strerror or error}") from error
    return path


def counted(journal: str | Path) -> list[Count]:
    """What a journal counted. Raises UsageError where it cannot be read."""
    return [c for counts in _each(journal) for c in counts]


def _each(journal: str | Path, new: bool = False) -> Iterator[list[Count]]:
    """The counts of each repair in a journal. new: only those that are in nobody's statistics yet."""
    for entry in read(journal):
        if entry.get("event") == EVENT and not (new and entry.get("added_to")):
            try:
                yield msgspec.convert(entry.get("counts", []), list[Count])
            except msgspec.ValidationError as error:
                raise UsageError(f"{journal} holds counts that cannot be read: {error}") from error


def learn(journals: Iterable[str | Path]) -> tuple[int, int]:
    """Add what journals counted that is in nobody's statistics yet. Returns (runs, counts) that were added.

    Raises UsageError where a journal cannot be read, or where statistics are switched off.
    """
    each = [c for j in journals for c in _each(j, new=True)]
    runs, found = len(each), [c for counts in each for c in counts]
    if runs and add(found, runs) is None:
        raise UsageError(f"statistics are switched off by {OFF}; unset it to learn from journals")
    return runs, len(found)


def _read(path: Path) -> Counts:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Counts)
    except OSError as error:
        raise UsageError(f"the statistics {path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"the statistics {path} cannot be read: {error}; remove the file to start anew") from error
    if found.version != VERSION:
        raise UsageError(f"the statistics {path} are of version {found.version}; this fetafix reads {VERSION}")
    return found


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Exclusive among processes; without fcntl, the renaming of whole files has to do."""
    with path.open("w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
