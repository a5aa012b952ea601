"""Edits leave the graph they are applied to alone, share what they do not touch, and do what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix import edits as ed
from fetafix.edits import Edit, apply, cost, prune, topological
from fetafix.errors import EditError
from fetafix.ir import Array, Graph, Node
from tests.faults.models import heads, residual
from tests.faults.support import EVALUATOR, Builder
from tests.faults.test_cg_traced_branch import model as branching

GRAPH = residual(end="")
FEEDS = {"image": np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)}


def run(graph: Graph) -> list[Array]:
    return EVALUATOR.run(graph, FEEDS, graph.output_names)


def keys(op: str) -> list[str]:
    return [n.key for n in GRAPH.nodes if n.op == op]


def changed(edits: Sequence[Edit]) -> bool:
    (before,), (after,) = run(GRAPH), run(apply(GRAPH, edits))
    return before.shape != after.shape or bool(np.abs(before - after).max() > 1e-4)


CONV, RELU, ADD = keys("Conv")[1], keys("Relu")[1], keys("Add")[0]
HALF = np.float32(0.5) * GRAPH.initializers[GRAPH.node(CONV).inputs[1]]
SINGLE: dict[str, Edit] = {
    "attribute": ed.SetAttribute(keys("BatchNormalization")[0], "epsilon", 0.7),
    "weight": ed.SetInput(CONV, 1, HALF),
    "no bias": ed.SetInput(CONV, 2, None),
    "rewire": ed.Rewire(ADD, 1, GRAPH.node(ADD).inputs[0]),
    "operator": ed.SetOperator(RELU, "Tanh"),
    "insert": ed.InsertNode(CONV, Node("Tanh", (CONV,), ("new",))),
    "remove": ed.RemoveNode(RELU),
}


@pytest.mark.parametrize("name", SINGLE)
def test_an_edit_changes_the_answer_and_not_its_graph(name: str) -> None:
    nodes, tensors = GRAPH.nodes, dict(GRAPH.initializers)
    assert changed([SINGLE[name]])
    assert GRAPH.nodes is nodes
    assert all(GRAPH.initializers[k] is v for k, v in tensors.items())


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_not_edited_is_shared(name: str) -> None:
    after = apply(GRAPH, [SINGLE[name]])
    before = {id(n) for n in GRAPH.nodes}
    assert sum(id(n) not in before for n in after.nodes) <= 3
    kept = after.initializers.keys() & GRAPH.initializers.keys()
    assert sum(after.initializers[k] is not GRAPH.initializers[k] for k in kept) <= 1


@pytest.mark.parametrize("name", SINGLE)
def test_an_edit_says_what_it_does_and_costs_something(name: str) -> None:
    edit = SINGLE[name]
    assert edit.describe() and "\n" not in edit.describe()
    assert cost(GRAPH, [edit]) > 0


def test_a_shared_tensor_keeps_its_value_for_the_others() -> None:
    first, second = keys("Conv")[1:3]
    shared = apply(GRAPH, [ed.Rewire(second, 1, GRAPH.node(first).inputs[1])])
    after = apply(shared, [ed.SetInput(first, 1, HALF)])
    assert after.constant(after.node(second), 1) is shared.constant(shared.node(second), 1)
    assert np.array_equal(after.constant(after.node(first), 1), HALF)  # type: ignore[arg-type]


def test_insert_then_remove_is_nothing() -> None:
    inserted = apply(GRAPH, [SINGLE["insert"]])
    back = apply(inserted, [ed.RemoveNode("new")])
    assert np.array_equal(run(back)[0], run(GRAPH)[0])


def test_an_output_keeps_its_name_when_a_node_is_inserted_or_removed_there() -> None:
    out = GRAPH.output_names[0]
    longer = apply(GRAPH, [ed.InsertNode(out, Node("Tanh", (out,), ("new",)))])
    assert longer.output_names == (out,)
    assert np.allclose(run(longer)[0], np.tanh(run(GRAPH)[0]))
    shorter = apply(longer, [ed.RemoveNode(out)])
    assert shorter.output_names == (out,)
    assert np.array_equal(run(shorter)[0], run(GRAPH)[0])


def test_a_fragment_takes_over_a_tensor_and_the_old_nodes_go() -> None:
    relu = GRAPH.node(RELU)
    fragment = GRAPH.between([relu.inputs[0]], [RELU])
    fragment = replace(fragment, nodes=(replace(fragment.nodes[0], op="Tanh"),))
    after = apply(GRAPH, [ed.ReplaceSegment(RELU, fragment)])
    assert np.allclose(run(after)[0], run(apply(GRAPH, [SINGLE["operator"]]))[0])
    assert len(after.nodes) == len(GRAPH.nodes)


def test_outputs_are_dropped_with_what_only_they_needed() -> None:
    graph = heads()
    second = graph.output_names[1]
    after = apply(graph, [ed.SetOutputs((second,))])
    assert after.output_names == (second,)
    assert len(after.nodes) < len(graph.nodes)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (ed.SetAttribute("nowhere", "axis", 1), "nowhere"),
        (ed.Rewire(ADD, 0, "no such tensor"), "no such tensor"),
        (ed.SetOutputs(("gone",)), "gone"),
        (ed.SetInputShape("gone", (1,)), "gone"),
        (ed.Rewire(CONV, 0, GRAPH.output_names[0]), "cycle"),
        (ed.RemoveNode(CONV, slot=7), "input 7"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_a_reason(edit: Edit, words: str) -> None:
    with pytest.raises(EditError, match=words):
        apply(GRAPH, [edit])


@given(st.permutations(range(len(GRAPH.nodes))))
@settings(max_examples=30, deadline=None)
def test_any_order_is_sorted(order: list[int]) -> None:
    nodes = topological([GRAPH.nodes[i] for i in order])
    seen: set[str] = {*GRAPH.initializers, *GRAPH.input_names}
    for node in nodes:
        assert set(node.reads) <= seen
        seen.update(node.outputs)
    assert len(nodes) == len(GRAPH.nodes)


@given(st.lists(st.sampled_from(sorted(SINGLE)), max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_edits_of_different_places_commute(names: list[str]) -> None:
    if {"operator", "remove"} <= set(names):
        names.remove("operator")  # both are about the same node
    one = run(apply(GRAPH, [SINGLE[n] for n in names]))[0]
    other = run(apply(GRAPH, [SINGLE[n] for n in reversed(names)]))[0]
    assert one.shape == other.shape
    assert np.allclose(one, other, atol=1e-6)


def test_a_smaller_change_costs_less() -> None:
    weight = GRAPH.initializers[GRAPH.node(CONV).inputs[1]]
    one = weight.copy()
    one.flat[0] += 1
    assert cost(GRAPH, [ed.SetInput(CONV, 1, one)]) < cost(GRAPH, [ed.SetInput(CONV, 1, weight + 1)])
    assert cost(GRAPH, [SINGLE["attribute"]]) < cost(GRAPH, [SINGLE["operator"]])


def test_pruning_keeps_what_outputs_need() -> None:
    dead = Node("Relu", (CONV,), ("dead",))
    graph = replace(GRAPH, nodes=(*GRAPH.nodes, dead), initializers={**GRAPH.initializers, "unused": HALF})
    pruned = prune(graph)
    assert len(pruned.nodes) == len(GRAPH.nodes)
    assert "unused" not in pruned.initializers


def test_inserted_nodes_find_each_other_where_a_dead_node_has_the_name() -> None:
    """Edits are found without dead nodes, and applied to the file, which may hold some."""
    b = Builder()
    x = b.op("Relu", b.input((2, 3)))
    b.op("Neg", x)  # dead: t1
    graph = b.build(b.op("Abs", x))
    edits = [
        ed.InsertNode("t0", Node("Mul", ("t0", "two"), ("t1",)), {"two": np.float32(2)}),
        ed.InsertNode("t1", Node("Add", ("t1", "one"), ("t7",)), {"one": np.float32(1)}),
    ]
    changed = apply(graph, edits)
    assert [n.op for n in prune(changed).nodes] == ["Relu", "Mul", "Add", "Abs"]
    live = apply(prune(graph), edits)
    assert [n.op for n in live.nodes] == ["Relu", "Mul", "Add", "Abs"]


@pytest.mark.parametrize("hidden", ["folded", "idle", "constant"])
def test_inserted_nodes_find_each_other_where_the_canonical_form_hides_the_name(hidden: str) -> None:
    b = Builder()
    x = b.op("Relu", b.input((2, 3)))
    if hidden == "folded":
        taken = b.op("Neg", np.ones(3, np.float32))
        x = b.op("Mul", x, taken)
    elif hidden == "idle":
        x = taken = b.op("Identity", x)
    else:
        taken = b.op("Constant", value=np.ones(3, np.float32))
        x = b.op("Mul", x, taken)
    graph = b.build(b.op("Abs", x))
    edits = [
        ed.InsertNode("t0", Node("Mul", ("t0", "two"), (taken,)), {"two": np.float32(2)}),
        ed.InsertNode(taken, Node("Add", (taken, "one"), ("t7",)), {"one": np.float32(1)}),
    ]
    ops = [n.op for n in prune(apply(graph, edits)).nodes if n.op not in ("Neg", "Constant")]
    assert ops[:3] == ["Relu", "Mul", "Add"] and len(ops) == 5
    (value,) = EVALUATOR.run(apply(graph, edits), {graph.input_names[0]: np.ones((2, 3), np.float32)},
                             graph.output_names)
    np.testing.assert_allclose(value, 3.0)


def test_bodies_follow_what_is_removed_and_inserted() -> None:
    source = branching()
    (relu,) = (n for n in source.nodes if n.op == "Relu")
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    gone = apply(source, [ed.RemoveNode(relu.key)])
    assert all(relu.key not in n.reads for n in gone.nodes)
    neg = apply(gone, [ed.InsertNode(relu.inputs[0], Node("Relu", (relu.inputs[0],), ("again",)))])
    (a,), (b,) = (EVALUATOR.run(g, feeds, g.output_names) for g in (source, neg))
    (c,) = EVALUATOR.run(gone, feeds, gone.output_names)
    assert np.allclose(a, b, atol=1e-6) and not np.allclose(a, c, atol=1e-3)
    assert source.node(relu.key) is relu
