"""What the template shows, made of a report alone: words, tables and drawings, in the order of the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from msgspec.structs import replace

from fetafix.exhibits import Differing, LayerError, Neighbourhood, Score, Sketch
from fetafix.render import plain
from fetafix.render.html import events, figures
from fetafix.render.html.chart import chart
from fetafix.render.html.figures import Table
from fetafix.render.html.graph import graph, valid
from fetafix.render.html.layers import marked, picked
from fetafix.render.html.names import flat, name
from fetafix.render.plain import figure
from fetafix.render.style import percent, plural
from fetafix.render.text import edit_text
from fetafix.report import Advice, Finding, Repair, Report, Verdict

_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_BADGES = {
    Verdict.EQUIVALENT: ("good", "✓", "Equivalent"), Verdict.REPAIRED: ("good", "✓", "Repaired"),
    Verdict.DRIFTING: ("warn", "!", "Drifting"), Verdict.PARTLY_REPAIRED: ("warn", "!", "Partly repaired"),
    Verdict.UNDECIDED: ("warn", "?", "Undecided"), Verdict.DIVERGENT: ("bad", "✕", "Divergent"),
}  # fmt: skip
_STATUS = {"kept": ("good", "✓", "kept"), "rejected": ("bad", "✕", "rejected"),
           "unsupported": ("warn", "!", "cannot be written")}
_MOST_ROWS = 80
_SMALL = 64  # pixels


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


@dataclass(frozen=True)
class Differ:
    """A sample on which labels differ; picture is "" where there is none that can be shown."""

    sample: str
    picture: str
    tiny: bool
    table: Table


@dataclass(frozen=True)
class View:
    """A report, ready to be shown. prefix: of all ids. level: of the first headings within."""

    report: Report
    sentence: str
    badge: tuple[str, str, str]
    gate: str
    tiles: Sequence[tuple[str, str, str]]
    certainty: Sequence[plain.Certainty]
    findings: Sequence[Told]
    next_steps: Sequence[str]
    tried: Table | None
    chart: Markup
    layers: Table | None
    differing: Sequence[Differ]
    mismatches: Sequence[str]
    tables: Sequence[Table]
    quantisation: Table | None
    search: Table | None
    files: Sequence[Table]
    steps: Sequence[tuple[str, str]]
    prefix: str = ""
    level: int = 2


def view(report: Report, journal: Sequence[dict[str, Any]] = (), prefix: str = "", level: int = 2) -> View:
    """Everything that a page says of a report."""
    shown = report.exhibits
    layers = shown.layers if shown is not None else []
    last = report.after if report.after is not None and report.after.mismatches else report.agreement
    return View(
        report=report, sentence=plain.sentence(report), badge=_BADGES[report.verdict], gate=_gate(report),
        tiles=list(_tiles(report)), certainty=list(plain.certainty(report)), findings=list(_findings(report, prefix)),
        next_steps=_shared(report), tried=_tried(report), chart=chart(layers, prefix), layers=_layers(layers),
        differing=[_differing(d) for d in (shown.differing if shown is not None else [])],
        mismatches=last.mismatches if last is not None else [],
        tables=[t for t in (figures.figures(report), figures.outputs(report)) if t is not None],
        quantisation=figures.quantisation(report.quantisation), search=figures.search(report.search),
        files=figures.files(report), steps=events.steps(journal), prefix=prefix, level=level,
    )  # fmt: skip


def _gate(report: Report) -> str:
    what = {"labels": "the same answers", "task": "the same answers", "numeric": "the same numbers"}
    asked = what.get(report.gate, report.gate)
    return {True: f"This passes: what was asked for is {asked}.", False: f"This does not pass: what was asked for is "
            f"{asked}."}.get(report.passed, "") if report.passed is not None else ""


def _tiles(report: Report) -> Iterator[tuple[str, str, str]]:
    """(what, figure, remark): the few figures that stand first."""
    before, after = report.agreement, report.after
    known = plain.answers(report, before)
    if before is not None and known is not None:
        later = plain.answers(report, after)
        same = _agreeing(known)
        yield "Same answer", same if later is None else f"{same} → {_agreeing(later)}", (
            f"of {plural(known.samples, 'test input')}")
    if before is not None and before.max_abs is not None:
        off = figure(before.max_abs)
        remark = f"{figure(before.tolerance)} is tolerated" if before.tolerance is not None else ""
        yield ("Largest difference", off if after is None or after.max_abs is None
               else f"{off} → {figure(after.max_abs)}", remark)
    if report.command in ("localize", "repair"):
        gone = sum(plain.mended(report, f) is not None for f in report.findings)
        yield ("Causes found", str(len(report.findings)),
               "" if report.command != "repair" or not report.findings else "all mended"
               if gone == len(report.findings) else f"{gone} of them mended")
    s = report.samples
    if before is not None:
        made_up = "made-up inputs: weaker evidence" if "synthetic" in s.origin else "real inputs" if s.origin else ""
        apart = f"kept apart from {s.search:,} others" if after is not None and s.heldout else made_up
        yield "Judged on", plural(before.samples, "input"), apart


def _agreeing(known: plain.Answers) -> str:
    return percent((known.samples - known.differing) / known.samples) if known.samples else "–"


def _findings(report: Report, prefix: str) -> Iterator[Told]:
    near = report.exhibits.neighbourhoods if report.exhibits is not None else []
    shared = _shared(report)
    for k, finding in enumerate(report.findings):
        repair = plain.mended(report, finding)
        tried = [r for r in report.repairs if r.code == finding.code and r.target_layer == finding.target_layer]
        facts = [(key.replace("_", " "), _plain(value)) for key, value in finding.evidence.items()]
        drawings = list(_drawings(near[k], f"{prefix}near-{k + 1}-")) if k < len(near) else []
        shown = repair or next(iter(tried), None)
        advice = finding.advice or Advice(meaning=finding.explanation)
        advice = replace(advice, next_steps=[s for s in advice.next_steps if s not in shared])
        yield Told(k + 1, finding, advice, _outcome(report, repair, tried), facts, drawings, shown,
                   [w for e in (shown.edits if shown is not None else []) if (w := edit_text(e)) not in advice.remedy])


def _shared(report: Report) -> list[str]:
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


def _tried(report: Report) -> Table | None:
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


def _layers(layers: Sequence[LayerError]) -> Table | None:
    if not layers:
        return None
    shown = picked(layers, _MOST_ROWS)
    rest = "" if len(shown) == len(layers) else f" ({len(shown)} of {len(layers):,}: those marked, and the peaks)"
    mended = any(e.after is not None for e in layers)
    rows = []
    for e in (layers[i] for i in shown):
        whose = ", ".join(str(f + 1) for f in e.findings)
        mark = f"▲ finding {whose}" if whose else "▲" if marked(e) else ""
        after = [figure(e.after)] if mended else []
        own = [figure(v) for v in (e.carried, e.introduced)]
        rows.append((name(e.target_layer), e.op or "–", *own, *after, mark))
    head = ("layer", "operator", "carries", "adds itself", *(["after repair"] if mended else []), "introduces error")
    return Table(f"Relative error by layer{rest}", head, rows, frozenset({0, 1, len(head) - 1}))


def _differing(d: Differing) -> Differ:
    columns = [("original", d.source), ("converted", d.target), *([("repaired", d.after)] if d.after else [])]
    best = d.source[0].label if d.source else None
    depth = max((len(c) for _, c in columns), default=0)
    rows = [(str(k + 1), *(_score(c, k, best) for _, c in columns)) for k in range(depth)]
    picture = d.image if _PICTURE.fullmatch(d.image) else ""
    return Differ(d.sample, picture, bool(picture) and _tiny(picture),
                  Table(d.sample, ("rank", *(c for c, _ in columns)), rows, frozenset()))


def _score(scores: Sequence[Score], place: int, best: int | None) -> Markup:
    """A class and its score; of first places also whether it is the original's."""
    if place >= len(scores):
        return Markup("–")
    sign = "" if place else "✓ " if scores[0].label == best else "✕ "
    return Markup("{}<b>{}</b> <small>{}</small>").format(sign, scores[place].label, figure(scores[place].score))


def _tiny(picture: str) -> bool:
    """Whether a PNG is so small that its pixels are to be seen as such."""
    head = base64.b64decode(picture.partition(",")[2][:32])
    return head.startswith(b"\x89PNG") and int.from_bytes(head[16:20], "big") < _SMALL
