"""The analytic prediction beside what the flips of the trials did to the weights: replayed on the codes, no model runs.

A trial's flips rest on its number alone (`sweep.flips_of`), so what they did to the stored values is known exactly,
whatever became of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.formats import stored
from fetafix.storage import agreement, sweep
from fetafix.storage.agreement import Agreement, Expected, Seen
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Encoding
from fetafix.storage.flips import flip, split
from fetafix.storage.left_over import left_rate
from fetafix.storage.prediction import Prediction, predicted
from fetafix.storage.schemes import Plan, Stored, load, taken
from fetafix.stress.medium import Part, Target
from fetafix.stress.record import BitDamage, LayerDamage, Predicted

Array = npt.NDArray[Any]
_TRIALS, _FLIPS = 20, 4_000_000  # looked at for each rate, at most
_SAMPLE = 20_000  # values of each tensor that every bit is flipped of
_UNTESTED = Agreement(1.0, 1.0, "")  # what a code beside leaves comes a whole codeword at a time, not bit by bit
_KNOWN: dict[str, Encoding] = {"float32": FP32, "float16": FP16, "bfloat16": BF16, "int8": INT8, "uint8": INT8}


@dataclass(frozen=True, eq=False)
class Foreseen:
    """A target and what single flips do to it. stored: by part, None where there is no closed form."""

    target: Target
    stored: tuple[Stored | None, ...]
    predictions: tuple[Prediction | None, ...]

    @property
    def known(self) -> list[tuple[str, Prediction, int]]:
        """Of the tensors with a closed form: name, prediction, values."""
        rows = zip(self.target.parts, self.stored, self.predictions, strict=True)
        return [(p.tensor.name, q, int(s.codes.size)) for p, s, q in rows if p.tensor and s is not None and q]

    @property
    def expected(self) -> Expected:
        """Of all of them."""
        return agreement.expected((q, n) for _, q, n in self.known)


def foresee(target: Target) -> Foreseen:
    """Predict; reads what lies in the target's files where they are struck as they are."""
    kept = tuple(_stored(part) for part in target.parts)
    return Foreseen(target, kept, tuple(None if s is None else predicted(s, sample=_SAMPLE) for s in kept))


def _stored(part: Part) -> Stored | None:
    if part.kept is not None or part.tensor is None:
        return part.kept
    to = _KNOWN.get(part.tensor.dtype.name)
    if to is None:
        return None
    values = np.ascontiguousarray(stored.laid(part.tensor, stored.read(part.tensor)))
    return Stored(values.view(f"u{values.itemsize}"), Plan(to), np.ones(()))


def beside(foreseen: Foreseen, cells: Sequence[tuple[float, int]], seed: int) -> list[Predicted]:
    """Prediction and measurement for each (bit-error rate, trials); [] where nothing has a closed form."""
    wanted = foreseen.expected
    return [_at(foreseen, wanted, ber, trials, seed) for ber, trials in cells] if wanted.size else []


def _at(foreseen: Foreseen, wanted: Expected, ber: float, trials: int, seed: int) -> Predicted:
    bits = foreseen.target.bits
    count = min(trials, _TRIALS, max(1, int(_FLIPS / max(1.0, bits * ber))))
    seen = Seen(count)
    for trial in range(count):
        seen += replay(foreseen, sweep.flips_of(seed, ber, trial, bits))
    checks = foreseen.target.checks
    rate = left_rate(ber, checks) if checks else ber
    found = _UNTESTED if checks else agreement.compare(wanted, seen, ber)
    total = seen.wrecked + seen.more_wrecked
    return Predicted(
        ber=ber, rms=wanted.rms(rate), seen_rms=seen.rms(wanted.size), wrecked=rate * wanted.wrecked,
        seen_wrecked=total / count if count else 0.0, whole=wanted.whole(rate), trials=count, p_rms=found.p_rms,
        p_wrecked=found.p_wrecked, why=found.why if count else "")


def replay(foreseen: Foreseen, where: Array) -> Seen:
    """What flips at these positions among the target's bits do to its values. Counts no trial."""
    seen = Seen()
    where = foreseen.target.read_wrong(where)
    each = split(where, [p.bits for p in foreseen.target.parts])
    rows = zip(each, foreseen.stored, foreseen.predictions, strict=True)
    for own, kept, prediction in rows:
        if own.size and kept is not None and prediction is not None:
            bits = kept.plan.encoding.bits
            elements, which, times = np.unique(own // bits, return_inverse=True, return_counts=True)
            some = taken(kept, elements)
            struck = some.codes.copy()
            flip(struck, which * bits + own % bits, bits)
            seen += agreement.errors(load(replace(some, codes=struck)), load(some), prediction.largest, times == 1)
    return seen


def bit_damage(foreseen: Foreseen) -> list[BitDamage]:
    """By bit, over all tensors of the widest format, each value counting once."""
    rows = [(q, n) for _, q, n in foreseen.known]
    widest = max((len(q.bits) for q, _ in rows), default=0)
    rows = [(q, n) for q, n in rows if len(q.bits) == widest]
    total = sum(n for _, n in rows)
    found = []
    for i in range(widest):
        squares = sum(n * (q.bits[i].rms / q.largest) ** 2 for q, n in rows if q.largest)
        wrecked = sum(n * q.bits[i].wrecked for q, n in rows)
        found.append(BitDamage(bit=i, part=rows[0][0].bits[i].part, rms=float(np.sqrt(squares / total)),
                               wrecked=wrecked / total))
    return found


def layer_damage(foreseen: Foreseen) -> list[LayerDamage]:
    """By tensor and kind of bit."""
    found = []
    for name, q, size in foreseen.known:
        kinds = list(dict.fromkeys(b.part for b in reversed(q.bits)))
        of = {kind: [b for b in q.bits if b.part == kind] for kind in kinds}
        scale = q.largest or 1.0
        found.append(LayerDamage(
            tensor=name, values=size,
            rms={kind: float(np.sqrt(np.mean([(b.rms / scale) ** 2 for b in bits]))) for kind, bits in of.items()},
            wrecked={kind: float(np.mean([b.wrecked for b in bits])) for kind, bits in of.items()}))
    return found
