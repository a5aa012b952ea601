"""1001 classes for 1000, and the other way round: the background is taken away, or put back; alone or beside others."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.edits import Edit, SetInput, apply
from fetafix.faults import catalogue, get
from fetafix.graph.classes import last
from fetafix.ir import Graph
from tests.faults.models import renamed, residual, residual_nhwc
from tests.faults.sites import best_trial, claims, feeds_of, interface
from tests.faults.support import with_shapes

FAULTS = [f for f in catalogue().values() if f.scope in ("interface", "both")]


def shaped(end: str, nhwc: bool = False) -> Graph:
    graph = residual_nhwc() if nhwc else residual(end=end)
    return with_shapes(graph, feeds_of(graph))


def counted(graph: Graph, more: int) -> Graph:
    """The graph with a class more in front (1), behind (2), or without its first (-1)."""
    layer = last(graph, graph.output_names[0])
    assert layer is not None and layer.bias is not None
    row, one = np.full((1, layer.weight.shape[1]), 0.3, np.float32), np.ones(1, np.float32)
    parts = {1: ([row, layer.weight], [one, layer.bias]), 2: ([layer.weight, row], [layer.bias, one]),
             -1: ([layer.weight[1:]], [layer.bias[1:]])}[more]
    edits: list[Edit] = layer.holding(np.concatenate(parts[0]), np.concatenate(parts[1]))
    changed = apply(graph, edits)
    return with_shapes(changed, {changed.input_names[0]: feeds_of(graph)[graph.input_names[0]]})


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("end", ["", "Softmax"])
@pytest.mark.parametrize("more", [1, 2, -1])
def test_another_number_of_classes(more: int, end: str, nhwc: bool) -> None:
    if nhwc and not end:
        return
    source, target = shaped(end), renamed(counted(shaped(end, nhwc), more))
    site = interface(source, target, feeds_of(source))
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "op-class-offset" and suspicion.evidence["offset"] == (0 if more == 2 else 1)
    assert target.node(str(suspicion.target)).op == "Gemm"
    error, edits = best_trial(site, fault, suspicion)
    assert error <= 1e-5 and {type(e) for e in edits} == {SetInput}
    healed = interface(source, apply(target, edits), feeds_of(source, 4))
    assert healed.error <= 1e-5 and claims(healed, FAULTS) == []


def test_beside_another_fault() -> None:
    source = shaped("Softmax")
    target = renamed(counted(shaped("Softmax"), 1))
    conv = next(n for n in target.nodes if n.op == "Conv")
    target = apply(target, [SetInput(conv.key, 2, None)])
    ((fault, suspicion),) = [c for c in claims(interface(source, target, feeds_of(source)), FAULTS)
                             if c[0].category == "OP"]
    assert fault.code == "op-class-offset" and suspicion.data.after == 0.0


def test_a_class_more_can_be_injected() -> None:
    graph, counts = shaped("Softmax"), set()
    for seed in range(12):
        edits = get("op-class-offset").inject(graph, np.random.default_rng(seed))
        assert edits is not None
        layer = last(apply(graph, edits), graph.output_names[0])
        counts.add(0 if layer is None else len(layer.weight))
    assert {10, 11} <= counts


def test_other_numbers_of_classes_are_no_shift() -> None:
    source = shaped("")
    target = renamed(counted(counted(counted(source, 1), 1), 1))
    assert [f.code for f, _ in claims(interface(source, target, feeds_of(source)), FAULTS) if f.category == "OP"] == []
