"""Regions cut where operators correspond: layers folded in one model, weights that occur once, joins."""

from __future__ import annotations

import numpy as np

from fetafix.edits import InsertNode, RemoveNode, Rewire, SetInput, SetOperator, apply
from fetafix.graph.align import Aligner
from fetafix.graph.fold import chains
from fetafix.graph.hypotheses import Evidence
from fetafix.graph.refine import pairs
from fetafix.ir import Graph, Node
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, Builder, feeds_for, with_shapes


def block(seed: int = 0) -> Graph:
    """Conv + BatchNormalization + Relu, Conv, joined with the first map, Conv."""
    b = Builder(seed)

    def conv(x: str) -> str:
        return b.op("Conv", x, b.weight(4, 4, 3, 3), b.normal(4), kernel_shape=(3, 3), pads=(1, 1, 1, 1))

    x = b.input((1, 4, 6, 6))
    y = b.op("Relu", b.batchnorm(conv(x), 4))
    return b.build(conv(b.op("Add", conv(y), y)))


def cut(source: Graph, target: Graph) -> dict[str, str]:
    """The pairs inside the whole of two graphs, from input to output."""
    feeds = feeds_for(source)
    target = with_shapes(target, {target.input_names[0]: feeds[source.input_names[0]]})
    with Aligner(source, feeds, EVALUATOR) as aligner:
        evidence = Evidence(aligner.source, target, aligner.values, aligner.index)
        known = {target.input_names[0]: source.input_names[0]}
        return dict(pairs(target, aligner.source, known, evidence, (target.output_names[0], source.output_names[0])))


SOURCE = block()
ALL = {f"v_t{i}": f"t{i}" for i in range(5)}  # t0 Conv, t1 BatchNormalization, t2 Relu, t3 Conv, t4 Add; t5 is the goal


def test_equal_forms_fall_apart_at_every_operator() -> None:
    assert cut(SOURCE, renamed(SOURCE)) == ALL


def test_a_folded_layer_corresponds_to_the_end_of_what_was_folded() -> None:
    chain = chains(SOURCE)[0]
    assert chain.folded is not None
    weight, bias = chain.folded.weight.astype(np.float32), chain.folded.bias.astype(np.float32)
    folded = apply(SOURCE, [SetInput("t0", 1, weight), SetInput("t0", 2, bias), RemoveNode("t1")])
    assert cut(SOURCE, renamed(folded)) == {"v_t0": "t1", "v_t2": "t2", "v_t3": "t3", "v_t4": "t4"}


def test_behind_a_lost_activation_weights_tell() -> None:
    found = cut(SOURCE, renamed(apply(SOURCE, [RemoveNode("t2")])))
    assert found.items() >= {"v_t0": "t0", "v_t1": "t1", "v_t3": "t3"}.items()


def test_a_join_by_another_operator_or_of_another_operand_is_still_that_join() -> None:
    assert cut(SOURCE, renamed(apply(SOURCE, [SetOperator("t4", "Max")])))["v_t4"] == "t4"
    assert cut(SOURCE, renamed(apply(SOURCE, [Rewire("t4", 1, "t1")])))["v_t4"] == "t4"


def test_weights_that_occur_twice_tell_nothing() -> None:
    shared = apply(SOURCE, [RemoveNode("t2"), Rewire("t3", 1, SOURCE.node("t0").inputs[1])])
    assert "v_t3" not in cut(SOURCE, renamed(shared))


def test_a_chain_with_something_in_between_is_not_folded() -> None:
    """The normalisation stands behind the operator that came in between; it is no part of the layer before that."""
    between = InsertNode("t0", Node("Abs", ("t0",), ("t9",), {}, "abs_9"), {}, (("t1", 0),))
    found = cut(SOURCE, renamed(apply(SOURCE, [between])))
    assert found["v_t0"] == "t0"
    assert "t1" not in {v for k, v in found.items() if k != "v_t1"}
