"""Layers and neighbourhoods from what the native runtimes computed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fetafix.exhibiting.native import tapped
from fetafix.formats.base import Tap, Taps
from fetafix.graph.traces import Traces
from fetafix.ir import Array
from fetafix.options import Options
from fetafix.report import ModelInfo, Report, Samples, Verdict
from fetafix.tapped import Looks, Tapped
from fetafix.timed import Timed

REPORT = Report(verdict=Verdict.DIVERGENT, reason="", seed=0, samples=Samples(),
                source=ModelInfo(path="a", format="onnx"), target=ModelInfo(path="b", format="torchscript"))


def trace(prefix: str, scale: float, forced: Array | None = None) -> Taps:
    """x → sin → scaled → cos → y, the second layer's result replaced where one is given."""
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    a = np.sin(3 * x)
    b = a * np.linspace(1, scale, 5, dtype=np.float32) if forced is None else forced
    y = np.cos(2 * b)
    names = [f"{prefix}{n}" for n in "abc"]
    layers = tuple(Tap(f"{prefix}.{op}", op, (i,), (o,))
                   for op, i, o in zip(("sin", "mul", "cos"), ("x", *names[:2]), names, strict=True))
    return Taps(layers, {"x": x, **dict(zip(names, (a, b, y), strict=True))})


@pytest.fixture
def seen() -> Tapped:
    """The target scales otherwise; with the source's value forced there, what follows agrees."""
    source, target = trace("s", 2.0), trace("t", -1.0)
    outputs = {"tc": "sc"}
    (place,) = Traces(source, target, outputs).introduced()
    assert (place.target, place.source) == ("tb", "sb")
    again = Traces(source, trace("t", -1.0, source.values["sb"]), outputs)
    return Tapped((), (), (place,), Looks(source, target, again))


def session(**options: Any) -> Any:
    return SimpleNamespace(options=Options(**options), timed=lambda what: Timed({}, what))


def test_layers_and_neighbourhoods(seen: Tapped) -> None:
    made = tapped(REPORT, session(exhibits=True), seen).exhibits
    assert made is not None
    assert [(r.target_layer, r.source_layer, r.op) for r in made.layers] == [
        ("t.sin", "s.sin", "sin"), ("t.mul", "s.mul", "mul"), ("t.cos", "s.cos", "cos")]
    assert [(r.guilty, r.findings) for r in made.layers] == [(False, []), (True, [0]), (False, [])]
    first, second, third = made.layers
    assert first.carried == first.introduced == 0 and second.carried == second.introduced > 0.1  # type: ignore[operator]
    assert third.carried > 0.1 and third.introduced == 0  # type: ignore[operator]
    (around,) = made.neighbourhoods
    for side, prefix in ((around.source, "s"), (around.target, "t")):
        assert side is not None and [n.layer for n in side.nodes] == [f"{prefix}.{op}" for op in ("sin", "mul", "cos")]
        assert [n.role for n in side.nodes] == ["near", "found", "near"]
        assert side.edges == [(-1, 0, "2×4×5"), (0, 1, "2×4×5"), (1, 2, "2×4×5"), (2, -1, "2×4×5")]


def test_nothing_unasked_and_nothing_that_was_not_seen(seen: Tapped) -> None:
    assert tapped(REPORT, session(), seen) is REPORT
    assert tapped(REPORT, session(exhibits=True), Tapped((), ())) is REPORT


def test_a_layer_of_another_size_has_no_figure(seen: Tapped) -> None:
    assert seen.looks is not None
    values = {**seen.looks.target.values, "tb": np.ones((3, 3), np.float32)}
    looks = Looks(seen.looks.source, Taps(seen.looks.target.layers, values), seen.looks.traces)
    made = tapped(REPORT, session(exhibits=True), Tapped((), (), seen.places, looks)).exhibits
    assert made is not None and [r.carried is None for r in made.layers] == [False, True, False]
