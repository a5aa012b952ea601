"""Inputs exchanged, and inputs cast to integers: named and put right, alone and beside another fault; or a NO-OP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import Rewire, SetInput, apply
from fetafix.faults import catalogue, get
from fetafix.ir import Array, Graph, Value
from tests.faults.models import renamed, residual
from tests.faults.sites import best_trial, broken, claims, cnn, feeds_of, interface
from tests.faults.support import Builder, with_shapes
from tests.faults.whole import heals, treated

FAULTS = [f for f in catalogue().values() if f.scope in ("interface", "both")]


def pair(symmetric: bool = False) -> Graph:
    """Two images of one shape, each through a convolution of its own (or both through one), then a classifier."""
    b = Builder(4)
    left, right = b.input((2, 3, 10, 10), "left"), b.input((2, 3, 10, 10), "right")
    weight, bias = b.weight(5, 3, 3, 3), b.normal(5)
    x = b.op("Conv", left, weight, bias, kernel_shape=(3, 3))
    y = b.op("Conv", right, weight if symmetric else b.weight(5, 3, 3, 3), bias, kernel_shape=(3, 3))
    x = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", b.op("Add", x, y))), axis=1)
    graph = b.build(b.op("Gemm", x, b.weight(6, 5), b.normal(6), transB=1))
    return with_shapes(replace(graph, inputs=tuple(replace(v, shape=("N", 3, 10, 10)) for v in graph.inputs)),
                       feeds_of(graph))


def embedded() -> Graph:
    """Words, token types and positions, all of one shape and type, each with its table."""
    b = Builder(5)
    for name in ("ids", "types", "places"):
        b.inputs.append(Value(name, np.dtype(np.int64), (2, 6)))
    parts = [b.op("Gather", b.weight(12, 8), name) for name in ("ids", "types", "places")]
    x = b.op("ReduceMean", b.op("Relu", b.op("Add", b.op("Add", *parts[:2]), parts[2])), axes=(1,), keepdims=0)
    graph = b.build(b.op("Gemm", x, b.weight(5, 8), b.normal(5), transB=1))
    return replace(graph, inputs=tuple(replace(v, shape=("N", 6)) for v in graph.inputs))


def numbers(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {n: rng.integers(0, top, (3, 6)) for n, top in (("ids", 12), ("types", 2), ("places", 6))}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("words", [False, True], ids=["images", "words"])
def test_exchanged_inputs_are_told_and_put_right(words: bool, seed: int) -> None:
    source = embedded() if words else pair()
    feeds = numbers() if words else feeds_of(source)
    made = broken(get("id-input-order"), renamed(source), seed)
    assert made is not None
    site = interface(source, made[0], feeds)
    found = claims(site, FAULTS)
    assert [f.code for f, _ in found] == ["id-input-order"]
    error, edits = best_trial(site, *found[0])
    assert site.healed(error) and {type(e) for e in edits} == {Rewire}
    healed = interface(source, apply(made[0], edits), numbers(3) if words else feeds_of(source, 3))
    assert healed.error <= 1e-5 and claims(healed, FAULTS) == []


@pytest.mark.parametrize("words", [False, True], ids=["images", "words"])
def test_another_fault_does_not_hide_it(words: bool) -> None:
    source = embedded() if words else pair()
    made = broken(get("id-input-order"), renamed(source), 0)
    assert made is not None
    gemm = next(n for n in made[0].nodes if n.op == "Gemm")
    bias = made[0].initializers[gemm.inputs[2]]
    target = apply(made[0], [SetInput(gemm.key, 2, np.zeros_like(bias))])
    site = interface(source, target, numbers() if words else feeds_of(source))
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "id-input-order" and suspicion.data.after == 0.0
    edits = best_trial(site, fault, suspicion)[1]
    assert not site.healed(site.trial(edits)) and site.healed(site.trial([*edits, SetInput(gemm.key, 2, bias)]))


def test_inputs_that_do_the_same_may_be_exchanged() -> None:
    source = pair(symmetric=True)
    made = broken(get("id-input-order"), renamed(source), 0)
    assert made is not None
    feeds = feeds_of(source)
    assert claims(interface(source, made[0], feeds), FAULTS) == []
    treatment = treated(source, made[0], feeds)
    assert treatment.steps == () and treatment.target is made[0]


def test_silent_on_healthy_pairs_of_inputs() -> None:
    for source, feeds in ((pair(), feeds_of(pair())), (embedded(), numbers())):
        assert claims(interface(source, renamed(source), feeds), FAULTS) == []


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("seed", range(3))
def test_a_cast_to_integers_is_taken_out(nhwc: bool, seed: int) -> None:
    graph = cnn(nhwc=nhwc)
    source = with_shapes(graph, feeds_of(graph))
    made = broken(get("id-wrapper-dtype"), renamed(source), seed)
    assert made is not None
    treatment = heals(source, made[0], feeds_of(source), "id-wrapper-dtype", feeds_of(source, 6))
    assert len(treatment.target.nodes) == len(source.nodes)


def test_whole_numbers_in_range_lose_nothing() -> None:
    graph = residual()
    source = with_shapes(graph, feeds_of(graph))
    feeds = {k: np.round(v * 255).astype(np.float32) for k, v in feeds_of(source).items()}
    for seed in range(8):
        made = broken(get("id-wrapper-dtype"), renamed(source), seed)
        assert made is not None
        if made[1][0].node.attrs["to"] == 3:  # int8 ends at 127
            continue
        treatment = treated(source, made[0], feeds)
        assert treatment.steps == () and treatment.target is made[0]
        assert claims(interface(source, made[0], feeds), FAULTS) == []
