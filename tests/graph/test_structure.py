"""Graphs of the same model are matched whatever they are called, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.edits import InsertNode, SetAttribute, SetInput, apply
from fetafix.graph.structure import correspondence, fingerprint, outline, unlike
from fetafix.ir import Node
from tests.faults.support import Builder
from tests.patch.conversions import network, nodes, renamed


def twins(first: object, second: object) -> dict[str, str]:
    return correspondence(outline(first), outline(second)).nodes  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_other_names_and_another_order_are_the_same_graph(seed: int) -> None:
    graph = network()
    other = renamed(graph, seed)
    found = correspondence(outline(graph), outline(other))
    assert {k: other.node(v).name for k, v in found.nodes.items()} == {
        n.key: f"op{i}" for i, n in enumerate(graph.nodes)}
    assert set(found.how.values()) == {"weights"}
    assert unlike(outline(graph), outline(other)) == ""


def test_another_training_run_is_matched_by_its_structure() -> None:
    graph, other = network(), renamed(network(1))
    found = correspondence(outline(graph), outline(other))
    assert len(found.nodes) == len(graph.nodes)
    assert {found.how[k] for k in nodes(graph, "Conv")} == {"settings"}
    assert found.how[nodes(graph, "Clip")[0]] == "weights"


@pytest.mark.parametrize("place", ["Conv", "Relu", "Gemm"])
def test_a_difference_hides_only_itself(place: str) -> None:
    """An operator more in the one graph: everything else is found again."""
    graph = network()
    key = nodes(graph, place)[0]
    other = renamed(apply(graph, [InsertNode(key, Node("Tanh", (key,), ("more",)))]))
    assert len(twins(graph, other)) == len(graph.nodes)


def test_other_settings_are_matched_last() -> None:
    graph = network()
    key = nodes(graph, "Conv")[2]
    other = renamed(apply(graph, [SetAttribute(key, "strides", (2, 2))]))
    found = correspondence(outline(graph), outline(other))
    assert len(found.nodes) == len(graph.nodes) and found.how[key] == "shapes"


def test_another_width_is_another_network() -> None:
    graph, other = network(), network(width=16)
    assert not set(twins(graph, other)) & {*nodes(graph, "Conv"), *nodes(graph, "BatchNormalization")}


def test_places_that_look_alike_stay_unmatched() -> None:
    b = Builder()
    x = b.input((1, 4))
    left, right = b.op("Tanh", x), b.op("Tanh", x)
    graph = b.build(b.op("Add", left, right))
    assert set(twins(graph, renamed(graph))) == {graph.output_names[0]}


def test_operands_of_an_addition_may_be_exchanged() -> None:
    graph = network()
    (add,) = nodes(graph, "Add")
    node = graph.node(add)
    swapped = tuple(replace(n, inputs=n.inputs[::-1]) if n is node else n for n in graph.nodes)
    assert unlike(outline(graph), outline(renamed(replace(graph, nodes=swapped)))) == ""


def test_defaults_may_be_written_or_not() -> None:
    graph = network()
    key = nodes(graph, "Conv")[1]
    written = [SetAttribute(key, "dilations", (1, 1)), SetAttribute(key, "group", 1),
               SetAttribute(key, "kernel_shape", (3, 3))]
    assert unlike(outline(graph), outline(apply(graph, written))) == ""


def test_one_bit_of_a_weight_is_a_difference() -> None:
    graph = network()
    key = nodes(graph, "Conv")[1]
    kernel = graph.constant(graph.node(key), 1)
    assert kernel is not None
    moved = np.nextafter(kernel, np.float32(9))
    assert "constants" in unlike(outline(graph), outline(apply(graph, [SetInput(key, 1, moved)])))
    assert "reads" not in unlike(outline(graph), outline(graph))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 200), scale=st.floats(1e-6, 1e6))
def test_fingerprints_forgive_float_noise_only(seed: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    value = (scale * rng.standard_normal(size)).astype(np.float32)
    noisy = value * (1 + rng.choice([-1, 1], size) * np.float32(2.0**-23))
    assert fingerprint(value).like(fingerprint(noisy.astype(np.float32)))
    assert not fingerprint(value).like(fingerprint(value + np.float32(0.01 * scale + np.abs(value).max())))
    assert not fingerprint(value).like(fingerprint(value.reshape(1, -1)))


def test_values_that_are_not_finite_are_compared_bit_by_bit() -> None:
    value = np.array([1, np.inf, np.nan], np.float32)
    assert fingerprint(value).like(fingerprint(value.copy()))
    assert not fingerprint(value).like(fingerprint(np.array([2, np.inf, np.nan], np.float32)))
    assert fingerprint(np.array(["a"], object)).moments is None
