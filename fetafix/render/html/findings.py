"""Findings as a page shows them: what each means, what came of it, its surroundings in both models, and all repairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from msgspec.structs import replace

from fetafix.exhibits import Neighbourhood, Sketch
from fetafix.render import plain
from fetafix.render.html.figures import Table
from fetafix.render.html.graph import graph, valid
from fetafix.render.html.names import flat, name
from fetafix.render.plain import figure
from fetafix.render.text import edit_text
from fetafix.report import Advice, Finding, Repair, Report

_STATUS = {"kept": ("good", "✓", "kept"), "rejected": ("bad", "✕", "rejected"),
           "unsupported": ("warn", "!", "cannot be written")}

MOST_DRAWN = 40  # a model with more findings than that is another model


@dataclass(frozen=True)
class Drawing:
    """The surroundings of a finding in one model: `title` says which, `table` tells the same as the picture."""

    title: str
    picture: Markup
    table: Table


@dataclass(frozen=True)
class Told:
    """A finding with all that belongs to it. outcome: (kind, sign, words) of its badge."""

    number: int
    finding: Finding
    advice: Advice
    outcome: tuple[str, str, str]
    facts: Sequence[tuple[str, str]]
    drawings: Sequence[Drawing]
    repair: Repair | None
    edits: Sequence[str]


def told(report: Report, prefix: str) -> Iterator[Told]:
    """Every finding, in order. prefix: of the ids of drawings."""
    near = report.exhibits.neighbourhoods if report.exhibits is not None else []
    shared = shared_steps(report)
    for k, finding in enumerate(report.findings):
        repair = plain.mended(report, finding)
        attempts = [r for r in report.repairs if r.code == finding.code and r.target_layer == finding.target_layer]
        facts = [(key.replace("_", " "), _plain(value)) for key, value in finding.evidence.items()]
        drawings = list(_drawings(near[k], f"{prefix}near-{k + 1}-")) if k < min(len(near), MOST_DRAWN) else []
        shown = repair or next(iter(attempts), None)
        advice = finding.advice or Advice(meaning=finding.explanation)
        advice = replace(advice, next_steps=[s for s in advice.next_steps if s not in shared])
        yield Told(k + 1, finding, advice, _outcome(report, repair, attempts), facts, drawings, shown,
                   [w for e in (shown.edits if shown is not None else []) if (w := edit_text(e)) not in advice.remedy])


def shared_steps(report: Report) -> list[str]:
    """Next steps that all findings have: they are said once."""
    all_steps = [f.advice.next_steps if f.advice is not None else [] for f in report.findings]
    return [s for s in all_steps[0] if all(s in steps for steps in all_steps)] if len(all_steps) > 1 else []


def _outcome(report: Report, repair: Repair | None, tried: Sequence[Repair]) -> tuple[str, str, str]:
    if repair is not None:
        return ("good", "✓", "mended" if report.output is not None else "mended on trial")
    if report.command != "repair":
        return ("warn", "!", "found")
    if any(r.status == "unsupported" for r in tried):
        return ("warn", "!", "not mended: this file format cannot hold the repair")
    return ("bad", "✕", "not mended")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, dict):
        return "; ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "–"}[value]
    return str(value)


def _drawings(near: Neighbourhood, prefix: str) -> Iterator[Drawing]:
    for whose, sketch, twin in (("original", near.source, near.target), ("converted", near.target, near.source)):
        if sketch is not None and sketch.nodes:
            title = f"{whose.capitalize()} model"
            picture = graph(sketch, f"{title}: where the finding is", f"{prefix}{whose}-", twin)
            yield Drawing(title, picture, _nodes(sketch, title))


def _nodes(sketch: Sketch, title: str) -> Table:
    readers: dict[int, list[str]] = {}
    for start, end, what in valid(sketch):
        if start >= 0:
            to = "what follows" if end < 0 else f"{sketch.nodes[end].op} {flat(sketch.nodes[end].layer)}"
            readers.setdefault(start, []).append(f"{to}{f' ({what})' if what else ''}")
    rows = [(name(n.layer), n.op, n.detail or "–", "; ".join(readers.get(k, [])) or "–",
             "here" if n.role == "found" else "") for k, n in enumerate(sketch.nodes)]
    return Table(f"{title}, as a list", ("layer", "operator", "details", "leads to", "finding"), rows,
                 frozenset(range(5)))


def tried(report: Report) -> Table | None:
    """Every repair, kept or not."""
    if not report.repairs:
        return None
    rows = []
    for r in report.repairs:
        error = "–" if r.before is None else f"{figure(r.before)} → {figure(r.after)}"
        status = _STATUS.get(r.status, ("", "", r.status))
        edits = "; ".join(edit_text(e) for e in r.edits) or "–"
        rows.append((r.code, name(r.target_layer or "the interface"), edits, error, f"{status[1]} {status[2]}".strip(),
                     r.why or "–"))
    head = ("repair", "where", "what it changes", "error here", "outcome", "why")
    return Table("Everything that was tried", head, rows, frozenset({0, 1, 2, 4, 5}))
