"""Faults of quantised models, injected into healthy ones: named at their layer, healed in codes, silent afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import Edit, apply
from fetafix.faults import catalogue
from fetafix.graph.activations import place_of
from fetafix.graph.align import Aligner, Alignment
from fetafix.graph.rounding import unquantised
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph
from fetafix.treat import Treatment, treat
from tests import quantised as made
from tests.faults.support import EVALUATOR

FAULTS = list(catalogue().values())
KIND = "int8 per channel"
FOUND = {  # code: seeds that make a fault which rounding does not explain
    "qp-scale-axis": range(6), "qp-granularity": range(6), "qp-zero-point": (1, 2, 3, 4), "qp-range": range(6),
    "id-int8-range": range(2), "wb-kernel-flip": range(2), "wb-bias": range(2), "wb-kernel-layout": range(2),
    "lh-dilation": range(1), "cg-residual": range(1),
}
SAME = {"qp-implicit-dequant": range(4), "qp-zero-point": (1, 2, 3, 4), "qp-range": range(6),
        "qp-scale-axis": range(4), "qp-granularity": range(3), "id-int8-range": range(2)}


class Case:
    """A source and its quantised target on the same samples."""

    def __init__(self, source: Graph, target: Graph, feeds: dict[str, Array]) -> None:
        self.aligner, self.target, self.feeds = Aligner(source, feeds, EVALUATOR), target, feeds
        self.base = self.align(target).target

    def align(self, graph: Graph) -> Alignment:
        return made.aligned(self.aligner, graph)

    def treat(self, graph: Graph) -> Treatment:
        return treat(self.align, graph, FAULTS)

    def answer(self, graph: Graph) -> Array:
        return EVALUATOR.run(graph, self.feeds, graph.output_names)[0]

    def broken(self, code: str, seed: int) -> tuple[Graph, Sequence[Edit]]:
        edits = catalogue()[code].inject(self.base, np.random.default_rng(seed))
        assert edits, code
        return apply(self.base, edits), edits


@pytest.fixture(scope="module")
def floats() -> Iterator[Case]:
    source = made.NETWORKS["residual"]()
    yield Case(source, made.quantised(source, KIND), made.feeds(source, 1))


@pytest.fixture(scope="module")
def codes() -> Iterator[Case]:
    source = made.quantised(made.NETWORKS["residual"](), KIND)
    yield Case(source, source, made.feeds(source, 1))


def named(treatment: Treatment) -> list[str]:
    return [s.remedy.code if s.remedy else "" for s in treatment.steps]


def near(graph: Graph, key: str, edits: Sequence[Edit]) -> bool:
    """Whether a finding's node is one that was edited, or its reader, or what writes the codes that it reads."""
    edited = {e.node for e in edits if hasattr(e, "node")}
    around = {key, *(graph.node(key).inputs if key in graph.producers else ())}
    for node in graph.nodes:
        if node.key in edited:
            writer = unquantised(graph, node)[1] if node.op == "DequantizeLinear" else None
            edited = edited | ({writer.key} if writer is not None else set())
    return bool(edited & around) or any(n.key in around for t in edited for n, _ in graph.consumers.get(t, ()))


@pytest.mark.parametrize(("code", "seed"), [(c, s) for c, seeds in FOUND.items() for s in seeds])
def test_found_at_its_layer_and_healed_down_to_what_rounding_explains(floats: Case, code: str, seed: int) -> None:
    graph, edits = floats.broken(code, seed)
    treatment = floats.treat(graph)
    assert named(treatment) == [code] and treatment.remaining == ()
    suspicion = treatment.steps[0].remedy.steps[0][0]  # type: ignore[union-attr]
    assert near(graph, suspicion.target or "", edits)
    healthy = relative_error(floats.answer(floats.target), floats.aligner.values["t20"])
    assert relative_error(floats.answer(treatment.target), floats.aligner.values["t20"]) < 2 * healthy
    assert [n.op for n in treatment.target.nodes if "Quant" in n.op].count("QuantizeLinear") == [
        n.op for n in floats.base.nodes].count("QuantizeLinear")
    again = floats.treat(treatment.target)
    assert again.steps == () and again.target is treatment.target


@pytest.mark.parametrize(("code", "seed"), [(c, s) for c, seeds in SAME.items() for s in seeds])
def test_against_the_same_quantised_model_the_repair_is_exact(codes: Case, code: str, seed: int) -> None:
    graph, _ = codes.broken(code, seed)
    treatment = codes.treat(graph)
    assert named(treatment) == [code] and treatment.remaining == ()
    assert relative_error(codes.answer(treatment.target), codes.answer(codes.target)) < 1e-3


@pytest.mark.parametrize(("seed", "codes_named"), [(0, []), (4, []), (1, ["cg-act-missing"])])
def test_dropped_rounding_is_no_fault_against_a_float_source(floats: Case, seed: int, codes_named: list[str]) -> None:
    """Unless its saturation did a Relu: then that is missing."""
    graph, _ = floats.broken("qp-implicit-dequant", seed)
    treatment = floats.treat(graph)
    assert named(treatment) == codes_named and treatment.remaining == ()


@pytest.mark.parametrize("network", made.NETWORKS)
@pytest.mark.parametrize("kind", made.KINDS)
def test_healthy_quantised_models_have_no_finding(network: str, kind: str) -> None:
    source = made.NETWORKS[network]()
    case = Case(source, made.quantised(source, kind), made.feeds(source, 7))
    assert case.treat(case.target).steps == ()


def test_a_wider_range_than_the_samples_need_is_no_fault(floats: Case) -> None:
    graph = floats.base
    for node in [n for n in graph.nodes if n.op == "QuantizeLinear"]:
        place = place_of(graph, node)
        assert place is not None
        graph = apply(graph, place.regrid(replace(place.written, scale=place.written.scale * np.float32(2))))
    assert floats.treat(graph).steps == ()
