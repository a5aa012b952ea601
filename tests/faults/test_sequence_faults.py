"""Faults of recurrent and transformer models: named at their node, healed, silent on every equivalent form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fetafix.edits import Edit, SetAttribute, SetInput, apply
from fetafix.faults import get
from fetafix.graph.canonical import canonical
from fetafix.ir import Graph
from tests.faults import sequences as made
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, Builder
from tests.faults.through import Case, codes, error, healed, named_by, silent, treated

MODELS: dict[str, Callable[[], Graph]] = {
    "LSTM": made.recurrent_tokens,
    "GRU": lambda: made.recurrent_tokens(op="GRU", linear_before_reset=1),
    "GRU of the paper": lambda: made.recurrent_series(op="GRU"),
    "RNN reverse": lambda: made.recurrent_series(op="RNN", direction="reverse"),
    "LSTM reverse": lambda: made.recurrent_series(op="LSTM", direction="reverse"),
    "LSTM both ways": lambda: made.recurrent_series(op="LSTM", direction="bidirectional"),
    "Keras both ways": made.keras_bidirectional,
    "encoder": lambda: made.encoder(layers=1),
    "encoder spelled": lambda: made.encoder(layers=1, spelled=True, scale="query"),
    "encoder 20": lambda: made.encoder(layers=1, opset=20, act="Gelu none", scale="mul"),
    "decoder": lambda: made.decoder(layers=1),
    "decoder 23": lambda: made.decoder(layers=1, opset=23, core="Attention", act="Gelu tanh"),
    "deep encoder": lambda: made.encoder(scale="mul"),
    "deep encoder spelled": lambda: made.encoder(spelled=True),
    "deep encoder 20": lambda: made.encoder(opset=20, act="Gelu none"),
    "deep decoder": made.decoder,
    "deep decoder 20": lambda: made.decoder(opset=20, act="Gelu tanh"),
    "positions": made.positions,
    "relative": made.relative,
    "relative fmod": lambda: made.relative(floor=False, fmod=1),
    "assigned": made.assigned,
    "tagger": made.tagger,
    "opset 11": made.old_softmax,
    "opset 13": lambda: made.old_softmax(opset=13),
}
# Fault type → models that must have a place for it.
PLACES = {
    "wb-rnn-gate-order": ["LSTM", "GRU", "GRU of the paper", "LSTM reverse", "LSTM both ways"],
    "lh-gru-lbr": ["GRU", "GRU of the paper"],
    "lh-rnn-direction": ["LSTM", "GRU", "RNN reverse", "LSTM reverse", "LSTM both ways", "Keras both ways"],
    "lh-ln-eps": ["encoder", "encoder spelled", "decoder", "decoder 23"],
    "lh-gelu": ["deep encoder", "deep encoder spelled", "deep encoder 20", "deep decoder", "deep decoder 20"],
    "lh-attn": ["encoder", "encoder spelled", "encoder 20", "decoder", "decoder 23"],
    "tss-head-split": ["encoder", "encoder spelled", "decoder", "decoder 23"],
    "lh-argmax-tie": ["tagger"],
    "lh-cumsum-exclusive": ["positions"],
    "vs-softmax-13": ["opset 11", "opset 13"],
    "wb-tied-broken": ["decoder", "decoder 23"],
    "cg-inplace-lost": ["assigned"],
    "cg-int-div-mod": ["relative", "relative fmod"],
}
CASES = [(code, name, seed) for code, names in PLACES.items() for name in names
         for seed in range(1 if name.startswith("deep") else 2 if len(names) > 3 else 3)]


@cache
def case(name: str) -> Case:
    return Case.of(canonical(MODELS[name](), EVALUATOR), feeds=made.feeds_of)


def effective(of: Case, code: str, seed: int) -> tuple[Graph, tuple[Edit, ...]]:
    """The target with the first seeded fault that shows at its outputs."""
    rng = np.random.default_rng(seed)
    for _ in range(24):
        edits = get(code).inject(of.target, rng)
        assert edits, f"no place for {code}"
        broken = apply(of.target, edits)
        if error(of, broken) > 1e-4:
            return broken, tuple(edits)
    raise AssertionError("every place tried is a NO-OP")


@pytest.mark.parametrize(("code", "name", "seed"), CASES)
def test_injected_is_named_and_healed(code: str, name: str, seed: int) -> None:
    broken, edits = effective(case(name), code, seed)
    loose = code in ("tss-head-split", "lh-rnn-direction", "cg-inplace-lost", "lh-attn", "vs-softmax-13")
    healed(case(name), broken, code, set() if loose else named_by(edits) | {getattr(e, "output", "") for e in edits})


# ---------------------------------------------------------------- controls: the same function in two forms

FORMS: dict[str, tuple[Callable[[], Graph], Callable[[], Graph]]] = {
    "one LSTM for two directions, and one for each": (
        made.spelled_lstm, lambda: made.spelled_lstm(form="halves")),
    "an LSTM, and its steps spelled out": (made.spelled_lstm, lambda: made.spelled_lstm(form="steps")),
    "a LayerNormalization, and nine nodes": (
        lambda: made.encoder(layers=1), lambda: made.encoder(layers=1, spelled=True)),
    "a Gelu, and its Erf": (
        lambda: made.encoder(layers=1, opset=20, act="Gelu none"), lambda: made.encoder(layers=1, opset=20)),
    "a Gelu by tanh, and its Tanh": (
        lambda: made.decoder(layers=1, opset=20, act="Gelu tanh"), lambda: made.decoder(layers=1, opset=20)),
    "queries scaled, and scores": (
        lambda: made.encoder(scale="query"), lambda: made.encoder(scale="mul")),
    "an Attention with a padding mask, and its chain": (
        lambda: made.encoder(layers=1, opset=23, core="Attention"), lambda: made.encoder(layers=1, opset=23)),
    "an Attention with a causal mask, and its chain": (
        lambda: made.decoder(layers=1, opset=23, core="Attention"), lambda: made.decoder(layers=1, opset=23)),
    "a mask of −10⁴, and of −∞": (
        lambda: made.decoder(layers=1), lambda: _remasked(made.decoder(layers=1))),
    "a slice assigned, and put together": (made.assigned, lambda: made.assigned(op="Concat")),
    "a layer's chains, and ONNX Runtime's fused operators": (made.block, lambda: made.block(fused=True)),
    "ε far below every variance": (
        lambda: made.encoder(layers=1, epsilon=1e-12), lambda: made.encoder(layers=1, epsilon=1e-9)),
}
# Faults that change nothing where what they depend on does not occur: model, edits of the target.
IDLE: dict[str, tuple[Callable[[], Graph], Callable[[Graph], list[Edit]]]] = {
    "a single step from nothing, no recurrence bias": (
        lambda: _single(made.recurrent_series(op="GRU")), lambda g: [
            SetAttribute(_only(g, "GRU"), "linear_before_reset", 1)]),
    "a single step, backwards": (
        lambda: _single(made.recurrent_series(op="LSTM")), lambda g: [
            SetAttribute(_only(g, "LSTM"), "direction", "reverse")]),
    "no ties": (
        lambda: made.tagger(levels=1e6), lambda g: [SetAttribute(_only(g, "ArgMax"), "select_last_index", 1)]),
    "the last axis by its number before opset 13": (
        lambda: made.old_softmax(axis=2), lambda g: [SetAttribute(_only(g, "Softmax"), "axis", -1)]),
}


def _only(graph: Graph, op: str) -> str:
    return next(n.key for n in graph.nodes if n.op == op)


def _remasked(graph: Graph) -> Graph:
    adds = [n for n in graph.nodes if n.op == "Add"]
    masks = [(n.key, w) for n in adds if (w := graph.constant(n, 1)) is not None and w.ndim == 4]
    endless = [SetInput(key, 1, np.where(w < 0, -np.inf, w).astype(np.float32)) for key, w in masks]
    assert endless
    return apply(graph, endless)


def _single(graph: Graph) -> Graph:
    """The graph for a series of one step, its recurrent layers without biases."""
    return apply(replace(graph, inputs=tuple(replace(v, shape=("N", 1, *(v.shape or ())[2:])) for v in graph.inputs)),
                 [SetInput(n.key, 3, None) for n in graph.nodes if n.op in ("GRU", "LSTM")])


@pytest.mark.parametrize("turned", [False, True], ids=["there", "back"])
@pytest.mark.parametrize("name", FORMS)
def test_silent_on_the_same_function_in_another_form(name: str, turned: bool) -> None:
    source, target = (canonical(form(), EVALUATOR) for form in (FORMS[name][::-1] if turned else FORMS[name]))
    silent(Case.of(source, lambda _: renamed(target), feeds=made.feeds_of))


@pytest.mark.parametrize("name", IDLE)
def test_silent_where_a_fault_changes_nothing(name: str) -> None:
    source = canonical(IDLE[name][0](), EVALUATOR)
    target = apply(source, IDLE[name][1](source))
    silent(Case.of(source, lambda _: renamed(target), feeds=made.feeds_of))


@pytest.mark.parametrize("name", MODELS)
def test_silent_on_healthy(name: str) -> None:
    silent(case(name))


@pytest.mark.parametrize("code", PLACES)
def test_injection_is_seeded_and_leaves_no_mark(code: str) -> None:
    """New names follow the graph's own: an operator and a number, a tensor's letter and a number."""
    of = case(PLACES[code][0]).source
    known = {n.name.rpartition("_")[0] for n in of.nodes}
    for seed in range(4):
        first, again = (get(code).inject(of, np.random.default_rng(seed)) for _ in range(2))
        assert first and again and [e.describe() for e in first] == [e.describe() for e in again]
        broken = apply(of, first)
        assert broken.output_names == of.output_names
        for node in broken.nodes:
            assert node.name.rpartition("_")[0] in known | {node.op.lower()}, node.name
            assert all(o.startswith("t") for o in node.outputs if o), node.outputs


@pytest.mark.parametrize("code", PLACES)
def test_no_place_means_none(code: str) -> None:
    b = Builder(0)
    graph = made.finish(b, b.op("Sigmoid", b.input((3, 2))))
    assert get(code).inject(graph, np.random.default_rng(0)) is None


# ---------------------------------------------------------------- the same fault, where the two sides differ in form

ACROSS: dict[str, tuple[str, Callable[[], Graph], Callable[[], Graph]]] = {
    "ε of what is spelled out": (
        "lh-ln-eps", lambda: made.encoder(layers=1), lambda: made.encoder(layers=1, spelled=True, epsilon=1e-2)),
    "ε of the operator": (
        "lh-ln-eps", lambda: made.encoder(layers=1, spelled=True), lambda: made.encoder(layers=1, epsilon=1e-2)),
    "ε of what is fused in the source": (
        "lh-ln-eps", lambda: made.block(fused=True), lambda: made.block(epsilon=1e-2)),
    "a Gelu spelled the other way": (
        "lh-gelu", lambda: made.decoder(opset=20, act="Gelu none"), lambda: made.decoder(opset=20)),
    "an Attention that is not causal": (
        "lh-attn", lambda: made.decoder(layers=1, opset=23), lambda: made.decoder(
            layers=1, opset=23, core="Attention", masked=False)),
    "a chain without the operator's mask": (
        "lh-attn", lambda: made.decoder(layers=1, opset=23, core="Attention"), lambda: made.decoder(
            layers=1, opset=23, masked=False)),
}


@pytest.mark.parametrize("name", ACROSS)
def test_named_and_healed_across_forms(name: str) -> None:
    code, *forms = ACROSS[name]
    source, target = (canonical(form(), EVALUATOR) for form in forms)
    of = Case.of(source, lambda _: renamed(target), feeds=made.feeds_of)
    treatment = treated(of, of.target)
    assert set(codes(treatment)) == {code}, codes(treatment)
    assert error(of, treatment.target) <= 2e-6
    assert treated(of, treatment.target, seed=5).steps == ()
