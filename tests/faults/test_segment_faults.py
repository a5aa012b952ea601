"""Segment fault types on small graphs: silent when healthy; after inject the right code at the right node, healed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.edits import apply, cost
from tests.faults import segment_types, support

TYPES, ZOO = segment_types.TYPES, support.ZOO
SEEDS = range(4)

# Where each fault type must find a place.
PLACES = {
    "lh-attribute": ["gemm"],
    "lh-bn-eps": ["conv_bn", "batchnorm"],
    "lh-count-include-pad": ["pooling"],
    "lh-dilation": ["conv", "conv_dilated", "conv_same", "conv_nhwc", "conv_bn"],
    "lh-leaky-alpha": ["leaky", "prelu"],
    "lh-pads-lost": ["conv_strided", "pooling", "max_pooling"],
    "lh-relu6-max": ["clip"],
    "lh-resize-coord": ["resize"],
    "lh-same-asym": ["conv_same", "pad_conv"],
    "lh-softmax-axis": ["softmax"],
    "st-storage": ["conv", "depthwise", "gemm", "matmul_add", "conv_bn"],
    "tss-concat-order": ["concat"],
    "tss-flatten-order": ["flatten_gemm", "flatten_nhwc"],
    "tss-transB": ["gemm", "matmul_add"],
    "tss-transpose": ["transposed", "pad_conv", "conv_nhwc"],
    "wb-bias": ["conv", "conv_bn", "gemm", "conv_nhwc", "flatten_gemm"],
    "wb-bn-fold": ["conv_bn"],
    "wb-bn-param-swap": ["conv_bn", "batchnorm"],
    "wb-kernel-flip": ["conv", "conv_bn", "depthwise", "conv_nhwc"],
    "wb-kernel-layout": ["conv", "conv_bn", "depthwise", "conv_nhwc"],
    "wb-precision": ["conv", "conv_bn", "gemm", "matmul_add"],
    "wb-weights": ["conv", "conv_bn", "gemm", "flatten_nhwc"],
}


def test_every_type_is_tested_here_or_in_a_file_of_its_own() -> None:
    others = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py") if p.name != Path(__file__).name)
    assert set(PLACES) <= set(TYPES)
    assert [code for code in TYPES if code not in PLACES and f'"{code}"' not in others] == []


@pytest.mark.parametrize("zoo", ZOO)
def test_silent_on_healthy(zoo: str) -> None:
    graph = ZOO[zoo](3)
    segment = support.segment_for(graph, ZOO[zoo](3))
    assert segment.error <= segment.tolerance
    assert [s.code for s in segment_types.suspicions(segment)] == []


@pytest.mark.parametrize(("code", "zoo"), [(code, zoo) for code, zoos in PLACES.items() for zoo in zoos])
@pytest.mark.parametrize("seed", SEEDS)
def test_injected_is_named_and_healed(code: str, zoo: str, seed: int) -> None:
    healthy = ZOO[zoo](seed)
    edits = TYPES[code].inject(healthy, np.random.default_rng(seed))
    assert edits
    segment = support.segment_for(healthy, apply(healthy, edits))
    assert segment.error > 1e-4, "the injection is a NO-OP"
    found = segment_types.suspicions(segment)
    assert found[0].code == code, [(s.code, s.confidence) for s in found[:3]]
    assert segment_types.best_error(segment, found[0]) <= 1e-6
    if code not in ("tss-transpose", "tss-flatten-order"):
        assert found[0].target in {e.node for e in edits}


@pytest.mark.parametrize("code", PLACES)
def test_first_proposals_are_smallest(code: str) -> None:
    healthy = ZOO[PLACES[code][0]](1)
    edits = TYPES[code].inject(healthy, np.random.default_rng(1))
    assert edits
    segment = support.segment_for(healthy, apply(healthy, edits))
    found = next(s for s in segment_types.suspicions(segment) if s.code == code)
    proposed = list(TYPES[code].propose(segment, found))
    costs = [cost(segment.full, e) for e in proposed]
    assert costs == sorted(costs)


@pytest.mark.parametrize("code", TYPES)
def test_no_place_means_none(code: str) -> None:
    builder = support.Builder(0)
    graph = builder.build(builder.op("Sigmoid", builder.input((2, 3))))
    assert TYPES[code].inject(graph, np.random.default_rng(0)) is None


@pytest.mark.parametrize("code", PLACES)
def test_injection_is_seeded_and_leaves_no_mark(code: str) -> None:
    healthy = ZOO[PLACES[code][0]](2)
    first, again = (apply(healthy, TYPES[code].inject(healthy, np.random.default_rng(5)) or ()) for _ in range(2))
    assert [n.attrs for n in first.nodes] == [n.attrs for n in again.nodes]
    for name, tensor in first.initializers.items():
        np.testing.assert_array_equal(tensor, again.initializers[name])
    assert first.output_names == healthy.output_names
    if code not in ("tss-transpose", "wb-bn-fold", "tss-flatten-order"):
        assert [n.name for n in first.nodes] == [n.name for n in healthy.nodes]
