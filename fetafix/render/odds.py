"""The statistics of fault types, as plain data and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fetafix import odds
from fetafix.faults import catalogue, get
from fetafix.odds import Odds


def figures(known: Odds, code: str | None = None) -> dict[str, Any]:
    """Counts and odds of all fault types, or those of one by operator and formats. Raises UsageError for its code."""
    place = odds.place()
    origins = [{"origin": o.origin, "runs": o.runs} for o in known.origins]
    rows = [_row(known, c) for c in catalogue()] if code is None else _places(known, get(code).code)
    return {
        "origins": origins, "own": str(place) if place else None, "problem": known.problem, "digest": known.digest,
        "code": None if code is None else get(code).code, "statistics": rows,
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> str:
    """The figures as text; ends with a newline."""
    lines = [f"from: {o['origin']} ({o['runs']} repairs)" for o in found["origins"]]
    own = found["own"] or f"switched off by {odds.OFF}"
    lines += [f"your own: {own}", *([f"left out: {found['problem']}"] if found["problem"] else []), ""]
    rows = found["statistics"]
    width = max((len(_name(r)) for r in rows), default=0)
    lines.append(f"{'':<{width}}  suspected  was it  probability  odds")
    for row in rows:
        p = row["probability"]
        lines.append(f"{_name(row):<{width}}  {row['suspected']:>9}  {row['kept']:>6}  {p:>11.3f}  {row['odds']:.2f}")
    if not rows:
        lines.append("nothing has been counted yet: even odds")
    return "\n".join(lines) + "\n"


def _row(known: Odds, code: str) -> dict[str, Any]:
    """A fault type at any operator, between any formats."""
    return {"code": code, **_figures(known.probability(code), known.counted(code))}


def _places(known: Odds, code: str) -> list[dict[str, Any]]:
    found = {(c.source, c.target, c.evidence) for o in known.origins for c in o.counts if c.code == code}
    return [
        {"code": code, "source": source, "target": target, "evidence": where,
         **_figures(known.probability(code, where, (source, target)), known.counted(code, where, (source, target)))}
        for source, target, where in sorted(found)
    ]  # fmt: skip


def _figures(probability: float, counts: tuple[int, int]) -> dict[str, float]:
    odds_ = probability / (1 - probability)
    return {"suspected": counts[0], "kept": counts[1], "probability": round(probability, 6), "odds": round(odds_, 6)}


def _name(row: Mapping[str, Any]) -> str:
    where = f" at {row['evidence']}, {row['source']} → {row['target']}" if "evidence" in row else ""
    return f"{row['code']}{where}"
