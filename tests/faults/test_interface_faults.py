"""Faults of the models as a whole: layout, size and batch of inputs, number and order of outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import SetInput, SetInputShape, SetOperator, SetOutputs, SetPreprocessing, apply
from fetafix.faults import catalogue, get
from fetafix.ir import Graph
from tests.faults.models import heads, renamed, residual
from tests.faults.sites import best_trial, broken, claims, cnn, feeds_of, interface
from tests.faults.support import with_shapes

FAULTS = [f for f in catalogue().values() if f.scope in ("interface", "both")]
PLACES: dict[str, list[Callable[[], Graph]]] = {
    "id-layout": [cnn, lambda: cnn(nhwc=True), residual],
    "id-size": [cnn, residual, lambda: cnn(nhwc=True)],
    "id-baked-batch": [cnn, lambda: cnn(flatten="Reshape"), residual],
    "cg-extra-output": [cnn, residual, heads],
    "op-output-order": [heads, lambda: cnn(outputs=2)],
}
CASES = [(code, i, seed) for code, graphs in PLACES.items() for i in range(len(graphs)) for seed in range(4)]


def _shaped(graph: Graph) -> Graph:
    return with_shapes(graph, feeds_of(graph))


def test_every_interface_fault_has_places() -> None:
    elsewhere = {"id-input-order"}  # test_inputs_exchanged.py
    in_no_graph = {"pp-resize-crop", "pp-interp", "pp-decode"}  # made by preparing images otherwise: test_pp_recipes.py
    assert set(PLACES) | elsewhere | in_no_graph == {f.code for f in FAULTS if f.scope == "interface"}


@pytest.mark.parametrize(("code", "place", "seed"), CASES)
def test_injected_is_named_and_healed(code: str, place: int, seed: int) -> None:
    source = _shaped(PLACES[code][place]())
    made = broken(get(code), renamed(source), seed)
    assert made is not None
    feeds = feeds_of(source)
    given = None
    if code == "id-size":
        given = feeds_of(made[0], count=3)
    site = interface(source, made[0], feeds, given)
    found = claims(site, FAULTS)
    assert found and found[0][0].code == code, [(f.code, s.confidence) for f, s in found]
    assert found[0][1].confidence >= 0.9
    edits = next(iter(found[0][0].propose(site, found[0][1])))
    healed = interface(source, apply(made[0], edits), feeds)
    assert healed.error <= 1e-5
    assert claims(healed, FAULTS) == []


HEALTHY = [cnn, lambda: cnn(nhwc=True), residual, heads, lambda: cnn(flatten="Reshape", batch=2)]


@pytest.mark.parametrize("make", HEALTHY)
def test_silent_on_healthy(make: Callable[[], Graph]) -> None:
    source = _shaped(make())
    assert claims(interface(source, renamed(source), feeds_of(source)), FAULTS) == []


def test_silent_on_another_declared_layout() -> None:
    source = _shaped(cnn())
    assert claims(interface(source, renamed(cnn(nhwc=True))), FAULTS) == []


def test_a_fixed_batch_is_no_fault() -> None:
    source = _shaped(cnn(flatten="Reshape"))
    node = next(n for n in source.nodes if n.op == "Reshape")
    baked = [SetInput(node.key, 1, np.array([1, -1], np.int64)), SetInputShape("image", (1, 3, 16, 16))]
    target = renamed(apply(source, baked))
    one = {k: v[:1] for k, v in feeds_of(source).items()}
    assert claims(interface(source, target, one), FAULTS) == []


def test_a_fixed_batch_that_is_given_more_is_opened() -> None:
    source = _shaped(cnn(flatten="Reshape"))
    node = next(n for n in source.nodes if n.op == "Reshape")
    baked = [SetInput(node.key, 1, np.array([1, -1], np.int64)), SetInputShape("image", (1, 3, 16, 16))]
    target = renamed(apply(source, baked))
    feeds = feeds_of(source)
    site = interface(source, target, feeds, {"v_image": feeds["image"]})
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "id-baked-batch"
    error, edits = best_trial(site, fault, suspicion)
    assert site.healed(error)
    assert {type(e) for e in edits} == {SetInput, SetInputShape}


def test_reinterpreted_values_are_moved_instead() -> None:
    source = _shaped(cnn(nhwc=True))
    node = next(n for n in source.nodes if n.op == "Transpose")
    shape = np.array([0, 3, 16, 16], np.int64)
    target = renamed(apply(source, [SetOperator(node.key, "Reshape", {}, ("image", "shape"), "", {"shape": shape})]))
    site = interface(source, target)
    ((fault, suspicion),) = claims(site, FAULTS)
    first = next(iter(fault.propose(site, suspicion)))
    assert [type(e) for e in first] == [SetOperator]
    assert apply(target, first).nodes[0].op == "Transpose"


def test_an_output_that_stands_for_another_is_found_inside() -> None:
    source = _shaped(residual())
    relu = [n for n in source.nodes if n.op == "Flatten"][-1]
    gemm = [n for n in source.nodes if n.op == "Gemm"][-1]
    target = renamed(apply(source, [SetOutputs((gemm.key, source.output_names[0], relu.key))]))
    site = interface(source, target, outputs={f"v_{gemm.key}": source.output_names[0]})
    found = claims(site, FAULTS)
    assert found[0][0].code == "cg-extra-output"
    assert found[0][1].data == (f"v_{source.output_names[0]}",)


def test_outputs_bound_in_another_order_are_no_fault() -> None:
    source = _shaped(heads())
    a, b = source.output_names
    target = renamed(apply(source, [SetOutputs((b, a))]))
    assert claims(interface(source, target, outputs={f"v_{a}": a, f"v_{b}": b}), FAULTS) == []


def test_trials_see_changes_of_preprocessing() -> None:
    source = _shaped(cnn())
    feeds = feeds_of(source)
    site = interface(source, source, feeds, {k: v[:, ::-1] * np.float32(255) for k, v in feeds.items()},
                     preprocess=({"scale": 1 / 255}, {"color": "bgr"}))
    assert site.trial([SetPreprocessing({"scale": 1 / 255, "color": "rgb"})]) <= 1e-5 < site.error
    assert replace(site, preprocess=(None, None)).trial([SetPreprocessing({"scale": 1 / 255})]) > 1e-3
