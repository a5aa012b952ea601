"""Patches for people: what one holds, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fetafix.patch.outcome import Outcome, Placed
from fetafix.render.style import number, plural, wrap

_BY = {
    "weights": "the same layer", "settings": "the same but for its weights", "shapes": "by its place in the structure",
}  # fmt: skip


def outcome(done: Outcome) -> str:
    """What became of a patch; ends with a newline."""
    lines = [f"fetafix patch {done.command}: {done.status.upper()}", *wrap(done.reason, 2), ""]
    if done.share:
        same = f"{done.weights:.0%} of them with the same weights"
        lines += [f"  {done.share:.0%} of the repaired model's layers found again, {same}"]
    for entry in done.entries:
        lines += _entry(entry)
    lines += ["", f"  written     {done.output.path}"] if done.output else []
    for note in done.notes:
        lines += wrap(note, 14, "  note        ")
    return "\n".join(lines).rstrip("\n") + "\n"


def _entry(entry: Placed) -> Iterator[str]:
    yield f"  {entry.status:<12}{entry.code}"
    where = entry.layer or "the interface"
    yield f"{'':14}at {where}" + (f" ({_BY[entry.found]})" if entry.found in _BY else "")
    for line in (*entry.edits, *([entry.why] if entry.why else [])):
        yield from wrap(line, 16, " " * 14)


def shown(data: Mapping[str, Any]) -> str:
    """What a patch holds; ends with a newline."""
    entries = data["entries"]
    lines = [f"patch of {plural(len(entries), 'repair')} for {data['target']['path']} ({data['format']})", ""]
    lines += [f"  made by     {data['made_by']}, seed {data['seed']}, to agree with {data['source']['path']}"]
    lines += [f"  approved    by {data['approved_by']}"] if data["approved_by"] else []
    lines += [f"  target      {plural(data['operators'], 'operator')}, SHA-256 {data['target']['sha256'][:12]}…"]
    for key, value in data["proof"].items():
        lines += [f"  proof       {key} {number(value) if isinstance(value, float) else value}"]
    undo = f"cannot be taken back: {data['irrevocable']}" if data["irrevocable"] else "can be taken back"
    lines += wrap(undo, 14, "  undo        ")
    for entry in entries:
        figures = "" if entry["before"] is None else f": error {number(entry['before'])} → {number(entry['after'])}"
        lines += ["", f"  {entry['code']}{figures}", f"    at {entry['target_layer'] or 'the interface'}"]
        for line in entry["description"]:
            lines += wrap(line, 6, "    ")
        lines += wrap(entry["why"], 6, "    ") if entry["why"] else []
    return "\n".join(lines) + "\n"
