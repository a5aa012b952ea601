"""The benchmark's results as Markdown: targets first, then Top-1 by rate, the split, the prediction, the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fetafix.bench.storage.rows import Row
from fetafix.bench.storage.targets import Target, targets
from fetafix.stress.record import Cell, Subject

TABLE = "results.md"
_LEGEND = ("“No fault”: of the stored encoding, which is what quantisation costs; then the median under faults, with "
           "the worst trial in brackets where it differs. Tolerated: at most 1 point of drop with a probability of "
           "95%, 95% sure; in brackets: the rate at which hardly a bit flips.")
_SHAPES = ("“→ 0”: weights that round to 0. “Half”: rates with a 50% chance that such a bit flips, or that a weight is "
           "wrecked (off by more than twice its tensor's largest). Then by rate P(no wreck), and the RMS error of the "
           "weights by flips over their own RMS: of single flips, so that what secded does not correct is left out.")


def write(folder: Path, rows: Sequence[Row]) -> Path:
    """The table beside the rows."""
    path = folder / TABLE
    path.write_text(markdown(rows), "utf-8")
    return path


def markdown(rows: Sequence[Row]) -> str:
    """All of it."""
    parts = ["# Storage faults", "", *_targets(targets(rows))]
    for model in dict.fromkeys(r.model for r in rows if r.kind == "measured"):
        parts += _measured(model, [r for r in rows if r.kind == "measured" and r.model == model])
    parts += _disagreements(rows)
    for model in dict.fromkeys(r.model for r in rows if r.kind == "analytic"):
        parts += _analytic(model, [r for r in rows if r.kind == "analytic" and r.model == model])
    return "\n".join(parts).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, and an empty line."""
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(r)} |" for r in rows), ""]


def _targets(found: Sequence[Target]) -> list[str]:
    rows = [(t.what, {True: "met", False: "missed", None: "not measured"}[t.met], t.found) for t in found]
    return ["## Targets", "", *table(("target", "", "measured"), rows)]


def _measured(model: str, rows: Sequence[Row]) -> list[str]:
    subjects = [r.subject for r in rows if r.subject is not None]
    lines = [f"## {model}", ""]
    if subjects:
        images, original = max(r.images for r in rows), subjects[0].original
        lines += [f"{images} images, top-1 of the file as it is {_points(original)}. {_LEGEND}", ""]
        rates = [c.ber for c in subjects[0].cells]
        head = ("storage", "bits", "no fault", *(f"{b:g}" for b in rates), "tolerated")
        lines += table(head, [_storage(r, r.subject) for r in rows if r.subject is not None])
    lines += [f"- {r.storage}: {r.reason}" for r in rows if r.reason][:1 if not subjects else None]
    return [*lines, ""]


def _storage(row: Row, subject: Subject) -> tuple[str, ...]:
    held = subject.storage
    bits = f"{held.bits / held.values:.3g}" if held.values else ""
    tolerated = f"{subject.tolerated:.1g}" if subject.tolerated else f"({subject.untouched:.1g})"
    return (row.storage, bits, _points(subject.clean), *(_cell(c) for c in subject.cells), tolerated)


def _cell(cell: Cell) -> str:
    if cell.median is None or cell.worst is None:
        return f"{_points(cell.survival)} survive"
    worst = f" ({100 * cell.worst:.0f})" if round(100 * cell.worst, 1) < round(100 * cell.median, 1) else ""
    return f"{100 * cell.median:.1f}{worst}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}%"


def _disagreements(rows: Sequence[Row]) -> list[str]:
    found = [(r.subject, p) for r in rows if r.subject is not None for p in r.subject.predictions]
    if not found:
        return []
    flagged = [f"- {s.name} at {p.ber:g}: RMS error {p.rms:.3g} predicted, {p.seen_rms:.3g} seen; {p.why}"
               for s, p in found if p.why]
    return ["## Prediction beside measurement", "",
            f"Of {len(found)} predictions of the weights' errors {len(flagged)} disagree with what the trials' flips "
            "did (`fetafix/storage/agreement.py` says when they do).", "", *flagged, ""]


_FIGURES = {"rounded_to_0": "→ 0", "half_top": "half: exponent's top bit", "half_wrecked": "half: a wreck"}


def _analytic(model: str, rows: Sequence[Row]) -> list[str]:
    lines = [f"## {model}: analytic", ""]
    good = [r for r in rows if r.figures]
    if good:
        rates = sorted(float(k.partition("@")[2]) for k in good[0].figures if k.startswith("whole@"))
        lines += [f"{good[0].figures['weights'] / 1e6:.1f} million weights, Gaussian. {_SHAPES}", ""]
        head = ("storage", "MB", "rounding", *_FIGURES.values(), *(f"{b:g}" for b in rates))
        lines += table(head, [_architecture(r, rates) for r in good])
    return [*lines, *(f"- {r.storage}: {r.reason}" for r in rows if r.reason), ""]


def _architecture(row: Row, rates: Sequence[float]) -> tuple[str, ...]:
    f = row.figures
    shown = {"rounded_to_0": f"{100 * f['rounded_to_0']:.1f}%"}
    figures = (shown.get(name) or (f"{f[name]:.1e}" if name in f else "–") for name in _FIGURES)
    cells = (f"{100 * f[f'whole@{b:g}']:.0f}%, {f[f'rms@{b:g}']:.1g}" for b in rates)
    return (row.storage, f"{f['bits'] / 8e6:.0f}", f"{100 * f['rounding']:.2g}%", *figures, *cells)
