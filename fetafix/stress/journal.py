"""Results of trials, kept as JSON lines: what an interrupted stress test goes on with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from fetafix.errors import OutputError
from fetafix.stress.record import Outcome

FILE = "trials.jsonl"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of one subject. subject: its digest. correct: right answers among the `seen` samples that ran; where
    these are fewer than all, the drop exceeds the tolerance for certain. flips: 0 needs no run.
    """

    subject: str
    ber: float
    trial: int
    flips: int
    outcome: Outcome
    correct: int
    seen: int
    seconds: float = 0.0


class Journal:
    """Trials known from before, and those that are added. Without a folder nothing is written."""

    def __init__(self, folder: str | Path | None) -> None:
        self._path = None if folder is None else Path(folder) / FILE
        self._known: dict[tuple[str, float, int], Trial] = {}
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                content = self._path.read_bytes() if self._path.exists() else b""
                if content and not content.endswith(b"\n"):  # an interruption cut the last line off
                    with self._path.open("ab") as file:
                        file.write(b"\n")
            except OSError as error:
                raise OutputError(f"{self._path}: cannot be kept: {error.strerror}; choose another --keep") from error
            self._load(content.splitlines())

    def _load(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                row = msgspec.json.decode(line, type=Trial)
            except msgspec.MsgspecError:
                continue
            self._known[row.subject, row.ber, row.trial] = row

    def get(self, subject: str, ber: float, trial: int) -> Trial | None:
        """A trial that is known."""
        return self._known.get((subject, ber, trial))

    def add(self, row: Trial) -> None:
        """Keep a trial. Raises OutputError."""
        self._known[row.subject, row.ber, row.trial] = row
        if self._path is None:
            return
        try:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error


def digest(*what: Any) -> str:
    """A short name for whatever a trial's result rests on."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:20]
