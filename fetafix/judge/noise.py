"""The noise floor: how far harmless changes move a model's outputs, and the tolerance that follows from it.

A conversion cannot be asked to agree better with its source than the source does with itself. So the source runs a few
samples again under changes that mean nothing: one unit in the last place of its inputs ("ulp"), each sample alone
instead of in a batch ("batch"), without graph optimisation and with one thread ("runtime"), and simply once more
("repeat"); and where that does not explain a small difference, with every layer rounded otherwise ("rounding").

    floor      = the largest difference that any of these makes, by output (absolute, and as relative L2)
    tolerance  = max(10 · floor, k · eps · scale)    scale: largest |value| of the source's output (1 for relative L2)

k · eps, eps that of the coarsest float in the model's arithmetic (its weights', its output's), stands for what another
implementation of the same arithmetic may do and the source cannot show on its own (other summation orders, Winograd,
fused multiply-add, approximated exp): k = 128 for 32 and 64 bit (1.5e-5 for float32), 8 for 16 bit floats (8e-3 for
float16); for probabilities times what a softmax makes of an error in its scores (`softmax_gain`), so that they are
judged as those would be. Float64 counts as float32, since some runtimes compute so. Outputs of 8 and 16 bit integers
may differ by one code, other integers and truth values not at all.

Outputs that stand for codes (`step`: what one is worth) may differ by one code, in relative L2 by one in every value.
Their noise comes in codes as well, and is not small against them: kernels that round a few hidden values otherwise move
an output by several codes. So only 3 · floor is allowed there.

A repetition that moves an output by more than k · eps · scale is no noise: the model answers differently from run to
run. Nor is a batch that moves it further than the tolerance which all other changes give: the model depends on its
batch peers. Such changes do not widen the tolerance; they are facts about the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fetafix.ir import Array
from fetafix.judge.codes import one_code
from fetafix.judge.metrics import Errors, errors

SAFETY = 10.0
SAFETY_OF_CODES = 3.0
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an output may differ by (max_abs, mean_abs in its unit); figures that are None are not asked for."""

    max_abs: float | None = None
    rel_l2: float | None = None
    mean_abs: float | None = None
    max_rel: float | None = None

    def admits(self, found: Errors) -> bool:
        """Whether measured errors stay within every bound. A NaN or infinity in one model only never does."""
        bounds = ((getattr(self, n), getattr(found, n)) for n in ("max_abs", "rel_l2", "mean_abs", "max_rel"))
        return found.nonfinite_differs == 0 and all(
            bound is None or value is None or value <= bound for bound, value in bounds
        )


