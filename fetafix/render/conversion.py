"""The report of a conversion, for people and for tools: the verdict, then every route and what came of it."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.convert.report import ConversionReport, RouteReport, StepReport, to_json
from fetafix.render.style import Style, number, percent, plural, wrap
from fetafix.report import Verdict

_INDENT = 14
_COLOURS = {
    "passed": "green", "rejected": "red", "not converted": "red", "undecided": "yellow", "unavailable": "yellow",
    "not tried": "dim",
}
_UNTRIED = ("not tried", "unavailable")


def json(report: ConversionReport) -> str:
    """The report as indented JSON that ends with a newline."""
    return to_json(report).rstrip("\n") + "\n"


def text(report: ConversionReport, verbose: bool = False, colour: bool = False, quiet: bool = False) -> str:
    """The report as text that ends with a newline; `quiet` gives the verdict's line alone."""
    paint = Style(colour)
    lines = [_headline(report, paint)]
    if not quiet:
        lines += [*wrap(report.reason, 2), ""] if report.reason else [""]
        lines += [*_facts(report), *_routes(report, paint, verbose), *_end(report, verbose)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _headline(report: ConversionReport, paint: Style) -> str:
    if report.output is not None:
        return f"fetafix convert: {paint('CONVERTED', 'bold green')}, {_words(report)}"
    if report.verdict is Verdict.UNDECIDED:
        return f"fetafix convert: {paint('UNDECIDED', 'bold yellow')}"
    return f"fetafix convert: {paint('NOT CONVERTED', 'bold red')}, nothing was written under the output's name"


def _words(report: ConversionReport) -> str:
    return f"{report.verdict.value.replace('_', ' ')}, passes the {report.gate} gate"


def _facts(report: ConversionReport) -> Iterator[str]:
    yield f"  {'source':<12}{report.source.path} ({report.source.format or 'unknown format'})"
    yield f"  {'to':<12}{report.format}"
    s = report.samples
    if s.search or s.heldout:
        early = ", stopped early: decided" if s.stopped_early else ""
        yield from wrap(f"{s.search + s.heldout}, from {s.origin}; seed {report.seed}{early}", _INDENT,
                        f"  {'samples':<12}")


def _routes(report: ConversionReport, paint: Style, verbose: bool) -> Iterator[str]:
    shown = [r for r in report.routes if verbose or r.status != "not tried"]
    if not shown:
        return
    yield ""
    tried = sum(r.status not in _UNTRIED for r in report.routes)
    left = len(report.routes) - len(shown)
    more = f"; {left} more known, not needed (-v shows them)" if left else ""
    yield paint(f"{plural(tried, 'route')} tried", "bold") + more
    for route in _merged(shown, verbose):
        yield from _route(route, report.chosen == route.number, paint, verbose)


def _merged(routes: list[RouteReport], verbose: bool) -> Iterator[RouteReport]:
    """Routes that lack the same thing are told once, unless all is wanted."""
    lacking: set[str] = set()
    for route in routes:
        if route.status == "unavailable" and not verbose:
            if route.reason in lacking:
                continue
            lacking.add(route.reason)
        yield route


def _route(route: RouteReport, chosen: bool, paint: Style, verbose: bool) -> Iterator[str]:
    mark = "*" if chosen else " "
    yield f" {mark}{route.number:>2}. {paint(route.status, f'bold {_COLOURS[route.status]}')}{_figures(route)}"
    yield from wrap(_way(route), 10, "     ")
    for step in route.steps:
        if verbose:
            yield from wrap(_step(step), 12, "       - ")
    if route.reason and (verbose or not chosen):
        yield from wrap(route.reason, 7)


def _figures(route: RouteReport) -> str:
    parts = [] if route.verdict is None else [route.verdict.value]
    labels = route.top1 is not None
    agreeing = route.top1 if labels else route.answers
    parts += [] if agreeing is None else [f"{'top-1' if labels else 'answers'} agree on {percent(agreeing)}"]
    parts += [] if route.max_abs is None else [f"max |difference| {number(route.max_abs)}"]
    parts += [f"{route.seconds:.1f} s"] if route.seconds else []
    parts += [] if route.size is None else [f"{route.size / 1e6:.2f} MB"]
    return f": {', '.join(parts)}" if parts else ""


def _way(route: RouteReport) -> str:
    words = [route.steps[0].source]
    for step in route.steps:
        chosen = ", ".join(f"{k} {v}" for k, v in step.options.items())
        words.append(f"→ {step.converter}{f' ({chosen})' if chosen else ''} → {step.target}")
    return " ".join(words)


def _step(step: StepReport) -> str:
    made_of = ", ".join(f"{name} {version}" for name, version in step.versions.items())
    seconds = ", as in an earlier route" if step.reused else f", {step.seconds:.1f} s" if step.seconds else ""
    tail = f" ({made_of})" if made_of else ""
    return f"{step.converter}: {step.status}{seconds}{tail}" + "".join(f"; {n}" for n in step.notes)


def _end(report: ConversionReport, verbose: bool) -> Iterator[str]:
    rows = [("written", report.output.path)] if report.output else []
    rows += [("SHA-256", report.output.sha256)] if report.output and verbose else []
    rows += [("rejected", report.rejected)] if report.rejected else []
    rows += [("journal", report.journal)] if report.journal else []
    rows += [("note", note) for note in report.notes]
    if verbose and report.timings:
        rows.append(("time", ", ".join(f"{k} {v:.2f} s" for k, v in report.timings.items())))
    if rows:
        yield ""
    for label, words in rows:
        yield from wrap(words, _INDENT, f"  {label:<12}")
