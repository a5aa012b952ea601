"""What rounding explains is what rounding does: healthy quantised networks, and what is more than rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fetafix.graph.align import Aligner
from fetafix.graph.rounding import allowance, excess, quantised, signatures, sound_step
from fetafix.ir import Graph
from fetafix.quantisation import Grid
from tests import quantised as made
from tests.faults.models import residual
from tests.faults.support import EVALUATOR

GRID = Grid(np.array(0.05, np.float32), np.array(-128, np.int8), None, np.dtype(np.int8))  # 0 … 12.75
CASES = [(n, k) for n in made.NETWORKS for k in made.KINDS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Aligner, Graph]]:
    network, kind = request.param
    source = made.NETWORKS[network]()
    with Aligner(source, made.feeds(source, 1), EVALUATOR) as aligner:
        yield aligner, made.quantised(source, kind)


def test_a_healthy_quantised_network_is_explained_tensor_by_tensor(pair: tuple[Aligner, Graph]) -> None:
    aligner, target = pair
    alignment = made.aligned(aligner, target)
    assert alignment.segments() == [] and alignment.unmatched == ()
    rows = alignment.rounded()
    activations = [n for n in target.nodes if n.op == "QuantizeLinear"]
    assert len(rows) >= len(activations)
    ratios = np.array([r.measured / r.explained for r in rows])
    assert 0.5 < np.median(ratios) < 1.3 and ratios.max() < 2.5


def test_the_quantised_network_as_source_blames_no_float_target(pair: tuple[Aligner, Graph]) -> None:
    forward, target = pair
    feeds = {n: forward.values[n] for n in forward.source.input_names}
    with Aligner(target, feeds, EVALUATOR) as aligner:
        assert made.aligned(aligner, forward.source).segments() == []


def test_equal_grids_explain_nothing(pair: tuple[Aligner, Graph]) -> None:
    forward, target = pair
    feeds = {n: forward.values[n] for n in forward.source.input_names}
    with Aligner(target, feeds, EVALUATOR) as aligner:
        alignment = made.aligned(aligner, target)
    assert alignment.segments() == [] and alignment.rounded() == ()


def test_float_graphs_have_no_slack() -> None:
    source = residual(seed=3)
    with Aligner(source, made.feeds(source, 1), EVALUATOR) as aligner:
        alignment = made.aligned(aligner, source)
    assert not quantised(source) and signatures(source) == frozenset()
    assert alignment.rounded() == ()


def test_saturation_is_explained_only_here_and_there() -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal((4, 1000))).astype(np.float32)
    rare = x.copy()
    rare[0, :3] = 20.0
    assert excess(GRID, x) is None
    off = excess(GRID, rare)
    assert off is not None and np.count_nonzero(off) == 3
    assert excess(GRID, 10 * x) is None  # many values
    far = x.copy()
    far[0, 0] = 60.0
    assert excess(GRID, far) is None  # far beyond the range
    relu = rare - 1.0
    off = excess(GRID, relu)  # what saturation cuts off below zero is a Relu
    assert off is not None and np.count_nonzero(off) == 3


def test_a_step_is_sound_within_bounds() -> None:
    x = np.linspace(0, 12.75, 100, dtype=np.float32)
    assert float(sound_step(GRID, x, 1)) == pytest.approx(0.05)
    assert float(sound_step(GRID, 4 * x, 1)) == pytest.approx(0.2)
    assert float(sound_step(GRID, x / 1000, 1)) == pytest.approx(5 * 0.00005)


def test_an_allowance_is_bounded() -> None:
    assert allowance(0.0) == 0.0
    assert allowance(0.01) == pytest.approx(0.03)
    assert allowance(0.03, 0.04) == pytest.approx(0.15)
    assert allowance(10.0) == 0.5