@dataclass(frozen=True, slots=True)
class Floor:
    """The noise of one output. changes: kind of change → (largest absolute difference, relative L2)."""

    max_abs: float = 0.0
    rel_l2: float = 0.0
    changes: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one model: a floor an output; whether it depends on its batch peers, or varies from run to run.

    batch_dependence, run_variation: relative L2 difference where it is beyond noise, else None.
    """

    floors: Mapping[str, Floor] = field(default_factory=dict)
    batch_dependence: float | None = None
    run_variation: float | None = None

    def floor(self, output: str) -> Floor:
        """The floor of an output; zero where none was measured."""
        return self.floors.get(output, Floor())

    def wider(self, other: Noise) -> Noise:
        """This noise and that of another change, the larger of both."""
        floors = dict(self.floors)
        for name, more in other.floors.items():
            own = self.floor(name)
            changes = {**own.changes, **more.changes}
            floors[name] = Floor(max(own.max_abs, more.max_abs), max(own.rel_l2, more.rel_l2), changes)
        return replace(self, floors=floors)

    def without(self, kind: str) -> Noise:
        """This noise as it is without a kind of change."""
        kept = {n: {k: c for k, c in f.changes.items() if k != kind} for n, f in self.floors.items()}
        return replace(self, floors={n: replace(_floor(c), changes=c) for n, c in kept.items()})

    def beside(self, source: Noise, names: Mapping[str, str]) -> Noise:
        """This noise, a converted model's, judged by its source's; names: its outputs → the source's.

        A batch that moves it no further than the tolerance which the source's own noise gives is none of its facts:
        another runtime sums batches in another order, and a deep network makes of that what it makes of any rounding.
        """
        moved = [(f.changes.get("batch", (0.0, 0.0)), source.floor(names.get(o, o))) for o, f in self.floors.items()]
        within = all(a <= SAFETY * s.max_abs or r <= SAFETY * s.rel_l2 for (a, r), s in moved)
        return replace(self, batch_dependence=None) if within else self

    def tie(self, output: str) -> float:
        """Within which difference two scores of an output count as equal: what noise may do to them, with safety."""
        return SAFETY * self.floor(output).max_abs


def one_ulp(feeds: Mapping[str, Array], seed: int, eps: float = EPS) -> dict[str, Array]:
    """Feeds whose float elements are multiplied by 1 + eps or 1 − eps at random; other dtypes stay as they are.

    eps is that of the arithmetic inside the model: a float16 model would round a smaller change away at its door.
    """
    rng = np.random.default_rng(seed)
    moved = {}
    for name, value in feeds.items():
        moved[name] = nudged(value, eps, rng)
    return moved


def nudged(value: Array, eps: float, rng: np.random.Generator) -> Array:
    """Floats x as x · (1 ± eps), signs at random, eps that of their dtype at least; other dtypes as they are."""
    if value.dtype.kind != "f":
        return value
    sign = rng.integers(0, 2, value.shape, dtype=np.int8) * 2.0 - 1.0
    step = max(eps, float(np.finfo(value.dtype).eps))
    return np.asarray(value * (1.0 + step * sign), value.dtype)


Outputs = Mapping[str, Array]


def measure(base: Outputs, changed: Mapping[str, Outputs], eps: float = EPS) -> Noise:
    """The noise of a model from its outputs on some samples (`base`) and on the same under changes, by kind of change.

    A change, other than "batch", may have been made to the first few samples only. One whose output has another shape
    counts as a difference of everything.
    """
    table = {
        name: {k: _difference(value if k == "batch" else value[: len(c[name])], c[name]) for k, c in changed.items()}
        for name, value in base.items()
    }
    varies = _beyond("repeat", table, base, {name: Floor() for name in table}, eps)
    trusted = {name: _floor({k: v for k, v in changes.items() if k != "batch"}) for name, changes in table.items()}
    depends = _beyond("batch", table, base, trusted, eps)
    if varies is not None:  # then no change tells what noise is
        return Noise({name: Floor(changes=changes) for name, changes in table.items()}, depends, varies)
    noise = trusted if depends is not None else {name: _floor(changes) for name, changes in table.items()}
    return Noise({name: Floor(f.max_abs, f.rel_l2, table[name]) for name, f in noise.items()}, depends)


Table = Mapping[str, Mapping[str, tuple[float, float]]]


def _beyond(kind: str, table: Table, base: Outputs, floors: Mapping[str, Floor], eps: float) -> float | None:
    """The largest relative difference of a kind of change that is beyond the tolerance which some floors give."""
    found: list[float] = []
    for name, changes in table.items():
        absolute, relative = changes.get(kind, (0.0, 0.0))
        limit = tolerance(floors[name], base[name].dtype, _scale(base[name]), eps)
        if absolute > (limit.max_abs or 0.0) and relative > (limit.rel_l2 or 0.0):
            found.append(relative)
    return max(found, default=None)


def _difference(base: Array, changed: Array) -> tuple[float, float]:
    if base.shape != changed.shape:
        return float("inf"), float("inf")
    e = errors(base, changed)
    if e.nonfinite_differs:
        return float("inf"), float("inf")
    return e.max_abs, e.rel_l2 or 0.0


def _floor(changes: Mapping[str, tuple[float, float]]) -> Floor:
    return Floor(max((a for a, _ in changes.values()), default=0.0), max((r for _, r in changes.values()), default=0.0))


def _scale(value: Array) -> float:
    if value.dtype.kind in "OSU" or not value.size:
        return 0.0
    numbers = np.abs(np.asarray(value, np.float64))
    return float(numbers[np.isfinite(numbers)].max(initial=0.0))


def softmax_gain(output: Array) -> float:
    """How much larger an error is relative to probabilities than to the scores z that a softmax made them of.

    dp = p · (dz − Σ p dz), so an error of k · eps · max|z| in the scores is one of k · eps · max|z| · p in p. Scores
    are known up to a constant, z = log p; so max|z| is the largest distance of log p from its mean over a row. 1 for
    outputs that are no probabilities, whose rows (last axis) do not sum to 1; never below 1.
    """
    if output.dtype.kind != "f" or output.ndim < 2 or output.shape[-1] < 2:
        return 1.0
    rows = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
    if not (rows >= 0).all() or not np.allclose(rows.sum(1), 1.0, atol=1e-3):
        return 1.0
    scores = np.log(np.maximum(rows, np.finfo(np.float32).tiny))
    return max(1.0, float(np.abs(scores - scores.mean(1, keepdims=True)).max()))


def tolerance(
    floor: Floor, dtype: np.dtype[Any], scale: float, eps: float = EPS, step: float = 0.0, rms: float = 0.0,
    gain: float = 1.0,
) -> Tolerance:
    """The tolerance of an output of some dtype whose largest absolute value is `scale`.

    eps: that of the model's arithmetic. step: what one code is worth, 0 for outputs that hold no codes. rms: root mean
    square of the output, which turns a step into a relative L2. gain: `softmax_gain` of the output.
    """
    kind, bits = dtype.kind, dtype.itemsize * 8
    if kind in "iu":
        return Tolerance(max(SAFETY * floor.max_abs, 1.0) if bits <= 16 else 0.0)
    if kind not in "fcV":
        return Tolerance(0.0)
    own = 2.0**-7 if kind == "V" else float(np.finfo(dtype).eps)
    coarsest = max(eps, own, EPS)
    least = (128.0 if coarsest <= EPS else 8.0) * coarsest * gain
    safety = SAFETY_OF_CODES if step else SAFETY
    relative = one_code(step) / rms if step and rms else 0.0
    return Tolerance(
        max(safety * floor.max_abs, least * scale, one_code(step)), max(safety * floor.rel_l2, least, relative)
    )
