"""What is told of the rows: rates by category and in all, the controls, every miss with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec

from fetafix.bench.faults.rows import Row
from fetafix.bench.faults.run import ODDS, TABLE
from fetafix.odds import Counts

_COLUMNS = ("category", "mutants", "detected", "localized", "diagnosed", "repaired", "edits in place", "made worse",
            "median", "worst")
_AIMS = ("detected", "localized", "diagnosed", "repaired")


def write(folder: Path, rows: Sequence[Row]) -> Path:
    """The table as Markdown, and the odds of fault types, beside the rows; the path of the former."""
    path = folder / TABLE
    path.write_text(markdown(rows), "utf-8")
    (folder / ODDS).write_bytes(_odds(rows))
    return path


def _odds(rows: Sequence[Row]) -> bytes:
    """What was counted, in the form in which fetafix ships its odds."""
    counted = [r for r in rows if r.counts]
    all_counts = (c for r in counted for c in r.counts)
    found = Counts(origin="seeded faults (fetafix bench faults)").plus(all_counts, len(counted))
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def markdown(rows: Sequence[Row]) -> str:
    """All of it."""
    mutants = [r for r in rows if r.kind == "mutant"]
    parts = [_rates(mutants), "", _controls([r for r in rows if r.kind == "control"]), "", *_gates(mutants),
             *_list("Misses", mutants, lambda r: bool(r.missed), _miss),
             *_list("False alarms", rows, lambda r: r.kind == "control" and r.detected, _alarm),
             *_list("No place in the zoo", _placeless(rows), lambda r: True, lambda r: f"{r.code}: {r.reason}")]
    return "\n".join(parts).rstrip() + "\n"


def line(row: Row) -> str:
    """A miss or a false alarm in a line."""
    return _alarm(row) if row.kind == "control" else _miss(row)


def _rates(mutants: Sequence[Row]) -> str:
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    for category in dict.fromkeys(r.category for r in mutants):
        lines.append(_rate(category, [r for r in mutants if r.category == category]))
    return "\n".join([*lines, _rate("all", mutants)])


def _rate(name: str, rows: Sequence[Row]) -> str:
    shares = [_share(sum(getattr(r, aim) for r in rows), len(rows)) for aim in _AIMS]
    edited = sum(r.edited for r in rows)
    seconds = [r.seconds for r in rows if r.seconds]
    times = [f"{f(seconds):.1f} s" if seconds else "" for f in (median, max)]
    cells = [name, str(len(rows)), *shares, _share(edited - sum(r.beyond for r in rows), edited),
             str(sum(r.worse for r in rows)), *times]
    return f"| {' | '.join(cells)} |"


def _controls(rows: Sequence[Row]) -> str:
    alarms = sum(r.detected for r in rows)
    return f"{len(rows)} negative controls, {alarms} false alarm{'' if alarms == 1 else 's'}."


def _gates(mutants: Sequence[Row]) -> list[str]:
    counts = {gate: sorted({r.code for r in mutants if r.gate == gate}) for gate in ("labels", "numeric", "interface")}
    told = {"labels": "a label changes", "numeric": "numbers change", "interface": "interface or numbers change"}
    return [f"Gate “{told[gate]}”: {', '.join(codes)}.\n" for gate, codes in counts.items() if codes]


def _list(title: str, rows: Sequence[Row], chosen: Callable[[Row], bool], told: Callable[[Row], str]) -> list[str]:
    found = [f"- {told(r)}" for r in rows if chosen(r)]
    return [f"{title} ({len(found)}):", "", *found, ""] if found else []


def _miss(row: Row) -> str:
    where = f"{row.code} in {row.model}, seed {row.seed} ({row.source} → {row.target})"
    return f"{where}: not {', not '.join(row.missed)}: {row.reason}".replace("\n", " ")


def _alarm(row: Row) -> str:
    found = ", ".join(f"{f.code} at {f.layer}" for f in row.findings) or row.verdict
    return f"{row.model}, {row.code}: {found}: {row.reason}".replace("\n", " ")


def _placeless(rows: Sequence[Row]) -> list[Row]:
    """One row for each fault type that no network has a place for."""
    met = {r.code for r in rows if r.kind == "mutant"}
    without = [r for r in rows if r.kind == "none" and r.category != "control" and r.code not in met]
    return list({r.code: r for r in without}.values())


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}%" if total else ""
