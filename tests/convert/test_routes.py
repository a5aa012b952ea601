"""Routes are planned from the table alone."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.convert.converters import CONVERTERS, Converter
from fetafix.convert.kinds import NAMES, SUFFIXES, Target, target_of
from fetafix.convert.routes import Route, plan

KINDS = (*SUFFIXES, "state_dict")


def chain(route: Route) -> list[str]:
    return [route.steps[0].source, *(s.target for s in route.steps)]


@pytest.mark.parametrize(("source", "target", "kinds", "converters"), [
    ("keras", "tflite", ["keras", "tflite"], ["TFLite converter"]),
    ("torch", "tflite", ["torch", "onnx", "tflite"], ["torch.onnx", "onnx2tf"]),
    ("tflite", "torch", ["tflite", "onnx", "torch"], ["tf2onnx", "onnx2torch"]),
    ("saved_model", "torch", ["saved_model", "onnx", "torch"], ["tf2onnx", "onnx2torch"]),
    ("h5", "keras", ["h5", "keras"], ["keras.save"]),
    ("keras", "graphdef", ["keras", "saved_model", "graphdef"], ["keras.export", "tf.freeze"]),
    ("onnx", "pt2", ["onnx", "torch", "pt2"], ["onnx2torch", "torch.export"]),
    ("tflite", "keras", ["tflite", "onnx", "keras"], ["tf2onnx", "onnx2tf"]),
])
def test_the_first_route_is_the_usual_one(
    source: str, target: str, kinds: list[str], converters: list[str]
) -> None:
    first = plan(source, Target(target))[0]
    assert chain(first) == kinds and [s.converter.name for s in first.steps] == converters


@pytest.mark.parametrize(("source", "target"), [p for p in permutations(KINDS, 2) if p[1] != "state_dict"])
def test_every_format_leads_to_every_other(source: str, target: str) -> None:
    routes = plan(source, Target(target))
    assert routes
    for route in routes:
        kinds = chain(route)
        assert kinds[0] == source and kinds[-1] == target and len(set(kinds)) == len(kinds)
        for step in route.steps:
            assert step.source in step.converter.sources and step.options in step.converter.variants
    assert [r.cost for r in routes] == sorted(r.cost for r in routes)
    assert len({tuple(s.key for s in r.steps) for r in routes}) == len(routes)


def test_other_options_of_the_short_way_come_before_a_longer_one() -> None:
    routes = plan("keras", Target("onnx"))
    opsets = [r.steps[0].options for r in routes if len(r.steps) == 1]
    assert [len(r.steps) for r in routes[:3]] == [1, 1, 1] and opsets == [{"opset": n} for n in (17, 15, 13)]
    assert {len(r.steps) for r in routes[3:]} == {2}


@pytest.mark.parametrize("precision", ["fp16", "dynamic", "int8"])
def test_a_precision_is_made_by_the_last_step(precision: str) -> None:
    for source in ("torch", "onnx", "keras", "saved_model"):
        routes = plan(source, Target("tflite", precision))
        assert routes and all([s.precision for s in r.steps] == [""] * (len(r.steps) - 1) + [precision] for r in routes)


def test_onnx2tf_calibrates_nothing_so_int8_goes_by_the_tflite_converter() -> None:
    routes = plan("torch", Target("tflite", "int8"))
    assert {r.steps[-1].converter.name for r in routes} == {"TFLite converter"}


def test_what_the_user_chose_rules_the_variants() -> None:
    routes = plan("torch", Target("onnx"), opset=15, exporter="dynamo")
    steps = [s for r in routes for s in r.steps if s.converter.name == "torch.onnx"]
    assert steps and {(s.options["exporter"], s.options["opset"]) for s in steps} == {("dynamo", 15)}


def test_no_way_is_no_route() -> None:
    only = Converter("a", ("onnx",), "torch", "m:f")
    assert plan("keras", Target("torch"), converters=[only]) == ()
    assert plan("onnx", Target("torch"), exporter="dynamo", converters=[only])  # it has no exporter to choose
    picky = Converter("b", ("torch",), "onnx", "m:f", ({"exporter": "torchscript"},))
    assert plan("torch", Target("onnx"), exporter="dynamo", converters=[picky]) == ()


@given(st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, len(CONVERTERS)))
def test_fewer_converters_never_make_more_ways(source: str, name: str, count: int) -> None:
    target = target_of("x", name)
    known = {tuple(c.name for c in (s.converter for s in r.steps)) for r in plan(source, target)}
    some = plan(source, target, converters=CONVERTERS[:count])
    shortest = min((len(k) for k in known), default=0)
    for route in some:
        names = tuple(s.converter.name for s in route.steps)
        assert names in known or len(names) > shortest + 1
