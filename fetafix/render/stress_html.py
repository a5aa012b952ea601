"""A stress report as one HTML page: the verdict first, plots within, nothing to load, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from fetafix.errors import UsageError
from fetafix.render.canvas import inline, svg
from fetafix.render.stress_figures import figures
from fetafix.stress.record import Cell, StressReport, Subject

_CSS = """:root { color-scheme: light dark; --line: #8886; --soft: #8882; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-size: 1.15rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding: .5rem 0; } .wide { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.words, th.words { text-align: left; } td.words { white-space: normal; }
tr:nth-child(even) td { background: var(--soft); } .flag { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { font-size: .85rem; opacity: .8; }
"""


def page(report: StressReport) -> str:
    """The page; without matplotlib it says so in the place of the plots."""
    body = [f"<h1>{escape(_title(report))}</h1>", f'<p class="verdict">{escape(report.verdict)}</p>', _asked(report)]
    body += [_summary(report), *_plots(report)]
    body += [_cells(s, report) for s in report.subjects]
    body += [_predicted(s) for s in report.subjects if s.predictions]
    body += [_pairs(report)] if report.pairs else []
    notes = [*report.notes, *(f"{s.name}: {n}" for s in report.subjects for n in s.notes)]
    body += ["<h2>Notes</h2><ul>", *(f"<li>{escape(n)}</li>" for n in notes), "</ul>"] if notes else []
    text = "\n".join(body)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{escape(_title(report))}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>\n{_CSS}</style></head>\n<body>\n{text}\n</body></html>\n")


def _title(report: StressReport) -> str:
    return f"Storage faults: {', '.join(dict.fromkeys(s.model.path for s in report.subjects))}"


def _asked(report: StressReport) -> str:
    marks = f"labels from {report.labels}" if report.labels else "without labels: answers that stay as they were count"
    return (f"<p>{report.samples} samples from {escape(report.origin)}; {escape(marks)}. Tolerated: a drop of "
            f"{100 * report.max_drop:.3g} points from the stored encoding's own fault-free accuracy, with a "
            f"probability of {_percent(report.survival)}; bounds at {_percent(report.confidence)} confidence; seed "
            f"{report.seed}.</p>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, words: Sequence[str] = ()) -> str:
    """A table; cells are escaped. words: headings of columns of text."""
    kind = {h: ' class="words"' if h in words else "" for h in head}
    top = "".join(f'<th scope="col"{kind[h]}>{escape(h)}</th>' for h in head)
    lines = ["".join(f"<td{kind[h]}>{_cell(c)}</td>" for h, c in zip(head, row, strict=True)) for row in rows]
    made = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return (f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>\n'
            f"<tbody>{made}</tbody></table></div>")


def _cell(text: str) -> str:
    return f'<span class="flag">{escape(text[1:])}</span>' if text.startswith("!") else escape(text)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.4g}%"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _summary(report: StressReport) -> str:
    rows = [
        (s.name, f"{s.storage.bits / 8e6:.3g} MB", _percent(s.original), _percent(s.clean), _rate(s.tolerated),
         _rate(s.open), _rate(s.untouched)) for s in report.subjects
    ]  # fmt: skip
    head = ("model and storage", "struck", "file as it is", "stored, no fault", "tolerated", "too much",
            "hardly a flip")
    return "<h2>Tolerated bit-error rates</h2>" + table(
        head, rows, "What quantisation does is the step from “file as it is” to “stored, no fault”; drops by faults "
        "are counted from the latter. “Hardly a flip”: the rate at which no bit at all flips as often as asked for.")


def _plots(report: StressReport) -> list[str]:
    try:
        drawn = figures(report)
    except UsageError as error:
        return [f"<p>{escape(str(error))}</p>"]
    pictures = ((inline(svg(d.figure, d.title, d.alt), d.name), escape(d.title)) for d in drawn)
    return [f"<figure>{picture}<figcaption>{title}</figcaption></figure>" for picture, title in pictures]


def _cells(subject: Subject, report: StressReport) -> str:
    head = ("bit-error rate", "flips", "trials", "survived", "bounds", "decided", "median", "5%", "worst", "other ends")
    rows = [
        (f"{c.ber:g}", f"{c.flips:.3g}", str(c.trials), _percent(c.survival),
         f"{_percent(c.bounds[0])} to {_percent(c.bounds[1])}", c.decided or "open", _percent(c.median), _percent(c.p5),
         _percent(c.worst), _ends(c)) for c in subject.cells
    ]  # fmt: skip
    return f"<h2>{escape(subject.name)}</h2>" + table(
        head, rows, f"Fault-free {_percent(subject.clean)}. Decided: whether it survives with a probability of "
        f"{_percent(report.survival)}.", ("other ends",))


def _ends(cell: Cell) -> str:
    return ", ".join(f"{n} {what}" for what, n in cell.outcomes.items() if n and what not in ("survived", "degraded"))


def _predicted(subject: Subject) -> str:
    head = ("bit-error rate", "RMS error predicted", "seen", "wrecked predicted", "seen ", "none wrecked", "agrees")
    rows = [
        (f"{p.ber:g}", f"{p.rms:.3g}", f"{p.seen_rms:.3g}", f"{p.wrecked:.3g}", f"{p.seen_wrecked:.3g}",
         _percent(p.whole), f"!no: {p.why}" if p.why else "yes") for p in subject.predictions
    ]  # fmt: skip
    return f"<h2>Prediction and measurement: {escape(subject.name)}</h2>" + table(
        head, rows, "Errors of weights by flips, in closed form, beside those of the flips of the first trials. "
        "Flagged: below a probability of 0.001, were the prediction true.", ("agrees",))


def _pairs(report: StressReport) -> str:
    head = ("bit-error rate", "first", "second", "both survive", "first only", "second only", "neither", "p (McNemar)")
    rows = [(f"{p.ber:g}", p.first, p.second, str(p.both), str(p.first_only), str(p.second_only), str(p.neither),
             f"{p.p:.3g}") for p in report.pairs]
    title = "<h2>Pairs on the same images and seeds</h2>"
    return title + table(head, rows, "Trials that survive.", ("first", "second"))
