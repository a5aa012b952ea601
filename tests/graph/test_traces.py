"""Localization from activations alone: who introduces, who only passes on, what is merely built otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from fetafix.formats.base import Tap, Taps
from fetafix.graph.traces import Traces, family
from fetafix.ir import Array

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 6)).astype(np.float32)
W = {n: (RNG.normal(size=(4, 4)) / 2).astype(np.float32) for n in "abcd"}
Step = tuple[str, str, Sequence[str], str, Callable[..., Array]]


def mix(weight: Array, scale: float = 1.0) -> Callable[[Array], Array]:
    """A 1×1 convolution of NCHW tensors."""
    return lambda x: np.asarray(np.einsum("oc,nchw->nohw", weight * np.float32(scale), x), np.float32)


def relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


def trace(steps: Sequence[Step], layout: tuple[int, ...] | None = None) -> Taps:
    """What some steps compute; `layout` turns every activation, as another framework would hold it."""
    values: dict[str, Array] = {"x": X}
    for _, _, inputs, out, function in steps:
        values[out] = function(*(values[i] for i in inputs))
    turned = {k: v.transpose(layout) if layout and v.ndim == 4 else v for k, v in values.items()}
    return Taps(tuple(Tap(n, op, tuple(i), (o,)) for n, op, i, o, _ in steps), turned)


def network(op: str = "Conv", **scales: float) -> list[Step]:
    """Two branches that join. scales: by layer, a factor on its weights: a fault."""
    return [
        ("stem", op, ["x"], "s", mix(W["a"], scales.get("stem", 1))), ("act", "Relu", ["s"], "r", relu),
        ("left", op, ["r"], "l", mix(W["b"], scales.get("left", 1))),
        ("right", op, ["r"], "t", mix(W["c"], scales.get("right", 1))),
        ("join", "Add", ["l", "t"], "j", lambda a, b: a + b), ("act2", "Relu", ["j"], "k", relu),
        ("last", op, ["k"], "y", mix(W["d"], scales.get("last", 1))),
    ]


OUT = {"y": "y"}


@pytest.mark.parametrize("layout", [None, (0, 2, 3, 1)])
def test_equal_networks_go_nowhere_astray(layout: tuple[int, ...] | None) -> None:
    traces = Traces(trace(network()), trace(network("conv2d"), layout), OUT)
    assert traces.introduced() == [] and not traces.astray


@pytest.mark.parametrize("layout", [None, (0, 2, 3, 1)])
@pytest.mark.parametrize("layer", ["stem", "left", "right", "last"])
def test_the_faulty_layer_is_named_and_nothing_behind_it(layer: str, layout: tuple[int, ...] | None) -> None:
    traces = Traces(trace(network()), trace(network("conv2d", **{layer: 1.3}), layout), OUT)
    (found,) = traces.introduced()
    assert [t.layer for t in found.layers] == [layer] == [t.layer for t in found.source_layers]
    assert found.error == pytest.approx(0.3, rel=1e-3) and not found.proved
    behind = {"stem": 6, "left": 3, "right": 3, "last": 0}
    assert traces.passed_on([found]) == behind[layer]


def test_faults_in_two_branches_show_at_once() -> None:
    found = Traces(trace(network()), trace(network(left=0.5, right=2.0)), OUT).introduced()
    assert [f.layers[0].layer for f in found] == ["left", "right"]


def test_a_second_fault_behind_the_first_is_not_guessed() -> None:
    traces = Traces(trace(network()), trace(network(stem=1.3, last=1.3)), OUT)
    assert [f.layers[0].layer for f in traces.introduced()] == ["stem"]


def split(steps: list[Step], layer: str) -> list[Step]:
    """A layer in two: three times too much, then a third of it."""
    made: list[Step] = []
    for name, op, inputs, out, function in steps:
        if name == layer:
            made.append((name, op, inputs, f"{out}'", lambda v, f=function: 3 * f(v)))
            made.append((f"{name}/scale", "BatchNorm", [f"{out}'"], out, lambda v: v / np.float32(3)))
        else:
            made.append((name, op, inputs, out, function))
    return made


@pytest.mark.parametrize("layer", ["stem", "left", "last"])
def test_a_layer_that_is_split_in_the_one_and_fused_in_the_other_is_no_fault(layer: str) -> None:
    one, two = trace(network()), trace(split(network(), layer))
    assert Traces(one, two, OUT).introduced() == [] == Traces(two, one, OUT).introduced()


def test_a_fault_in_a_split_layer_is_told_as_the_region_that_it_is() -> None:
    (found,) = Traces(trace(network()), trace(split(network(left=1.3), "left")), OUT).introduced()
    assert [t.layer for t in found.layers] == ["left", "left/scale"] and found.target == "l"


def test_what_is_infinite_begins_where_it_is_made() -> None:
    steps = network()
    steps[2] = ("left", "Conv", ["r"], "l", lambda x: np.where(x > 1, np.float32(np.inf), x))
    (found,) = Traces(trace(network()), trace(steps), OUT).introduced()
    assert [t.layer for t in found.layers] == ["left"] and found.error == np.inf


def test_constants_and_shapes_prove_nothing() -> None:
    """A mask of ones is equal everywhere; what is computed from it and from what is astray stays astray."""
    steps = network(stem=1.3)
    steps.insert(2, ("ones", "ConstantOfShape", ["r"], "o", lambda x: np.ones((2, 4, 6, 6), np.float32)))
    traces = Traces(trace([*network()[:2], steps[2], *network()[2:]]), trace(steps), OUT)
    assert [f.layers[0].layer for f in traces.introduced()] == ["stem"]


@pytest.mark.parametrize(("names", "kind"), [
    (["Conv", "Conv2d", "aten.convolution", "CONV_2D", "DepthwiseConv2D"], "conv"),
    (["Gemm", "Linear", "FULLY_CONNECTED", "Dense", "addmm"], "linear"), (["ReLU6", "Clip", "LeakyRelu"], "relu"),
    (["MaxPool2d", "AVERAGE_POOL_2D", "ReduceMean"], "pool"), (["Twist"], "twist"),
])
def test_operators_of_all_frameworks_have_families(names: list[str], kind: str) -> None:
    assert {family(n) for n in names} == {kind}
