"""The figures of a stress report: what happens at which bit-error rate, which bits do it, and what protection costs.

Each figure has a name (its file's), a title and a description in words that holds its figures, for whoever does not see
it. Nothing is drawn of what a report does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.render.canvas import COLOURS, INK, MARKERS, drawing
from fetafix.stress.record import StressReport, Subject

_PANELS, _ROWS = 6, 40
_PARTS = {"sign": "#d55e00", "exponent": "#cc79a7", "integer": "#cc79a7", "mantissa": "#0072b2", "fraction": "#0072b2"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure; figure: matplotlib's."""

    name: str
    title: str
    alt: str
    figure: Any


def figures(report: StressReport) -> list[Drawn]:
    """All figures that a report has numbers for. Raises UsageError where matplotlib is not installed."""
    with drawing() as figure:
        makers: Sequence[Callable[[StressReport, Any], Iterator[Drawn]]] = (_accuracy, _survival, _bits, _layers, _cost)
        return [drawn for make in makers for drawn in make(report, figure)]


def _looks(number: int) -> dict[str, Any]:
    """A colour and, for those who tell none apart, a marker."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}


def _rates(axes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("bit-error rate")


def _accuracy(report: StressReport, figure: Any) -> Iterator[Drawn]:
    """Median and a band from the 5th to the 95th percentile; dashed: each stored encoding without a fault."""
    shown = [s for s in report.subjects if any(c.accuracies for c in s.cells)]
    if not shown:
        return
    made = figure(figsize=(7, 4.2))
    axes = made.subplots()
    said = []
    for i, subject in enumerate(shown):
        cells = [c for c in subject.cells if c.accuracies and c.ber > 0]
        rates = [c.ber for c in cells]
        low, middle, high = (np.array([100 * np.quantile(c.accuracies, q) for c in cells]) for q in (0.05, 0.5, 0.95))
        look = _looks(i)
        axes.fill_between(rates, low, high, color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(rates, middle, label=subject.name, **look)
        axes.axhline(100 * subject.clean, color=look["color"], linestyle="--", linewidth=0.8)
        worst = ", ".join(f"{m:.1f}% at {b:g}" for b, m in zip(rates, middle, strict=True))
        said.append(f"{subject.name}: {100 * subject.clean:.1f}% without a fault; median {worst}")
    _rates(axes)
    axes.set_ylim(0, 102)
    what = "Top-1 accuracy" if report.labels else "Top-1 answers unchanged"
    axes.set_ylabel(f"{what} (%)")
    axes.legend(fontsize=7)
    yield Drawn("accuracy", f"{what} by bit-error rate", "Median of the trials, 5th to 95th percentile shaded, dashed: "
                f"the stored encoding without a fault. {'; '.join(said)}.", made)


def _survival(report: StressReport, figure: Any) -> Iterator[Drawn]:
    """The share of trials that survived, with bounds."""
    if not any(s.cells for s in report.subjects):
        return
    made = figure(figsize=(7, 4.2))
    axes = made.subplots()
    said = []
    for i, subject in enumerate(report.subjects):
        cells = [c for c in subject.cells if c.ber > 0]
        middle = np.array([100 * min(max(c.survival, c.bounds[0]), c.bounds[1]) for c in cells])
        low, high = (np.array([100 * c.bounds[k] for c in cells]) for k in (0, 1))
        shift = 1.0 + 0.06 * (i - (len(report.subjects) - 1) / 2)  # so that bars do not hide each other
        axes.errorbar([c.ber * shift for c in cells], middle, [middle - low, high - middle], label=subject.name,
                      capsize=2, linewidth=1, **_looks(i))
        said.append(f"{subject.name}: " + ", ".join(
            f"{m:.0f}% ({a:.0f} to {b:.0f}) at {c.ber:g}" for c, m, a, b in zip(cells, middle, low, high, strict=True)))
    axes.axhline(100 * report.survival, color=INK, linestyle=":", linewidth=1)
    _rates(axes)
    axes.set_ylim(-2, 104)
    axes.set_ylabel(f"probability to stay within {100 * report.max_drop:.3g} points (%)")
    axes.legend(fontsize=7)
    yield Drawn("survival", "Probability to survive, by bit-error rate",
                f"Share of trials with bounds at {100 * report.confidence:.3g}% confidence; dotted: the "
                f"{100 * report.survival:.3g}% asked for. {'; '.join(said)}.", made)


def _bits(report: StressReport, figure: Any) -> Iterator[Drawn]:
    """What a flip of each bit does to a weight, highest bit on the left."""
    shown = _distinct([s for s in report.subjects if s.bits])[:_PANELS]
    if not shown:
        return
    made = figure(figsize=(7, 1.2 + 1.5 * len(shown)))
    panels = made.subplots(len(shown), 1, squeeze=False)[:, 0]
    said = []
    for axes, subject in zip(panels, shown, strict=True):
        bits = subject.bits[::-1]
        places, rms = range(len(bits)), np.array([max(b.rms, 1e-12) for b in bits])
        axes.bar(places, np.log10(rms) + 12, bottom=-12, color=[_PARTS[b.part] for b in bits])
        for place, bit in zip(places, bits, strict=True):
            if bit.wrecked >= 0.005:
                axes.text(place, np.log10(rms[place]), f"{100 * bit.wrecked:.0f}", ha="center", va="bottom", fontsize=6)
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xticks(list(places), [str(b.bit) for b in bits], fontsize=5 if len(bits) > 16 else 7)
        axes.set_ylabel("log₁₀ error / max")
        axes.set_title(subject.name, fontsize=8)
        worst = max(bits, key=lambda b: (b.wrecked, b.rms))
        said.append(f"{subject.name}: the worst is bit {worst.bit} ({worst.part}), which wrecks "
                    f"{100 * worst.wrecked:.1f}% of the weights it strikes")
    panels[-1].set_xlabel("bit, highest on the left: sign orange, exponent or integer pink, mantissa or fraction blue")
    yield Drawn("bits", "Damage by bit position", "RMS error of a weight of which one bit flips, over the largest "
                "magnitude of its tensor (logarithm, down to −12), with the percentage that is wrecked above. "
                f"{'; '.join(said)}.", made)


def _distinct(subjects: Sequence[Subject]) -> list[Subject]:
    """One of each kind of storage of each model."""
    found = {(s.model.path, s.storage.dtype, s.storage.scheme, s.storage.granularity): s for s in reversed(subjects)}
    return list(found.values())[::-1]


def _layers(report: StressReport, figure: Any) -> Iterator[Drawn]:
    """Tensors × kinds of bit: RMS error over the tensor's largest magnitude, one map a storage."""
    for number, subject in enumerate(_distinct([s for s in report.subjects if s.layers])[:_PANELS]):
        rows = sorted(subject.layers, key=lambda r: -r.values)[:_ROWS]
        rows = [r for r in subject.layers if r in rows]  # as they lie in the file
        kinds = list(dict.fromkeys(k for r in rows for k in r.rms))
        table = np.array([[np.log10(max(r.rms.get(k, 0.0), 1e-12)) for k in kinds] for r in rows])
        made = figure(figsize=(5.5, 1.4 + 0.2 * len(rows)))
        axes = made.subplots()
        image = axes.imshow(np.clip(table, -6, 6), aspect="auto", cmap="viridis", vmin=-6, vmax=6)
        axes.grid(False)
        axes.set_xticks(range(len(kinds)), kinds)
        axes.set_yticks(range(len(rows)), [r.tensor[-34:] for r in rows], fontsize=6)
        bar = made.colorbar(image, ax=axes, label="log₁₀ of RMS error / largest weight")
        bar.outline.set_edgecolor(INK)
        cut = f"; the {len(rows)} largest of {len(subject.layers)} tensors" if len(rows) < len(subject.layers) else ""
        k = np.unravel_index(int(np.argmax(table)), table.shape)
        yield Drawn(f"layers-{number + 1}", f"Damage by layer and kind of bit: {subject.name}",
                    "Colour: RMS error of a weight of which one such bit flips, over the largest of its tensor"
                    f"{cut}. The worst is the {kinds[k[1]]} of {rows[k[0]].tensor}: 10^{table[k]:.1f}.", made)


def _cost(report: StressReport, figure: Any) -> Iterator[Drawn]:
    """Bits a weight takes against the rate that is tolerated."""
    points = [(s.name, s.storage.bits / s.storage.values, max(s.tolerated or 0.0, s.untouched or 0.0))
              for s in report.subjects if s.storage.values]
    points = [p for p in points if p[2] > 0]
    if len(points) < 2:
        return
    made = figure(figsize=(7, 4.2))
    axes = made.subplots()
    for i, (name, cost, rate) in enumerate(points):
        axes.plot([cost], [rate], linestyle="none", label=name, **{**_looks(i), "markersize": 7})
    axes.set_yscale("log")
    axes.set_xlim(0, 1.1 * max(cost for _, cost, _ in points))
    axes.set_xlabel("bits in storage per weight")
    axes.set_ylabel("tolerated bit-error rate")
    axes.legend(fontsize=7)
    said = "; ".join(f"{name}: {cost:.3g} bits, {rate:.2g}" for name, cost, rate in points)
    yield Drawn("cost", "Cost against tolerated bit-error rate", f"Bits per weight and the highest rate shown to be "
                f"tolerated (or at which hardly any bit flips). {said}.", made)
