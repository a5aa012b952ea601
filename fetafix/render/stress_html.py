"""A stress report as one HTML page: the verdict first, plots within, nothing to load, light and dark."""

from __future__ import annotations

from markupsafe import Markup

from fetafix.errors import UsageError
from fetafix.render.canvas import inline, svg
from fetafix.render.html import frame
from fetafix.render.html.figures import Table
from fetafix.render.stress_figures import figures
from fetafix.stress.record import Cell, StressReport, Subject


def page(report: StressReport) -> str:
    """The page; without matplotlib it says so in the place of the plots."""
    title = _title(report)
    tables = [(s.name, _cells(s, report)) for s in report.subjects]
    tables += [(f"Prediction and measurement: {s.name}", _predicted(s)) for s in report.subjects if s.predictions]
    tables += [("Pairs on the same images and seeds", _pairs(report))] if report.pairs else []
    notes = [*report.notes, *(f"{s.name}: {n}" for s in report.subjects for n in s.notes)]
    body = frame.environment().get_template("stress.html").render(
        title=title, report=report, asked=_asked(report), summary=_summary(report), plots=_plots(report), tables=tables,
        notes=notes)
    return frame.page(title, Markup(body), styled=True)


def _title(report: StressReport) -> str:
    return f"Storage faults: {', '.join(dict.fromkeys(s.model.path for s in report.subjects))}"


def _asked(report: StressReport) -> str:
    marks = f"labels from {report.labels}" if report.labels else "without labels: answers that stay as they were count"
    return (f"{report.samples} samples from {report.origin}; {marks}. Tolerated: a drop of {100 * report.max_drop:.3g} "
            f"points from the stored encoding's own fault-free accuracy, with a probability of "
            f"{_percent(report.survival)}; bounds at {_percent(report.confidence)} confidence; seed {report.seed}.")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.4g}%"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _summary(report: StressReport) -> Table:
    rows = [
        (s.name, f"{s.storage.bits / 8e6:.3g} MB", _percent(s.original), _percent(s.clean), _rate(s.tolerated),
         _rate(s.open), _rate(s.untouched)) for s in report.subjects
    ]  # fmt: skip
    head = ("model and storage", "struck", "file as it is", "stored, no fault", "tolerated", "too much",
            "hardly a flip")
    return Table(
        "What quantisation does is the step from “file as it is” to “stored, no fault”; drops by faults "
        "are counted from the latter. “Hardly a flip”: the rate at which no bit at all flips as often as asked for.",
        head, rows)


def _plots(report: StressReport) -> str | list[tuple[Markup, str]]:
    """(picture, title) of each plot, or why there is none."""
    try:
        drawn = figures(report)
    except UsageError as error:
        return str(error)
    return [(Markup(inline(svg(d.figure, d.title, d.alt), d.name)), d.title) for d in drawn]


def _cells(subject: Subject, report: StressReport) -> Table:
    head = ("bit-error rate", "flips", "trials", "survived", "bounds", "decided", "median", "5%", "worst", "other ends")
    rows = [
        (f"{c.ber:g}", f"{c.flips:.3g}", str(c.trials), _percent(c.survival),
         f"{_percent(c.bounds[0])} to {_percent(c.bounds[1])}", c.decided or "open", _percent(c.median), _percent(c.p5),
         _percent(c.worst), _ends(c)) for c in subject.cells
    ]  # fmt: skip
    return Table(f"Fault-free {_percent(subject.clean)}. Decided: whether it survives with a probability of "
                 f"{_percent(report.survival)}.", head, rows, frozenset({0, 9}))


def _ends(cell: Cell) -> str:
    return ", ".join(f"{n} {what}" for what, n in cell.outcomes.items() if n and what not in ("survived", "degraded"))


def _predicted(subject: Subject) -> Table:
    head = ("bit-error rate", "RMS error predicted", "seen", "wrecked predicted", "wrecked seen", "none wrecked",
            "agrees")
    rows = [
        (f"{p.ber:g}", f"{p.rms:.3g}", f"{p.seen_rms:.3g}", f"{p.wrecked:.3g}", f"{p.seen_wrecked:.3g}",
         _percent(p.whole), f"✕ no: {p.why}" if p.why else "yes") for p in subject.predictions
    ]  # fmt: skip
    return Table("Errors of weights by flips, in closed form, beside those of the flips of the first trials. "
                 "✕: below a probability of 0.001, were the prediction true.", head, rows, frozenset({0, 6}))


def _pairs(report: StressReport) -> Table:
    head = ("bit-error rate", "first", "second", "both survive", "first only", "second only", "neither", "p (McNemar)")
    rows = [(f"{p.ber:g}", p.first, p.second, str(p.both), str(p.first_only), str(p.second_only), str(p.neither),
             f"{p.p:.3g}") for p in report.pairs]
    return Table("Trials that survive.", head, rows, frozenset({0, 1, 2}))
