"""Whatever a model puts out, the choice of comparators stands, and a model agrees with itself."""

from __future__ import annotations

import warnings

import ml_dtypes
import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.judge.binding import Binding
from fetafix.judge.comparison import agreement, compare
from fetafix.judge.noise import Noise
from fetafix.judge.tasks.base import View
from fetafix.judge.tasks.choice import choose
from fetafix.report import Agreement

NAMES = ["y", "logits", "scores", "boxes", "mask", "embedding", "tokens", "pose", "num_detections", "classes", "hidden"]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8, np.bool_, np.complex64,
          np.str_]
SHAPES = [(), (1,), (2,), (4,), (6, 4), (6, 3), (6,), (0,), (0, 4), (3, 8, 8), (8, 8, 3), (1, 8, 8), (8, 8), (9, 9, 9),
          (16, 16), (5, 30), (16, 1, 1), (2, 3, 4, 5), (12,)]


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Up to four outputs of any names, shapes, dtypes and values, samples along axis 0."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    samples, rng = draw(st.sampled_from([1, 2, 5])), np.random.default_rng(draw(st.integers(0, 99)))
    made = {}
    for name in names:
        shape, dtype = (samples, *draw(st.sampled_from(SHAPES))), draw(st.sampled_from(DTYPES))
        values = rng.normal(size=shape) * draw(st.sampled_from([0.0, 0.1, 3.0, 1e30]))
        if draw(st.booleans()):
            values = np.abs(values) / np.maximum(np.abs(values).sum(-1, keepdims=True), 1e-300)
        if draw(st.integers(0, 5)) == 0 and values.size:
            values.reshape(-1)[0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made[name] = values.astype(dtype)
    return made


@given(outputs())
@settings(max_examples=60)
def test_nothing_is_refused_and_everything_agrees_with_itself(values: dict[str, np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views = [View(n, v, len(values) == 1) for n, v in values.items()]
        tasks = choose(views, (), {})
        judged = [o for t in tasks for o in t.outputs]
        assert len(judged) == len(set(judged)) and set(judged) <= set(values)
        bound = [Binding(n, n, "by name") for n in values]
        total = compare(bound, tasks, values, values, Noise())
        told = agreement(total, bound, tasks, {}, Noise(), weighing=tasks)
    for task in told.tasks:
        assert task.share == 1.0 or not all(np.isfinite(values[o].astype(np.float64)).all() for o in task.outputs), task


@given(outputs(), st.integers(0, 2), st.sampled_from([None, np.nan, np.inf]))
@settings(max_examples=60)
def test_whatever_the_target_says_is_reported(values: dict[str, np.ndarray], turn: int, odd: float | None) -> None:
    """Its answers are turned along an axis, and spoilt; the report is written and read back."""
    target = {n: np.flip(v, min(turn, v.ndim - 1)).copy() for n, v in values.items()}
    for v in target.values():
        if odd is not None and v.dtype.kind == "f" and v.size:
            v.reshape(-1)[-1] = odd
    tasks = choose([View(n, v, len(values) == 1) for n, v in values.items()], (), {})
    bound = [Binding(n, n, "by name") for n in values]
    with np.errstate(all="ignore"):
        total = compare(bound, tasks, values, target, Noise()) + compare(bound, tasks, values, values, Noise())
        told = agreement(total, bound, tasks, {}, Noise(), weighing=tasks)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Agreement) == told
    for task in told.tasks:
        assert task.samples == 2 * len(next(iter(values.values()))) and task.agreeing <= task.samples
        assert len(task.mismatches) == min(20, task.samples - task.agreeing) and 0.0 <= (task.likeness or 0.0) <= 1.0001
