"""What the benchmark is to reach, and whether it does: said either way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fetafix.bench.storage.networks import IMAGENET
from fetafix.bench.storage.rows import Row
from fetafix.stress.record import Cell, Subject

BER, GAIN, WITHIN, INJECT = 1e-4, 0.5, 0.01, 5.0
_CHANCE = 2.0  # "falls to chance": at most so many times the share that guessing gets, or a twentieth
_CLASSES = {"digits": 10, "resnet20": 10, "resnet56": 10, "squeezenet": 1000, "mobilenet": 1001}


@dataclass(frozen=True, slots=True)
class Target:
    """what was wanted; met: None where it was not measured; found: the figures."""

    what: str
    met: bool | None
    found: str


def targets(rows: Sequence[Row]) -> list[Target]:
    """All of them, in order."""
    return [_scaling(rows), _guard(rows), *_speed(rows)]


def at(subject: Subject, ber: float) -> Cell | None:
    """The cell of a rate, if it has accuracies."""
    return next((c for c in subject.cells if abs(c.ber / ber - 1) < 1e-6 and c.median is not None), None)


def _pairs(rows: Sequence[Row], first: str, second: str, models: Sequence[str]) -> list[tuple[str, Subject, Subject]]:
    held = {(r.model, r.storage): r.subject for r in rows if r.kind == "measured" and r.subject is not None}
    return [(m, held[m, first], held[m, second]) for m in models if (m, first) in held and (m, second) in held]


def _scaling(rows: Sequence[Row]) -> Target:
    what = "at 1e-4 the paper's scaling in Q2.5 gains ≥ 50 points of top-1 over plain Q2.5 on an ImageNet network"
    return _judged(what, _pairs(rows, "q2.5 scale", "q2.5 none", IMAGENET), _gain)


def _gain(scaled: Subject, plain: Subject, model: str) -> tuple[bool, str] | None:
    """The gain by medians, split into what scaling gains without a fault, and what faults take from each."""
    with_, without = at(scaled, BER), at(plain, BER)
    if with_ is None or without is None or with_.median is None or without.median is None:
        return None
    gain, recovered = with_.median - without.median, scaled.clean - plain.clean
    return gain >= GAIN, (f"{model}: {100 * gain:.1f} points, of which {100 * recovered:.1f} are quantisation recovery "
                          f"(no fault: {100 * plain.clean:.1f}% → {100 * scaled.clean:.1f}%) and "
                          f"{100 * (gain - recovered):.1f} fault tolerance (drop by faults {_drop(plain, without)} → "
                          f"{_drop(scaled, with_)})")


def _drop(subject: Subject, cell: Cell) -> str:
    return f"{100 * (subject.clean - (cell.median or 0.0)):.1f}"


def _guard(rows: Sequence[Row]) -> Target:
    what = "a guard per channel keeps FP32 within 1 point at 1e-4 where unprotected FP32 falls to chance"
    return _judged(what, _pairs(rows, "fp32 guard channel", "fp32 none", list(_CLASSES)), _kept)


def _kept(guarded: Subject, plain: Subject, model: str) -> tuple[bool, str] | None:
    """Medians; a network that does not fall without protection shows nothing."""
    with_, without = at(guarded, BER), at(plain, BER)
    if with_ is None or without is None or with_.median is None or without.median is None:
        return None
    chance = max(0.05, _CHANCE / _CLASSES[model])
    words = f"{model}: {_drop(guarded, with_)} points lost with it, {100 * without.median:.1f}% top-1 without"
    if without.median > chance:
        return None
    return guarded.clean - with_.median <= WITHIN + 1e-9, words


def _judged(
    what: str, pairs: Sequence[tuple[str, Subject, Subject]],
    judge: Callable[[Subject, Subject, str], tuple[bool, str] | None],
) -> Target:  # fmt: skip
    found = [f for m, a, b in pairs if (f := judge(a, b, m)) is not None]
    if not found:
        return Target(what, None, "no network shows it" if pairs else "")
    met = any(ok for ok, _ in found) if judge is _gain else all(ok for ok, _ in found)
    return Target(what, met, "; ".join(text for _, text in found))


def _speed(rows: Sequence[Row]) -> list[Target]:
    what = (f"injecting at 1e-5 into 100 MB takes ≤ {INJECT:g} ms", "and no longer than one read of the file")
    figures = next((r.figures for r in rows if r.kind == "speed" and r.figures), None)
    if figures is None:
        return [Target(w, None, "") for w in what]
    said = (f"{figures['inject']:.2f} ms in memory, {figures['file']:.2f} ms into the file",
            f"{figures['file'] / figures['read']:.3f} × ({figures['read']:.1f} ms)")
    slow = max(figures["inject"], figures["file"])
    return [Target(what[0], slow <= INJECT, said[0]), Target(what[1], slow <= figures["read"], said[1])]
