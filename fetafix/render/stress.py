"""The report of a stress test as text: for each model a table by bit-error rate, then one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.render import stress_prediction
from fetafix.render.style import Style, percent, wrap
from fetafix.stress.record import Cell, StressReport, Subject
from fetafix.stress.words import points

_COLOURS = {"yes": "green", "no": "red", "": "yellow"}
_WORDS = {"yes": "tolerated", "no": "too much", "": "undecided"}
_SIGNIFICANT = 0.05


def render(report: StressReport, verbose: bool = False, colour: bool = False, quiet: bool = False) -> str:
    """The report; ends with a newline. quiet: the verdict alone; verbose: outcomes, certainties and timings too."""
    paint = Style(colour)
    lines = [] if quiet else [*_head(report)]
    for subject in report.subjects if not quiet else ():
        lines += ["", *_subject(subject, report, paint, verbose)]
    if not quiet:
        lines += [*_pairs(report, verbose), *_predictions(report), ""]
    shade = "" if report.required is None else "green" if report.reached else "red"
    lines += [paint(line, f"bold {shade}".strip()) for line in wrap(report.verdict, 0)]
    return "\n".join(lines) + "\n"


def _head(report: StressReport) -> Iterator[str]:
    right = f"labels: {report.labels}" if report.labels else "no labels: answers are compared with the fault-free ones"
    yield from wrap(f"{report.samples} samples ({report.origin}); {right}; seed {report.seed}", 2, "")
    yield from wrap(
        f"survived: the drop from the stored encoding's own fault-free accuracy is at most "
        f"{points(report.max_drop)}; bounds: {percent(report.confidence)}; tolerated: at least "
        f"{percent(report.survival)} of all trials survive", 2, "")
    for note in report.notes:
        yield from wrap(f"note: {note}", 2, "")


def _subject(subject: Subject, report: StressReport, paint: Style, verbose: bool) -> Iterator[str]:
    held = subject.storage
    what = f"{held.bits:,} bits of {'the file' if held.scope == 'file' else f'{held.tensors} {held.scope}'}"
    if held.dtype != "keep":
        what += f" as {held.dtype}, scheme {held.scheme} per {held.granularity}"
    yield f"{paint(subject.name, 'bold')} ({subject.model.format}): {what}"
    same = "" if held.dtype == "keep" else f"; the file as it is: {percent(subject.original)}"
    yield f"  fault-free {'accuracy' if report.labels else 'answers'} of this storage: {percent(subject.clean)}{same}"
    yield "  BER       flips   trials  survived           bounds     median      5%   worst"
    for cell in subject.cells:
        yield f"  {_row(cell)}  {paint(_WORDS[cell.decided], _COLOURS[cell.decided])}"
        if verbose:
            yield f"    {_detail(cell)}"
        elif any(cell.outcomes.get(o) for o in ("unloadable", "crashed", "hung")):
            yield f"    {_gone(cell)}"
    for note in subject.notes:
        yield from wrap(f"note: {note}", 4, "  ")


def _row(cell: Cell) -> str:
    low, high = (percent(b) for b in cell.bounds)
    shares = "".join(f"{percent(v) if v is not None else '–':>8}" for v in (cell.median, cell.p5, cell.worst))
    return f"{cell.ber:<8.3g} {_count(cell.flips):>6}  {cell.trials:>6}  {percent(cell.survival):>8}  " \
           f"{f'{low}–{high}':>15}  {shares}"


def _count(flips: float) -> str:
    return f"{flips:.2g}" if flips < 100 else f"{flips:,.0f}" if flips < 1e5 else f"{flips:.1e}"


def _gone(cell: Cell) -> str:
    words = {"unloadable": "no longer loaded", "crashed": "crashed", "hung": "hung"}
    return ", ".join(f"{cell.outcomes[o]} {w}" for o, w in words.items() if cell.outcomes.get(o))


def _detail(cell: Cell) -> str:
    words = [f"{cell.outcomes.get('degraded', 0)} degraded", _gone(cell), f"{cell.ran} of {cell.trials} ran",
             f"{cell.full} over all samples", f"no bit flips with {percent(cell.at_least)}", cell.kind,
             f"{cell.seconds:.1f} s", f"--replay {cell.ber:g}:{cell.failed[0]} failed" if cell.failed else ""]
    return "; ".join(w for w in words if w)


def _predictions(report: StressReport) -> Iterator[str]:
    found = stress_prediction.lines(report)
    if found:
        yield from ("", *found)


def _pairs(report: StressReport, verbose: bool) -> Iterator[str]:
    """Comparisons on the same trials: with the first subject, each at the rate that tells most; verbose: all."""
    shown = report.pairs
    if not verbose:
        with_first = [p for p in report.pairs if p.first == report.subjects[0].name and p.p < _SIGNIFICANT]
        best = {p.second: p for p in sorted(with_first, key=lambda p: -p.p)}
        shown = [best[s.name] for s in report.subjects if s.name in best]
    if shown:
        yield ""
        yield "on the same trials (exact McNemar test):"
    for pair in shown:
        ahead, behind = (pair.first, pair.second) if pair.first_only >= pair.second_only else (pair.second, pair.first)
        most, least = max(pair.first_only, pair.second_only), min(pair.first_only, pair.second_only)
        yield from wrap(f"at {pair.ber:g} {ahead} survived {most} that {behind} did not, {least} the other way round "
                        f"(p = {pair.p:.2g})", 4, "  ")
