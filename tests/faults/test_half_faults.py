"""Faults of float16 in whole graphs: overflow and vanished constants are named at their node; rounding is no fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from fetafix.edits import apply
from fetafix.faults import catalogue, get
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.halves import HALF, halves
from fetafix.graph.segment import Layout, Segment
from fetafix.heal import diagnose
from fetafix.ir import Array, Graph, Node
from tests.faults.models import gated, renamed, residual
from tests.faults.sites import EVALUATOR, best_trial, broken, claims, images, interface, run
from tests.faults.support import Builder, with_shapes

FAULTS = list(catalogue().values())


def normed(seed: int = 0, epsilon: float = 1e-8) -> Graph:
    """Maps normalised by hand, as exporters spell it, with a large rescaling on the way."""
    b = Builder(seed)
    x = b.op("Conv", b.input((3, 3, 12, 12), "image"), b.weight(6, 3, 3, 3), b.normal(6), kernel_shape=(3, 3))
    for _ in range(2):
        off = b.op("Sub", x, b.op("ReduceMean", x, axes=(2, 3)))
        variance = b.op("ReduceMean", b.op("Mul", off, off), axes=(2, 3))
        spread = b.op("Sqrt", b.op("Add", variance, np.array(epsilon, np.float32)))
        x = b.op("Conv", b.op("Div", off, spread), b.weight(6, 6, 3, 3), b.normal(6), kernel_shape=(3, 3))
    x = b.op("Tanh", b.op("Div", b.op("Mul", x, np.array(3e5, np.float32)), np.array(2e5, np.float32)))
    x = b.op("Relu", b.op("Mul", x, np.array(4.0, np.float32)))
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    graph = b.build(b.op("Gemm", x, b.weight(5, 6), b.normal(5), transB=1))
    return replace(graph, inputs=tuple(replace(v, shape=("N", *(v.shape or ())[1:])) for v in graph.inputs))


def feeds() -> dict[str, Array]:
    """Three images, the last of one colour: nothing varies in it."""
    x = images((3, 3, 12, 12), 1)
    x[2] = 0.5
    return {"image": x}


def halved(graph: Graph) -> Graph:
    """The whole graph in float16, with Casts at its ends."""
    half = {k: _narrow(v) for k, v in graph.initializers.items()}
    nodes = [Node("Cast", (v.name,), (f"{v.name}_h",), {"to": 10}, f"in_{v.name}") for v in graph.inputs]
    for node in graph.nodes:
        reads = tuple(f"{t}_h" if t and t not in half else t for t in node.inputs)
        nodes.append(replace(node, inputs=reads, outputs=tuple(f"{o}_h" for o in node.outputs)))
    nodes += [Node("Cast", (f"{o}_h",), (o,), {"to": 1}, f"out_{o}") for o in graph.output_names]
    return Graph(tuple(nodes), half, graph.inputs, graph.outputs, graph.opset)


def island(graph: Graph, key: str) -> Graph:
    """One node in float16, Casts around it."""
    node = graph.producers[key]
    tensors = {f"{t}_h": _narrow(graph.initializers[t]) for t in node.inputs if t in graph.initializers}
    live = [t for t in dict.fromkeys(node.inputs) if t and t not in graph.initializers]
    before = [Node("Cast", (t,), (f"{t}_h",), {"to": 10}, f"narrow_{t}") for t in live]
    inner = replace(node, inputs=tuple(t and f"{t}_h" for t in node.inputs), outputs=(f"{key}_h",))
    nodes = [[*before, inner, Node("Cast", (f"{key}_h",), (key,), {"to": 1}, f"wide_{key}")] if n is node else [n]
             for n in graph.nodes]
    flat = tuple(n for group in nodes for n in group)
    return replace(graph, nodes=flat, initializers={**graph.initializers, **tensors})


def _narrow(value: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return value.astype(np.float16) if value.dtype == np.float32 else value


MODELS: dict[str, Callable[..., Graph]] = {"normed": normed, "residual": residual, "gated": gated}


@cache
def aligner(name: str) -> Aligner:
    return Aligner(MODELS[name](), feeds(), EVALUATOR)


def segments(name: str, target: Graph) -> list[Segment]:
    source = aligner(name).source
    twin = InputTwin(target.input_names[0], source.input_names[0], Layout())
    outputs = dict(zip(target.output_names, source.output_names, strict=True))
    return aligner(name).align(target, (twin,), outputs).segments()


def heal(name: str, target: Graph) -> tuple[list[tuple[str, str]], Graph]:
    """Diagnose and mend until nothing is guilty: (code, target's node) of every remedy, and the mended graph."""
    named = []
    for _ in range(4):
        guilty = segments(name, target)
        if not guilty:
            return named, target
        diagnosis = diagnose(guilty[0], FAULTS)
        assert diagnosis.remedy is not None and diagnosis.remedy.healed, [
            (s.code, s.target, s.confidence) for s in diagnosis.suspicions]
        named.append((diagnosis.remedy.code, str(diagnosis.remedy.steps[0][0].target)))
        target = apply(target, diagnosis.remedy.edits)
    raise AssertionError(f"not healed after {named}")


def agree(name: str, target: Graph, tolerance: float = 2e-2) -> None:
    ours = run(target, {target.input_names[0]: feeds()["image"]})
    theirs = run(MODELS[name](), feeds())
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(np.abs(b).max()))


@pytest.mark.parametrize("name", ["residual", "gated"])
def test_a_healthy_float16_conversion_has_no_findings(name: str) -> None:
    target = renamed(halved(MODELS[name]()))
    assert segments(name, target) == []
    agree(name, target)


