"""Networks of which only the shapes are at hand: Gaussian weights, and the errors of single flips in closed form.

Weights of a tensor have the spread √(2 / fan-in) with which He et al. (2015) start training. Of large tensors the first
output channels are drawn, and one value is what the largest of all would be, so that constants and bounds are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from fetafix.bench.storage.settings import Settings, split
from fetafix.errors import UsageError
from fetafix.ir import Array
from fetafix.storage import agreement, sweep
from fetafix.storage.left_over import check_bits, left_rate, rate_leaving
from fetafix.storage.prediction import Prediction, predict
from fetafix.storage.schemes import Plan
from fetafix.stress.options import storing

_DRAWN, _SAMPLE = 150_000, 10_000
Shape = tuple[int, ...]


def shapes(name: str, settings: Settings) -> list[Shape]:
    """Shapes of an architecture's weights. Raises UsageError where neither torchvision nor the configuration has it."""
    if name in settings.shapes:
        return [tuple(s) for s in settings.shapes[name]]
    try:
        from fetafix.formats.torch import env as torch_env

        torch_env.prepare()
        import torch
        from torchvision import models

        with torch.device("meta"):
            network = getattr(models, name)()
    except (ImportError, AttributeError, RuntimeError) as error:
        raise UsageError(f"{name}: torchvision has no definition of it here ({error}); list its weights' shapes under "
                         "`shapes` in the configuration") from error
    return [tuple(p.shape) for p in network.parameters() if p.ndim > 1]


def weights(shape: Shape, seed: Sequence[int]) -> Array:
    """Gaussian weights of a tensor, float32, cut to the first output channels where it is large."""
    fan_in = math.prod(shape[1:])
    rows = max(1, min(shape[0], _DRAWN // fan_in))
    spread = math.sqrt(2.0 / fan_in)
    drawn = np.random.default_rng(list(seed)).standard_normal((rows, *shape[1:]), np.float32) * np.float32(spread)
    if rows < shape[0]:
        drawn.reshape(-1)[0] = spread * NormalDist().inv_cdf(1.0 - 0.5 / math.prod(shape))
    return drawn


def figures(tensors: Sequence[Shape], text: str, rates: Sequence[float], seed: int) -> dict[str, float]:
    """Figures of an architecture under a storage, by name: see the table. Errors are relative to the weights' RMS."""
    stored, squares, clean, rounding = _predicted(tensors, text, seed)
    wanted = agreement.expected(stored)
    data = sum(size * len(p.bits) for p, size in stored)
    checks = storing(*split(text)[:2]).checks
    bits = data + (check_bits(data, checks) if checks else 0)
    half = math.log(2.0) / wanted.wrecked if wanted.wrecked else math.inf
    found = {"weights": float(wanted.size), "bits": float(bits), "rounding": math.sqrt(rounding / squares),
             "rounded_to_0": clean, "half_wrecked": rate_leaving(half, checks) if checks else half,
             "half_untouched": sweep.rate_untouched(bits, 0.5)}
    if plan_of(text).encoding.floating:
        top = sweep.rate_untouched(wanted.size, 0.5)
        found["half_top"] = rate_leaving(top, checks) if checks else top
    for ber in rates:
        rate = left_rate(ber, checks) if checks else ber
        found[f"whole@{ber:g}"] = wanted.whole(rate)
        found[f"rms@{ber:g}"] = wanted.rms(rate) / math.sqrt(squares / wanted.size)
    return {k: v for k, v in found.items() if math.isfinite(v)}


def plan_of(text: str) -> Plan:
    """The plan of a storage, its channels along the first axis where it has some."""
    dtype, scheme, granularity = split(text)
    found = storing(dtype, scheme).plan
    if found is None:
        raise UsageError(f"{text!r}: an architecture without weights has no bytes to keep")
    return Plan(found.encoding, found.scheme, 0 if granularity == "channel" else None)


def _predicted(
    tensors: Sequence[Shape], text: str, seed: int
) -> tuple[list[tuple[Prediction, int]], float, float, float]:
    """Predictions with sizes; Σ weight²; the share that rounds to 0; Σ rounding error²."""
    found: list[tuple[Prediction, int]] = []
    squares = zeros = rounding = 0.0
    for i, (shape, drawn) in enumerate(_drawn(tensors, seed)):
        size = math.prod(shape)
        prediction = predict(drawn, plan_of(text), _SAMPLE, seed + i)
        found.append((prediction, size))
        squares += size * float(np.mean(np.square(drawn, dtype=np.float64)))
        rounding += size * prediction.rounding**2
        zeros += size * _to_zero(drawn, text)
    return found, squares, zeros / sum(s for _, s in found), rounding


def _to_zero(drawn: Array, text: str) -> float:
    """The share of weights that are stored as 0."""
    from fetafix.storage.schemes import load, store

    return float(np.mean(load(store(drawn, plan_of(text))) == 0))


def _drawn(tensors: Sequence[Shape], seed: int) -> Iterator[tuple[Shape, Array]]:
    for i, shape in enumerate(tensors):
        yield shape, weights(shape, (seed, i))
