"""Differences that change nothing: other forms of the same function give no finding and no edit.

Each pair is a NO-OP of the catalogue or another converter's way to write the same model. The first tests hold that the
two really are equal, so a pair that drifts apart cannot pass unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fetafix import api
from fetafix.faults import catalogue
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.proto import model_from_graph
from fetafix.graph.segment import Layout
from fetafix.ir import Graph
from fetafix.report import Verdict
from fetafix.treat import treat
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, NCHW, NHWC, Builder

SHAPE = (2, 4, 9, 9)
Pair = tuple[Graph, Graph]


def close(b: Builder, x: str, channels: int = 4) -> Graph:
    """A classifier behind the part in question, so that there are weights before and after it."""
    x = b.op("Relu", b.op("Conv", x, b.weight(6, channels, 3, 3), b.normal(6), kernel_shape=(3, 3)))
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return b.build(b.op("Gemm", x, b.weight(5, 6), b.normal(5), transB=1))


def stem(b: Builder, shape: tuple[int, ...] = SHAPE) -> str:
    x = b.input(shape, "x")
    return b.op("Conv", x, b.weight(4, shape[1], 1, 1), b.normal(4), kernel_shape=(1, 1))


def pair(part: Callable[[Builder, str, bool], str], shape: tuple[int, ...] = SHAPE) -> Pair:
    """The same model twice, but for a part; weights are drawn alike."""
    made = []
    for other in (False, True):
        b = Builder(7)
        made.append(close(b, part(b, stem(b, shape), other)))
    return made[0], renamed(made[1])


def conv(b: Builder, x: str, **attrs: object) -> str:
    return b.op("Conv", x, b.weight(4, 4, 3, 3), b.normal(4), kernel_shape=(3, 3), **attrs)


def pool(b: Builder, x: str, **attrs: object) -> str:
    return b.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), **attrs)


def resize(b: Builder, x: str, **attrs: object) -> str:
    return b.op("Resize", x, "", np.array([1, 1, 2, 2], np.float32), **attrs)


def padded_pool(b: Builder, x: str, other: bool) -> str:
    x = b.op("Relu", x)
    if not other:
        return pool(b, x, pads=(1, 1, 1, 1))
    return pool(b, b.op("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))


def padded_conv(b: Builder, x: str, other: bool) -> str:
    if other:
        x = b.op("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    return conv(b, x, pads=(0, 0, 0, 0) if other else (1, 1, 1, 1))


def symmetric_gemm(b: Builder, x: str, other: bool) -> str:
    """A transposed weight that is its own transpose."""
    w = b.weight(4, 4)
    x = b.op("Transpose", x, perm=NHWC)
    x = b.op("MatMul", x, np.ascontiguousarray((w + w.T).T) if other else w + w.T)
    return b.op("Transpose", x, perm=NCHW)


def split_bias(b: Builder, x: str, other: bool) -> str:
    w, bias = b.weight(4, 4, 3, 3), b.normal(4)
    if not other:
        return b.op("Conv", x, w, bias, kernel_shape=(3, 3))
    return b.op("Add", b.op("Conv", x, w, kernel_shape=(3, 3)), bias.reshape(4, 1, 1))


def merged_transposes(b: Builder, x: str, other: bool) -> str:
    if other:
        return b.op("Transpose", b.op("Relu", b.op("Transpose", x, perm=NHWC)), perm=NCHW)
    return b.op("Relu", x)


def swish(b: Builder, x: str, other: bool) -> str:
    return b.op("HardSwish", x) if not other else b.op("Mul", x, b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def clip(b: Builder, x: str, other: bool) -> str:
    """A bound that no activation reaches."""
    x = b.op("Sigmoid", x)
    return x if other else b.op("Clip", x, np.array(0, np.float32), np.array(6, np.float32))


PAIRS: dict[str, Callable[[], Pair]] = {
    "SAME at stride 1 as explicit pads": lambda: pair(
        lambda b, x, other: conv(b, x, **({"auto_pad": "SAME_UPPER"} if other else {"pads": (1, 1, 1, 1)}))),
    "SAME_LOWER for SAME_UPPER at stride 1": lambda: pair(
        lambda b, x, other: conv(b, x, auto_pad="SAME_LOWER" if other else "SAME_UPPER")),
    "SAME at stride 2 of an odd input": lambda: pair(
        lambda b, x, other: conv(b, x, strides=(2, 2),
                                 **({"auto_pad": "SAME_UPPER"} if other else {"pads": (1, 1, 1, 1)}))),
    "Pad before a Conv": lambda: pair(padded_conv),
    "zeros around a pool behind a Relu": lambda: pair(padded_pool),
    "a bias of its own": lambda: pair(split_bias),
    "Transposes that cancel": lambda: pair(merged_transposes),
    "HardSwish in two": lambda: pair(swish),
    "a Clip bound out of reach": lambda: pair(clip),
    "a symmetric matrix transposed": lambda: pair(symmetric_gemm),
    "nearest at ×2, either rule": lambda: pair(
        lambda b, x, other: resize(b, x, mode="nearest", **(
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if other else
            {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}))),
    "half_pixel and pytorch_half_pixel": lambda: pair(
        lambda b, x, other: resize(b, x, mode="linear", coordinate_transformation_mode=(
            "pytorch_half_pixel" if other else "half_pixel"))),
    "Softmax over the last axis by either name": lambda: pair(
        lambda b, x, other: b.op("Softmax", x, axis=3 if other else -1)),
    "an average without padding, counted or not": lambda: pair(
        lambda b, x, other: b.op("AveragePool", x, kernel_shape=(2, 2), count_include_pad=int(other))),
    "Flatten of a single pixel": lambda: pair(
        lambda b, x, other: b.op("Transpose", b.op("Transpose", x, perm=NHWC), perm=NCHW) if other else x,
        (2, 4, 3, 3)),
}


@pytest.fixture(params=PAIRS, scope="module")
def both(request: pytest.FixtureRequest) -> tuple[Pair, np.ndarray]:
    made: Pair = PAIRS[request.param]()
    shape = tuple(d for d in made[0].inputs[0].shape or () if isinstance(d, int))
    return made, np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_the_two_forms_really_are_equal(both: tuple[Pair, np.ndarray]) -> None:
    (source, target), x = both
    (first,) = EVALUATOR.run(source, {source.input_names[0]: x}, source.output_names)
    (second,) = EVALUATOR.run(target, {target.input_names[0]: x}, target.output_names)
    assert np.abs(first - second).max() < 1e-5


def test_nothing_is_guilty_and_nothing_is_edited(both: tuple[Pair, np.ndarray]) -> None:
    (source, target), x = both
    aligner = Aligner(source, {source.input_names[0]: x}, EVALUATOR)
    twin = InputTwin(target.input_names[0], source.input_names[0], Layout())
    outputs = dict(zip(target.output_names, source.output_names, strict=True))
    treatment = treat(lambda g: aligner.align(g, (twin,), outputs), target, list(catalogue().values()))
    assert treatment.steps == ()
    assert treatment.target is target


def test_the_commands_find_nothing_either(tmp_path: Path) -> None:
    source, target = PAIRS["SAME at stride 2 of an odd input"]()
    paths = []
    for name, graph in (("a.onnx", source), ("b.onnx", target)):
        paths.append(tmp_path / name)
        onnx.save(model_from_graph(graph), str(paths[-1]))
    report = api.repair(*paths, api.Options(samples=12), api.RepairOptions(output=tmp_path / "c.onnx", apply=True))
    assert report.verdict is Verdict.EQUIVALENT
    assert (report.findings, report.repairs, report.output) == ([], [], None)
    assert not (tmp_path / "c.onnx").exists()
