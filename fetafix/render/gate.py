"""The report of a gate for people: a line a pair, then what is wrong with those that fail.

Names of pairs, layers and files are never shortened: they are there to be copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from fetafix.gate.record import Acceptance, GateReport, PairResult, Status
from fetafix.render import text
from fetafix.render.style import Style, number, percent, plural, wrap
from fetafix.report import Finding

_COLOURS = {Status.PASSED: "green", Status.ACCEPTED: "yellow", Status.FAILED: "red", Status.UNDECIDED: "yellow"}
_HEAD = ("pair", "status", "verdict", "labels agree", "worst difference")


def render(report: GateReport, verbose: bool = False, colour: bool = False, quiet: bool = False) -> str:
    """The report as text that ends with a newline.

    quiet: the first line alone. verbose: the whole report of every pair, too.
    """
    paint = Style(colour)
    lines = [_headline(report, paint)]
    if not quiet:
        lines += ["", *_table(report.pairs, paint)]
        for pair in report.pairs:
            lines += _told(pair, paint, report.config)
        lines += ["", *(line for note in report.notes for line in wrap(note, 2))] if report.notes else []
        if verbose:
            lines += [line for pair in report.pairs for line in _whole(pair, paint, colour)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _headline(report: GateReport, paint: Style) -> str:
    word, style = {0: ("PASSED", "green"), 1: ("FAILED", "red")}.get(report.exit_code, ("UNDECIDED", "yellow"))
    counts = [f"{n} {status.value}" for status in Status if (n := report.count(status))]
    known = sum(p.cached for p in report.pairs)
    cached = f"; {plural(known, 'source')} not run again" if known else ""
    pairs = f"{plural(len(report.pairs), 'pair')}: {', '.join(counts)}"
    return f"fetafix gate: {paint(word, f'bold {style}')}, {pairs}{cached}"


def _table(pairs: Sequence[PairResult], paint: Style) -> Iterator[str]:
    """Columns as wide as their longest entry, so that nothing is cut."""
    rows = [_HEAD, *(_cells(p) for p in pairs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for number_, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number_:
            cells[1] = paint(cells[1], f"bold {_COLOURS[pairs[number_ - 1].status]}")
            yield ("  " + "  ".join(cells)).rstrip()
        else:
            yield paint(("  " + "  ".join(cells)).rstrip(), "dim")


def _cells(pair: PairResult) -> tuple[str, str, str, str, str]:
    figures = pair.report.agreement
    labels = "" if figures is None or figures.top1 is None else percent(figures.top1)
    worst = "" if figures is None or figures.max_abs is None else number(figures.max_abs)
    return pair.name, pair.status.value, pair.report.verdict.value.replace("_", " "), labels or "-", worst or "-"


def _told(pair: PairResult, paint: Style, config: str) -> Iterator[str]:
    """What a reader has to know of a pair: why it does not pass, what of it is accepted, and what is not used."""
    if pair.status is not Status.PASSED or pair.unused:
        yield ""
        yield f"  {paint(pair.name, 'bold')}"
    if pair.status is not Status.PASSED:
        yield from wrap(pair.report.reason, 4)
        for finding in pair.report.findings:
            yield from _finding(finding, next((a for a in pair.accepted if a.finding == finding), None), paint)
    if pair.status is Status.FAILED and pair.report.findings:
        yield f"    to repair it: fetafix repair -c {quote(config)} --pair {quote(pair.name)}"
    for entry in pair.unused:
        yield from wrap(f"not used: accept {entry} met no finding; it can be removed", 6, "    ")


def _finding(finding: Finding, accepted: Acceptance | None, paint: Style) -> Iterator[str]:
    where = paint(finding.target_layer or "the interface", "bold")
    yield f"    - {finding.code} at {where}: {finding.title}"
    if accepted is not None:
        until = f" until {accepted.until}" if accepted.until else ""
        words = f"was accepted{until} only: " if accepted.expired else f"accepted{until}: "
        yield from wrap(f"{words}{accepted.reason}", 6)


def _whole(pair: PairResult, paint: Style, colour: bool) -> Iterator[str]:
    yield ""
    yield paint(f"{pair.name} ({pair.seconds:.1f} s{', source not run again' if pair.cached else ''})", "bold")
    yield text.render(pair.report, True, colour).rstrip("\n")
