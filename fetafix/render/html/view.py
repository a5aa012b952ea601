"""What the template shows, made of a report alone: words, tables and drawings, in the order of the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fetafix.exhibits import Differing, LayerError, Score
from fetafix.render import plain
from fetafix.render.html import events, figures
from fetafix.render.html.chart import chart
from fetafix.render.html.figures import Table
from fetafix.render.html.findings import Told, shared_steps, told, tried
from fetafix.render.html.layers import marked, picked
from fetafix.render.html.names import name
from fetafix.render.plain import figure
from fetafix.render.style import percent, plural
from fetafix.report import Report, Verdict

_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_BADGES = {
    Verdict.EQUIVALENT: ("good", "✓", "Equivalent"), Verdict.REPAIRED: ("good", "✓", "Repaired"),
    Verdict.DRIFTING: ("warn", "!", "Drifting"), Verdict.PARTLY_REPAIRED: ("warn", "!", "Partly repaired"),
    Verdict.UNDECIDED: ("warn", "?", "Undecided"), Verdict.DIVERGENT: ("bad", "✕", "Divergent"),
}  # fmt: skip
_MOST_ROWS = 80
_SMALL = 64  # pixels


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
        tiles=list(_tiles(report)), certainty=list(plain.certainty(report)), findings=list(told(report, prefix)),
        next_steps=shared_steps(report), tried=tried(report), chart=chart(layers, prefix), layers=_layers(layers),
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
    known, later = plain.answers(report, before), plain.answers(report, after)
    if known is not None:
        yield "Same answer", _then(_agreeing(known), _agreeing(later)), f"of {plural(known.samples, 'test input')}"
    if before is not None and before.max_abs is not None:
        remark = f"{figure(before.tolerance)} is tolerated" if before.tolerance is not None else ""
        then = figure(after.max_abs) if after is not None and after.max_abs is not None else ""
        yield "Largest difference", _then(figure(before.max_abs), then), remark
    if report.command in ("localize", "repair"):
        yield "Causes found", str(len(report.findings)), _gone(report)
    if before is not None:
        s = report.samples
        origin = "made up: weaker evidence" if "synthetic" in s.origin else "given, not made up" if s.origin else ""
        apart = f"kept apart from {s.search:,} others" if after is not None and s.heldout else origin
        yield "Judged on", plural(before.samples, "input"), apart


def _then(before: str, after: str) -> str:
    return f"{before} → {after}" if after else before


def _gone(report: Report) -> str:
    """How many causes were mended, where somebody tried to."""
    if report.command != "repair" or not report.findings:
        return ""
    gone = sum(plain.mended(report, f) is not None for f in report.findings)
    return "all mended" if gone == len(report.findings) else f"{gone} of them mended"


def _agreeing(known: plain.Answers | None) -> str:
    return "" if known is None or not known.samples else percent((known.samples - known.differing) / known.samples)


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