@pytest.mark.parametrize("name", ["residual", "gated"])
def test_healthy_islands_of_float16_have_no_findings(name: str) -> None:
    for node in MODELS[name]().nodes:
        assert segments(name, renamed(island(MODELS[name](), node.key))) == [], node


def test_an_epsilon_that_survives_float16_is_no_fault() -> None:
    graph = normed(epsilon=1e-4)
    source = Aligner(graph, feeds(), EVALUATOR)
    eps = next(n for n in graph.nodes if n.op == "Add")
    target = renamed(island(graph, eps.key))
    twin = InputTwin("v_image", "image", Layout())
    assert source.align(target, (twin,), {target.output_names[0]: graph.output_names[0]}).segments() == []


@pytest.mark.parametrize(("name", "least"), [("residual", 3), ("gated", 0)])
def test_overflow_is_named_at_its_node_and_healed(name: str, least: int) -> None:
    graph, overflowed = renamed(aligner(name).source), 0
    for seed in range(6):
        made = broken(get("dt-fp16-overflow"), graph, seed)
        assert made is not None
        target = with_shapes(made[0], {made[0].input_names[0]: feeds()["image"]})
        if not segments(name, target):
            agree(name, target)  # nothing there exceeds 2
            continue
        overflowed += 1
        named, mended = heal(name, target)
        fresh = {n.key for n in made[0].nodes} - {n.key for n in graph.nodes}
        assert [c for c, _ in named] == ["dt-fp16-overflow"]
        assert named[0][1] in fresh | {made[1][1].consumers[0][0]}  # type: ignore[union-attr,index]
        agree(name, mended, 1e-3)
        assert segments(name, mended) == []
    assert overflowed >= least


@pytest.mark.parametrize("seed", range(3))
def test_a_vanished_epsilon_is_named_at_its_node_and_healed(seed: int) -> None:
    graph = renamed(aligner("normed").source)
    made = broken(get("dt-eps-underflow"), graph, seed)
    assert made is not None
    site = made[1][1].node  # type: ignore[union-attr]
    named, mended = heal("normed", made[0])
    assert named == [("dt-eps-underflow", site)]
    agree("normed", mended, 2e-2)


def test_a_constant_beyond_float16_is_named_and_its_node_computed_in_float32() -> None:
    graph = normed()
    key = next(n.key for n in graph.nodes if n.op == "Mul" and n.inputs[1] in graph.initializers)
    target = renamed(island(graph, key))
    named, mended = heal("normed", target)
    assert {c for c, _ in named} == {"dt-fp16-overflow"} and named[0][1] == f"v_{key}_h"
    agree("normed", mended, 1e-3)


def test_overflow_in_a_whole_float16_graph() -> None:
    """The operators about the node keep float16; nothing else of the graph is blamed for rounding."""
    graph = normed()
    key = next(n.key for n in graph.nodes if n.op == "Mul" and n.inputs[1] in graph.initializers)
    named, mended = heal("normed", renamed(halved(graph)))
    assert named == [("dt-fp16-overflow", f"v_{key}_h")]
    assert segments("normed", mended) == []
    assert f"v_{key}_h" not in halves(mended) and len(halves(mended)) > 30


def test_infinities_are_charged_to_the_node_that_makes_them() -> None:
    """Float32 as well: the node that divides by zero is guilty, what is infinite behind it is not."""
    graph = aligner("normed").source
    div = next(n for n in graph.nodes if n.op == "Add")
    zeroed = {**graph.initializers, div.inputs[1]: np.array(0, np.float32)}
    target = renamed(replace(graph, initializers=zeroed))
    guilty = segments("normed", target)
    (goal,) = (g.goal.target for g in guilty)
    assert goal in {f"v_{k}" for k in (div.key, *(_reader(graph, div.key, op) for op in ("Sqrt", "Div")))}


def _reader(graph: Graph, key: str, op: str) -> str:
    stack = [key]
    while stack:
        for node, _ in graph.consumers.get(stack.pop(), ()):
            if node.op == op:
                return node.key
            stack.append(node.key)
    raise AssertionError


@pytest.mark.parametrize("make", [lambda: halved(residual()), lambda: island(residual(), "t1")])
def test_the_types_of_tensors_are_known(make: Callable[[], Graph]) -> None:
    graph = make()
    made: Sequence[str] = [o for n in graph.nodes for o in n.outputs]
    x: dict[str, Any] = {"image": feeds()["image"]}
    values = dict(zip(made, EVALUATOR.run(graph, x, made), strict=True))
    own = {t for t in halves(graph) if t in values}
    assert own == {t for t, v in values.items() if v.dtype == HALF}


def test_overflow_is_seen_in_the_target_as_a_whole() -> None:
    """Behind its infinities no tensor is the source's; rounding to float16 alone says nothing there."""
    graph, fault, seen = residual(), get("dt-fp16-overflow"), 0
    for seed in range(6):
        made = broken(fault, renamed(graph), seed)
        assert made is not None
        site = interface(graph, made[0], feeds(), tolerance=1e-2)
        found = claims(site, [fault])
        assert len(found) == (0 if site.healed(site.error) else 1)
        for _, suspicion in found:
            assert site.healed(best_trial(site, fault, suspicion)[0])
            seen += 1
    assert seen >= 3
    key = next(n.key for n in graph.nodes if n.op == "Relu")
    assert claims(interface(graph, renamed(island(graph, key)), feeds(), tolerance=1e-9), [fault]) == []
