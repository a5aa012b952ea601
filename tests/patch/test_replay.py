"""Where edits belong in another conversion, and when they are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.edits import Edit, InsertNode, RemoveNode, Rewire, SetAttribute, SetInput, apply, prune
from fetafix.graph.structure import outline, unlike
from fetafix.ir import Graph, Node
from fetafix.patch.make import undoing
from fetafix.patch.record import edits_of, outline_of
from fetafix.patch.replay import Replayed, Step, replay
from tests.faults.support import Builder
from tests.patch.conversions import broken, network, nodes, patched, renamed, repairs


def carried(base: Graph, edits: list[Edit], other: Graph) -> Replayed:
    return replay(outline(base), [Step("one", tuple(edits))], outline(other))


def steps(graph: Graph) -> list[Step]:
    return [Step(e.id, edits) for e, edits in repairs(graph)]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_repairs_fit_the_same_model_under_other_names(seed: int) -> None:
    graph = network()
    other = renamed(broken(graph), seed)
    done = replay(outline(broken(graph)), steps(graph), outline(other))
    assert [f.status for f in done.fates] == ["fits"] * 4
    assert unlike(outline(graph), outline(prune(done.graph))) == ""
    assert unlike(outline(graph), outline(prune(apply(other, done.edits)))) == ""


def test_a_patch_read_from_its_record_does_the_same_and_back() -> None:
    graph = network()
    patch, store = patched(graph)
    other = renamed(broken(graph))
    todo = [Step(e.id, edits_of(e.edits, store)) for e in patch.entries]
    done = replay(outline_of(patch.before, store), todo, outline(other))
    mended = prune(done.graph)
    assert unlike(outline(graph), outline(mended)) == ""
    undo = undoing(patch.entries, [edits_of(u, store) for u in patch.undo])
    back = replay(outline_of(patch.after, store), undo, outline(renamed(mended, 9)))
    assert [f.status for f in back.fates] == ["fits"] * 4
    assert unlike(outline(other), outline(prune(back.graph))) == ""


def test_after_another_training_run_only_edits_without_weights_fit() -> None:
    graph = network()
    done = replay(outline(broken(graph)), steps(graph), outline(renamed(broken(network(1)))))
    assert [f.status for f in done.fates] == ["fits", "fits", "refused", "fits"]
    assert "another training run" in done.of("refused")[0].why
    assert done.weights == 0.0 and done.share == 1.0


def test_a_bias_for_other_weights_is_refused_where_none_was() -> None:
    graph, other = (apply(g, [SetInput(nodes(g, "Conv")[1], 2, None)]) for g in (network(), network(1)))
    edit = SetInput(nodes(graph, "Conv")[1], 2, np.ones(8, np.float32))
    assert carried(graph, [edit], renamed(graph)).fates[0].status == "fits"
    assert carried(graph, [edit], renamed(other)).fates[0].status == "refused"
    scale = InsertNode(nodes(graph, "Conv")[1], Node("Mul", (nodes(graph, "Conv")[1], "k"), ("m",)),
                       {"k": np.ones((1, 8, 1, 1), np.float32)})
    assert carried(graph, [scale], renamed(other)).fates[0].status == "refused"
    assert carried(graph, [scale], renamed(graph)).fates[0].status == "fits"


def test_what_is_right_already_is_left() -> None:
    graph = network()
    half = apply(broken(graph), list(steps(graph)[3].edits))
    done = replay(outline(broken(graph)), steps(graph), outline(renamed(half)))
    assert [f.status for f in done.fates] == ["fits", "fits", "fits", "in place"]
    assert unlike(outline(graph), outline(prune(done.graph))) == ""


@pytest.mark.parametrize(("change", "reason", "count"), [
    (lambda g: SetAttribute(nodes(g, "Conv")[0], "dilations", (3, 3)), "dilations is (3, 3)", 1),
    (lambda g: SetAttribute(nodes(g, "Conv")[0], "strides", (2, 2)), "strides is (2, 2)", 1),
    (lambda g: SetInput(nodes(g, "Conv")[1], 1, np.ones((8, 8, 3, 3), np.float32)), "not the one that was repaired", 1),
    (lambda g: SetInput(nodes(g, "Conv")[1], 2, np.ones(8, np.float32)), "weights are others", 1),
    (lambda g: RemoveNode(nodes(g, "AveragePool")[0]), "nothing that stands for AveragePool", 2),
    (lambda g: InsertNode(nodes(g, "Add")[0], Node("Tanh", (nodes(g, "Add")[0],), ("t",))), "reads other tensors", 2),
])
def test_an_edit_that_does_not_find_what_it_replaces_is_refused(change: object, reason: str, count: int) -> None:
    graph = network()
    other = renamed(apply(broken(graph), [change(broken(graph))]))  # type: ignore[operator]
    done = replay(outline(broken(graph)), steps(graph), outline(other))
    assert len(done.of("refused")) == count and len(done.of("fits")) == 4 - count
    assert reason in done.of("refused")[0].why


def test_another_model_is_refused_as_a_whole() -> None:
    graph = network()
    done = replay(outline(broken(graph)), steps(graph), outline(broken(network(width=16))))
    assert {f.status for f in done.fates} == {"refused"} and "another model" in done.fates[0].why


def test_old_values_within_float_noise_are_said() -> None:
    graph = network()
    other = broken(graph)
    key = nodes(other, "Conv")[1]
    kernel = other.constant(other.node(key), 1)
    assert kernel is not None
    noisy = apply(other, [SetInput(key, 1, np.nextafter(kernel, np.float32(9)))])
    done = replay(outline(other), steps(graph), outline(renamed(noisy)))
    assert {f.status for f in done.fates} == {"fits"}
    assert [f.why for f in done.fates if f.why] == ["the old value differs within float noise"]


def test_of_two_places_that_look_alike_none_is_chosen() -> None:
    b = Builder()
    x = b.input((1, 4))
    left, right = b.op("Tanh", x), b.op("Tanh", x)
    graph = b.build(b.op("Relu", b.op("Add", left, right)))
    done = carried(graph, [RemoveNode(left)], renamed(graph))
    assert done.fates[0].status == "refused"


def test_the_operand_goes_by_what_it_is_not_by_its_slot() -> None:
    """The other conversion adds in the other order: the same branch is rewired."""
    graph = network()
    (add,), relu = nodes(graph, "Add"), nodes(graph, "Relu")[0]
    wrong = apply(graph, [Rewire(add, 0, nodes(graph, "Conv")[1])])
    node = wrong.node(add)
    swapped = replace(wrong, nodes=tuple(replace(n, inputs=n.inputs[::-1]) if n is node else n for n in wrong.nodes))
    fix: list[Edit] = [Rewire(add, 0, relu)]
    done = carried(wrong, fix, renamed(swapped))
    assert done.fates[0].status == "fits"
    assert unlike(outline(prune(apply(wrong, fix))), outline(prune(done.graph))) == ""


def test_edits_may_build_on_what_earlier_ones_made() -> None:
    """A node is inserted at the output, where it takes over the output's name, and is then changed twice."""
    graph = network()
    out = graph.output_names[0]
    fix: list[Edit] = [
        InsertNode(out, Node("LeakyRelu", (out,), ("new",), {"alpha": 0.1})),
        SetAttribute(out, "alpha", 0.5),
        InsertNode(out, Node("Mul", (out, "k"), ("more",)), {"k": np.array(2, np.float32)}),
        SetInput(out, 1, np.array(3, np.float32)),
    ]
    other = renamed(graph)
    done = carried(graph, fix, other)
    assert done.fates[0].status == "fits", done.fates[0].why
    assert unlike(outline(apply(graph, fix)), outline(apply(other, done.edits))) == ""
    assert apply(other, done.edits).output_names == other.output_names


def test_names_that_are_taken_do_no_harm() -> None:
    """The other graph uses the inserted constant's and output's names for something else."""
    graph = network()
    key = nodes(graph, "Conv")[1]
    fix: list[Edit] = [InsertNode(key, Node("Mul", (key, "k"), ("new",)), {"k": np.array(2, np.float32)})]
    other = renamed(graph)
    swap = dict(zip((other.nodes[3].key, other.nodes[5].key), ("k", "new"), strict=True))
    rename = lambda names: tuple(swap.get(t, t) for t in names)  # noqa: E731
    other = replace(other, nodes=tuple(replace(n, inputs=rename(n.inputs), outputs=rename(n.outputs))
                                       for n in other.nodes))
    done = carried(graph, fix, other)
    assert done.fates[0].status == "fits"
    assert unlike(outline(apply(graph, fix)), outline(apply(other, done.edits))) == ""
