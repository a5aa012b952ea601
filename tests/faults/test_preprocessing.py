"""Preprocessing mistakes are inferred, named and undone: baked into the graph or in what the target is fed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from fetafix.edits import InsertNode, RemoveNode, SetInput, SetPreprocessing, apply
from fetafix.faults import catalogue, get
from fetafix.faults.base import Interface
from fetafix.graph.inputfix import maps
from fetafix.graph.inputplaces import New, inserted, places
from fetafix.graph.pixels import affine_of, reprocessed
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node
from tests.faults.models import renamed
from tests.faults.sites import best_trial, broken, claims, cnn, feeds_of, interface, segment
from tests.faults.support import NHWC, Builder, with_shapes

CODES = ("pp-bgr", "pp-range", "pp-double-rescale", "pp-mean-std", "pp-scalar-std", "pp-hw-swap")
FAULTS = [get(c) for c in CODES]
IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CONFIGS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "raw": ({}, {"pp-mean-std"}),
    "unit": ({"scale": 1 / 255}, {"pp-mean-std"}),
    "bgr": ({**IMAGENET, "color": "bgr"}, {"pp-bgr", "pp-mean-std"}),
    "turned": ({**IMAGENET, "transpose_hw": True}, {"pp-hw-swap"}),
    "tf": ({"scale": 1 / 127.5, "offset": -1.0}, {"pp-mean-std"}),
    "caffe": ({"color": "bgr", "mean": [103.939, 116.779, 123.68]}, {"pp-bgr", "pp-mean-std"}),
    "one std": ({**IMAGENET, "std": 0.226}, {"pp-scalar-std"}),
    "shift before scale": ({"scale": 1 / 255, "mean": [0.485 / 255, 0.456 / 255, 0.406 / 255], "std": IMAGENET["std"]},
                           {"pp-scalar-std"}),
}


@cache
def model(nhwc: bool, normalised: bool) -> Graph:
    graph = cnn(0, nhwc=nhwc, normalised=normalised)
    return with_shapes(graph, feeds_of(graph))


def _segment(source: Graph, target: Graph) -> Segment:
    end = next(n.key for n in source.nodes if n.op == "BatchNormalization")
    return segment(source, target, (end, end))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("normalised", [False, True], ids=["bare", "normalised"])
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("code", CODES)
def test_baked_mistake_is_named_and_healed(code: str, nhwc: bool, normalised: bool, seed: int) -> None:
    source, fault = model(nhwc, normalised), get(code)
    made = broken(fault, source, seed)
    if code == "pp-scalar-std" and not normalised:  # where nothing is normalised there is no std
        assert made is None
        return
    assert made is not None
    for site in (_segment(source, made[0]), interface(source, made[0], tolerance=5e-6)):
        assert site.error > 1e-3
        found = claims(site, FAULTS)
        assert found and found[0][0].code == code
        assert found[0][1].confidence >= 0.9
        error, edits = best_trial(site, *found[0])
        assert site.healed(error), [e.describe() for e in edits]


def test_what_is_superfluous_is_removed_and_what_is_wrong_is_corrected() -> None:
    source, fault = model(False, True), get("pp-mean-std")
    kinds = set()
    for seed in range(8):
        made = broken(fault, source, seed)
        assert made is not None
        site = _segment(source, made[0])
        (suspicion,) = fault.detect(site)
        _, edits = best_trial(site, fault, suspicion)
        kinds |= {type(e) for e in edits}
        assert len(apply(made[0], edits).nodes) == len(source.nodes)
    assert kinds == {RemoveNode, SetInput}


def test_reversed_weights_are_put_back_rather_than_gathered() -> None:
    source = model(False, False)
    conv = next(n for n in source.nodes if n.op == "Conv")
    target = apply(source, [SetInput(conv.key, 1, np.ascontiguousarray(source.initializers[conv.inputs[1]][:, ::-1]))])
    site = _segment(source, target)
    (suspicion,) = get("pp-bgr").detect(site)
    proposals = [list(p) for p in get("pp-bgr").propose(site, suspicion)]
    assert [type(e) for p in proposals for e in p] == [SetInput]
    assert np.array_equal(proposals[0][0].value, source.initializers[conv.inputs[1]])


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("config", CONFIGS)
def test_wrong_configuration_is_inferred_from_the_models_alone(config: str, nhwc: bool) -> None:
    source, target = model(False, False), renamed(model(nhwc, False))
    pixels = {k: np.round(v * 255).astype(np.float32) for k, v in feeds_of(source).items()}
    theirs, (ours, expected) = IMAGENET, CONFIGS[config]
    feeds = {k: reprocessed(v, {}, theirs) for k, v in pixels.items()}
    given = {f"v_{k}": reprocessed(v, {}, ours) for k, v in pixels.items()}
    given = {k: np.ascontiguousarray(v.transpose(NHWC)) if nhwc else v for k, v in given.items()}
    for known in ((theirs, ours), (None, ours)):
        site = interface(source, target, feeds, given, preprocess=known, tolerance=2e-5)
        found = claims(site, FAULTS)
        assert {f.code for f, _ in found} == expected
        error, edits = best_trial(site, *found[0])
        assert isinstance(edits[0], SetPreprocessing) and len(edits) == 1
        assert error <= 2e-5
        changed = {**ours, **edits[0].changes}
        assert changed.get("color", "rgb") != "bgr" and not changed.get("transpose_hw")
        for a, b in zip(affine_of(changed, 3), affine_of(theirs, 3), strict=True):
            assert np.allclose(a, b, rtol=1e-3, atol=1e-3)
        baked = [list(p) for p in found[0][0].propose(site, found[0][1])][1:]
        assert baked and min(site.trial(p) for p in baked) < 1e-3


@pytest.mark.parametrize("lost", [False, True], ids=["twice", "lost"])
@pytest.mark.parametrize("tf", [False, True], ids=["unit", "tf"])
def test_a_rescaling_that_one_model_has_built_in(lost: bool, tf: bool) -> None:
    bare = model(False, False)
    nodes: list[New] = [("Div", {}, np.float32([127.5])), ("Sub", {}, np.float32([1]))] if tf else [
        ("Mul", {}, np.float32([1 / 255]))]
    built_in = with_shapes(apply(bare, inserted(bare, places(bare)[0], nodes)), feeds_of(bare))
    source, target = (built_in, bare) if lost else (bare, built_in)
    feeds = {k: v * np.float32(255) if lost else v for k, v in feeds_of(bare).items()}
    site = interface(source, renamed(target), feeds, tolerance=5e-6)
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "pp-double-rescale"
    assert suspicion.evidence["rescaling"] == ("missing" if lost else "superfluous")
    assert site.healed(best_trial(site, fault, suspicion)[0])
    baked = [p for p in fault.propose(site, suspicion) if not isinstance(p[0], SetPreprocessing)]
    assert site.healed(site.trial(baked[0]))
    assert lost or {type(e) for e in baked[0]} == {RemoveNode}


@pytest.mark.parametrize("seed", range(3))
def test_a_rescaling_before_a_layer_that_is_not_linear(seed: int) -> None:
    from tests.faults.support import Builder

    b = Builder(6)
    x = b.op("Tanh", b.input((2, 6, 8), "features"))
    x = b.op("Flatten", x, axis=1)
    source = b.build(b.op("Gemm", x, b.weight(4, 48), b.normal(4), transB=1))
    feeds: dict[str, Array] = {"features": np.random.default_rng(0).standard_normal((2, 6, 8)).astype(np.float32)}
    made = broken(get("pp-double-rescale"), source, seed)
    assert made is not None
    site = interface(source, renamed(made[0]), feeds)
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "pp-double-rescale" and site.healed(best_trial(site, fault, suspicion)[0])
    assert claims(interface(source, renamed(source), feeds), FAULTS) == []


@pytest.mark.parametrize("bgr", [False, True])
def test_pixels_that_a_cast_makes_floats(bgr: bool) -> None:
    """The target takes uint8 images and casts them; what comes behind expects 0…1, and perhaps another order."""
    source = model(False, False)
    cast = InsertNode("image", Node("Cast", ("image",), ("floats",), {"to": 1}, "cast"))
    target = apply(source, [cast])
    target = replace(target, inputs=(replace(target.inputs[0], dtype=np.dtype(np.uint8)),))
    pixels = {k: np.round(v * 255) for k, v in feeds_of(source).items()}
    feeds = {k: (v / 255).astype(np.float32) for k, v in pixels.items()}
    given = {k: (v[:, ::-1] if bgr else v).astype(np.uint8) for k, v in pixels.items()}
    site = interface(source, target, feeds, given, tolerance=2e-5)
    found = claims(site, FAULTS)
    assert {f.code for f, _ in found} == ({"pp-range", "pp-bgr"} if bgr else {"pp-range"})
    error, edits = best_trial(site, *found[0])
    assert site.healed(error) and {e.node.op for e in edits} == ({"Gather", "Mul"} if bgr else {"Mul"})  # type: ignore[union-attr]
    mended = replace(site, target=apply(target, edits))
    assert mended.healed(mended.error) and claims(mended, FAULTS) == []


def test_ranges_are_named() -> None:
    source = model(False, False)
    feeds = feeds_of(source)
    given = {k: v * np.float32(255) for k, v in feeds.items()}
    site = interface(source, source, feeds, given, preprocess=({"scale": 1 / 255}, {}), tolerance=1e-5)
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "pp-range"
    assert (suspicion.evidence["given"], suspicion.evidence["wanted"]) == ("0…255", "0…1")
    assert "0…255" in suspicion.explanation


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_silent_on_healthy_and_on_other_layouts(nhwc: bool) -> None:
    source = model(False, True)
    target = renamed(cnn(0, nhwc=nhwc, normalised=True))
    assert claims(interface(source, target), FAULTS) == []


def test_silent_on_mistakes_of_other_kinds() -> None:
    source = model(False, False)
    conv = next(n for n in source.nodes if n.op == "Conv")
    weight = source.initializers[conv.inputs[1]]
    for value in (weight[:, :, ::-1, ::-1], np.roll(weight, 1, 0), weight + np.float32(0.1)):
        target = apply(source, [SetInput(conv.key, 1, np.ascontiguousarray(value))])
        site = interface(source, target)
        assert site.error > 1e-3
        assert claims(site, FAULTS) == []


def test_a_later_fault_hides_nothing() -> None:
    source = model(False, False)
    gemm = next(n for n in source.nodes if n.op == "Gemm")
    made = broken(get("pp-bgr"), source, 1)
    assert made is not None
    target = apply(made[0], [SetInput(gemm.key, 2, None)])
    assert [m.order for m in maps(interface(source, target))] == [(2, 1, 0)]


def test_gray_and_flat_inputs_have_no_channels() -> None:
    from tests.faults.support import Builder

    b = Builder(0)
    x = b.op("Flatten", b.input((2, 8, 8), "map"), axis=1)
    source = b.build(b.op("Gemm", x, b.weight(4, 64), b.normal(4), transB=1))
    feeds: dict[str, Array] = {"map": np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)}
    site = interface(source, source, feeds, {"map": feeds["map"].swapaxes(1, 2).copy()})
    assert [f.code for f, _ in claims(site, FAULTS)] == ["pp-hw-swap"]
    site = interface(source, source, feeds, {"map": feeds["map"] * np.float32(16)})
    ((fault, suspicion),) = claims(site, FAULTS)
    assert suspicion.evidence["gain"] == pytest.approx([1 / 16], rel=1e-4)
    assert site.healed(best_trial(site, fault, suspicion)[0])


def test_all_of_them_take_both_kinds_of_site() -> None:
    assert {catalogue()[c].scope for c in CODES} == {"both"}
    assert isinstance(interface(model(False, False), model(False, False)), Interface)
    assert replace(get("pp-bgr"), safety="review").code == "pp-bgr"


def test_sequences_have_a_range() -> None:
    """Features of a sequence, (batch, steps, features), have no channels whose mean and deviation could be wrong."""
    b = Builder(0)
    x = b.input((3, 6, 8), "features")
    source = b.build(b.op("MatMul", x, b.weight(8, 4)))
    feeds = {x: b.normal(3, 6, 8)}
    (place,) = places(source)
    target = apply(source, inserted(source, place, [("Mul", {}, np.float32(2.0)), ("Add", {}, np.float32(-1.0))]))
    site = interface(source, target, feeds, tolerance=1e-5)
    ((fault, suspicion),) = claims(site, FAULTS)
    assert fault.code == "pp-range" and site.healed(best_trial(site, fault, suspicion)[0])
