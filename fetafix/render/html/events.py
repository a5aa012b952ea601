"""The journal in words: one line an event. The file itself has every figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fetafix.render.plain import figure
from fetafix.render.style import percent, plural

Entry = Mapping[str, Any]
_MOST = 300


def steps(journal: Sequence[Entry]) -> list[tuple[str, str]]:
    """(what happened, details) of the last run in a journal, and what people decided before and after it.

    Only what people decide is told with its time: the same run makes the same page.
    """
    starts = [k for k, e in enumerate(journal) if e.get("event") == "start"]
    last = starts[-1] if starts else 0
    entries = [*(e for e in journal[:last] if "by" in e), *journal[last:]]
    told = [(str(e.get("event", "?")), _words(e)) for e in entries[:_MOST]]
    if len(starts) > 1:
        told.insert(0, ("earlier runs", f"the file tells of {plural(len(starts) - 1, 'earlier run')} as well"))
    if len(entries) > _MOST:
        told.append(("further events", f"{len(entries) - _MOST} more are in the file"))
    return told


def _words(entry: Entry) -> str:
    made = _decided if "by" in entry else _EVENTS.get(str(entry.get("event")), _other)
    try:
        return made(entry)
    except (KeyError, TypeError, AttributeError, ValueError):  # of another version, or written by somebody else
        return _other(entry)


def _other(entry: Entry) -> str:
    return "; ".join(f"{k} {_short(v)}" for k, v in entry.items() if k not in ("event", "time"))


def _decided(e: Entry) -> str:
    """Who, when, what and why."""
    what = f": {e['code']} at {e.get('target_layer') or 'the interface'}" if "code" in e else ""
    why = f" ({e['why']})" if e.get("why") else ""
    return f"by {e['by'] or 'nobody named'}, {str(e.get('time', ''))[:16].replace('T', ' ')} UTC{what}{why}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items() if isinstance(v, str | int | float))
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return str(value)


def _figure(value: Any) -> str:
    return figure(value) if isinstance(value, int | float) else "not measured" if value is None else str(value)


def _start(e: Entry) -> str:
    versions = e["versions"]
    return ", ".join(f"{k} {v}" for k, v in versions.items())


def _repair(e: Entry) -> str:
    return f"repair of {e['target']['path']} after {e['source']['path']}"


def _judged(e: Entry) -> str:
    a = e.get("agreement") or {}
    same = f", the same answer on {percent(a['top1'])} of {a['samples']} inputs" if a.get("top1") is not None else ""
    off = f", largest difference {_figure(a['max_abs'])}" if a.get("max_abs") is not None else ""
    return f"{e['verdict'].replace('_', ' ')}{same}{off}"


def _searched(e: Entry) -> str:
    s = e["search"]
    if s["skipped"]:
        return f"nothing: {s['skipped']}"
    return f"{plural(s['tried'], 'input')}; {s['found']} show a difference"


def _finding(e: Entry) -> str:
    f = e["finding"]
    return f"{f['title']} at {f['target_layer'] or 'the interface'}: {f['explanation']}"


def _tried(e: Entry) -> str:
    done = "chosen" if e.get("chosen") else "heals, but another is smaller" if e.get("healed") else "does not heal"
    what = "; ".join(e["edits"])
    return f"{e['code']}: {what}: error {_figure(e['before'])} → {_figure(e['after'])}; {done}"


def _trial(e: Entry) -> str:
    entries = plural(len(e["entries"]), "repair")
    return f"{entries} together: {e['verdict'].replace('_', ' ')}, largest difference {_figure(e.get('max_abs'))}"


def _proof(e: Entry) -> str:
    before, after = e["before"], e["after"]
    if before.get("top1") is not None:
        what, first, then = "the same answer on", percent(before["top1"]), percent(after["top1"])
    else:
        what, first, then = "largest difference", _figure(before["max_abs"]), _figure(after["max_abs"])
    return f"on inputs kept apart: {what} {first} before, {then} after"


def _written(e: Entry) -> str:
    where = e["output"]["path"] if "output" in e else e["configuration"]
    return f"{where}{_by(e.get('approved_by'))}"


def _plan(e: Entry) -> str:
    return f"{e['path']}: {plural(len(e['approved']), 'approved repair')}{_by(e.get('approved_by'))}"


def _by(whom: Any) -> str:
    return f", approved by {whom}" if whom else ""


def _ranked(e: Entry) -> str:
    return f"fault types in the order of their odds, from {plural(e['runs'], 'earlier repair')}"


def _counted(e: Entry) -> str:
    return f"what was kept of {plural(len(e['counts']), 'suspicion')}, for later repairs"


_EVENTS: Mapping[str, Callable[[Entry], str]] = {
    "start": _start, "repair": _repair, "judged": _judged, "searched": _searched, "finding": _finding, "tried": _tried,
    "trial": _trial, "proof": _proof, "written": _written, "plan": _plan, "ranked": _ranked, "counted": _counted,
    "nothing to repair": lambda e: str(e["reason"]), "nothing kept": lambda e: str(e["reason"]),
    "rolled back": lambda e: str(e["reason"]), "patch": lambda e: str(e["path"]),
}  # fmt: skip
