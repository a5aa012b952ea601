"""Faults of structure and of weights' order, each through the whole of localization, and where they are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import InsertNode, Rewire, SetAttribute, SetInput, apply
from fetafix.faults import get
from fetafix.ir import Array, Graph, Node
from tests.faults import structures as nets
from tests.faults import through
from tests.faults.support import NHWC, Builder
from tests.faults.through import Case

PLACES: dict[str, list[Callable[[int], Graph]]] = {
    "tss-equal-dims": [nets.cube, nets.axes],
    "tss-transpose": [nets.cube, nets.padded],
    "tss-stale-axis": [nets.axes, nets.joined],
    "tss-d2s-mode": [nets.upscaler, nets.upscaler_written_out],
    "tss-broadcast": [nets.slopes],
    "tss-pad-field-order": [nets.same_padded, lambda seed: nets.same_padded(seed, node=True)],
    "wb-dw-multiplier": [nets.separable],
    "wb-group-interleave": [nets.grouped],
    "wb-initializer-alias": [nets.stacked, nets.grouped],
    "wb-stride-lost": [nets.stacked, nets.tokens],
    "cg-pad-duplicated": [nets.padded, nets.stacked],
}
CASES = [(code, i) for code, models in PLACES.items() for i in range(len(models))]
# Around pointwise layers either of two Transposes, made other, makes good for the other: no evidence tells which.
PAIRED = {"v_t2": {"v_t2", "v_t4"}, "v_t4": {"v_t2", "v_t4"}}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("code", "model"), CASES)
def test_injected_is_named_first_and_healed(code: str, model: int, seed: int) -> None:
    case = Case.of(PLACES[code][model](seed))
    broken, edits = through.injected(case, code, seed)
    at = through.named_by(edits)
    if code in ("tss-equal-dims", "tss-transpose"):
        at |= {k for a in at for k in PAIRED.get(a, ())}
    through.healed(case, broken, code, at)


@pytest.mark.parametrize(("code", "model"), CASES)
def test_injection_leaves_no_mark(code: str, model: int) -> None:
    """New names follow the graph's own, old ones stay, and the same seed does the same."""
    graph = PLACES[code][model](0)
    for seed in range(4):
        made = apply(graph, get(code).inject(graph, np.random.default_rng(seed)) or ())
        again = apply(graph, get(code).inject(graph, np.random.default_rng(seed)) or ())
        assert [(n.op, n.inputs, n.outputs, n.name) for n in made.nodes] == [
            (n.op, n.inputs, n.outputs, n.name) for n in again.nodes]
        assert made.output_names == graph.output_names
        old = {n.key for n in graph.nodes}
        for node in (n for n in made.nodes if n.key not in old):
            assert node.name.rpartition("_")[0] == node.op.lower(), node.name
            assert all(o.startswith("t") for o in node.outputs)
        assert [n.name for n in made.nodes if n.key in old] == [n.name for n in graph.nodes]


@pytest.mark.parametrize("model", [m for models in PLACES.values() for m in models])
def test_silent_on_healthy(model: Callable[[int], Graph]) -> None:
    through.silent(Case.of(model(5)))


# ---------------------------------------------------------------- what differs in form only, and NO-OPs


def convs(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op == "Conv"]


def weight_of(graph: Graph, node: Node) -> Array:
    return graph.initializers[node.inputs[1]]


def test_depth_to_space_written_out_is_silent() -> None:
    for mode in ("CRD", "DCR"):
        source, other = nets.upscaler(1, mode), nets.upscaler_written_out(1, mode)
        through.silent(Case.of(source, lambda _, o=other: through.renamed(o)))  # type: ignore[misc]


def test_depth_to_space_written_out_in_the_other_mode() -> None:
    source, other = nets.upscaler(1, "CRD", 3), nets.upscaler_written_out(1, "DCR", 3)
    case = Case.of(source, lambda _: through.renamed(other))
    through.healed(case, case.target, "tss-d2s-mode", {"v_t4"})


def test_depth_to_space_of_an_operator_set_without_modes() -> None:
    """DCR is all there is before opset 11; the channels are put in order."""
    source, other = nets.upscaler(1, "CRD"), nets.upscaler(1, "DCR", opset=10)
    case = Case.of(source, lambda _: through.renamed(other))
    treatment = through.healed(case, case.target, "tss-d2s-mode", {"v_t3"})
    assert [n.op for n in treatment.target.nodes].count("Gather") == 1


def test_one_channel_has_no_depth_to_space_mode() -> None:
    source = nets.upscaler(1, "CRD", channels=1)
    case = Case.of(source)
    assert get("tss-d2s-mode").inject(source, np.random.default_rng(0)) is None
    through.silent(case, apply(case.target, [SetAttribute("v_t3", "mode", "DCR")]))


def test_equal_slopes_spread_anyhow() -> None:
    b = Builder(0)
    x = nets.conv(b, b.input((2, 3, 6, 6)), 3, 6)
    source = nets.end(b, b.op("PRelu", x, np.full((6, 1, 1), 0.25, np.float32)), 6)
    case = Case.of(source)
    assert get("tss-broadcast").inject(source, np.random.default_rng(0)) is None
    through.silent(case, apply(case.target, [SetInput("v_t1", 1, np.full(6, 0.25, np.float32))]))


def test_constants_in_another_rank_are_silent() -> None:
    case = Case.of(nets.slopes(0))
    slopes = case.target.initializers[case.target.node("v_t1").inputs[1]]
    through.silent(case, apply(case.target, [SetInput("v_t1", 1, slopes.reshape(1, 6, 1, 1))]))


def test_equal_filters_have_no_order() -> None:
    for model, code in ((nets.separable, "wb-dw-multiplier"), (nets.grouped, "wb-group-interleave")):
        graph = model(0)
        same = [SetInput(n.key, 1, np.ones_like(weight_of(graph, n))) for n in convs(graph)]
        assert get(code).inject(apply(graph, same), np.random.default_rng(0)) is None


def test_a_plain_depthwise_layer_has_no_multiplier_order() -> None:
    b = Builder(0)
    source = nets.end(b, nets.conv(b, b.op("Relu", nets.conv(b, b.input((2, 3, 6, 6)), 3, 6)), 6, 6, group=6), 6)
    for code in ("wb-dw-multiplier", "wb-group-interleave"):
        assert get(code).inject(source, np.random.default_rng(0)) is None


def test_tied_weights_are_silent() -> None:
    """Layers that share a tensor in the source may share it, or hold copies."""
    b = Builder(0)
    x = nets.conv(b, b.input((2, 3, 6, 6)), 3, 6)
    shared = b.weight(6, 6, 3, 3)
    attrs = {"kernel_shape": (3, 3), "pads": nets.PADS}
    x = b.op("Relu", b.op("Conv", x, shared, b.normal(6), **attrs))
    x = b.op("Relu", b.op("Conv", x, shared, b.normal(6), **attrs))
    source = nets.end(b, x, 6)
    tied = replace(source, nodes=tuple(
        replace(n, inputs=(n.inputs[0], source.nodes[1].inputs[1], *n.inputs[2:])) if n.key == "t3" else n
        for n in source.nodes))
    through.silent(Case.of(source, lambda _: through.renamed(tied)))
    through.silent(Case.of(tied, lambda _: through.renamed(source)))


def test_an_untied_copy_that_was_shared_gets_its_own_tensor_back() -> None:
    case = Case.of(nets.stacked(0))
    treatment = through.check(case, "wb-initializer-alias", 3)
    readers = [n.inputs[1:] for n in treatment.target.nodes if n.op == "Conv"]
    assert len({i for inputs in readers for i in inputs}) == sum(map(len, readers))


def test_padding_at_an_end_that_is_never_read() -> None:
    """Stride 2 on an even size with one pixel at the end twice: the second is never reached."""
    case = Case.of(nets.same_padded(0))
    name = case.target.node("v_t2").input(0)
    pads = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)
    pad = InsertNode(name, Node("Pad", (name, "p"), ("v_p",), {}, "pad"), {"p": pads}, (("v_t2", 0),))
    through.silent(case, apply(case.target, [pad]))


def test_a_pad_whose_surplus_is_cut_on_both_sides() -> None:
    case = Case.of(nets.padded(0))
    name, out = case.target.node("v_t6").input(0), "v_t6"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    bounds = {"s": np.array([1, 1], np.int64), "e": np.array([-1, -1], np.int64), "a": np.array([2, 3], np.int64)}
    through.silent(case, apply(case.target, [
        InsertNode(name, Node("Pad", (name, "p"), ("v_p",), {}, "pad"), {"p": pads}, ((out, 0),)),
        InsertNode(out, Node("Slice", (out, "s", "e", "a"), ("v_c",), {}, "cut"), bounds),
    ]))


def test_channels_last_target_with_its_own_axes_is_silent() -> None:
    """The same model in NHWC, its axes renumbered; with the source's numbers kept it is found."""
    def model(nhwc: bool, axes: tuple[int, int]) -> Graph:
        b = Builder(3)
        x = b.op("Relu", nets.conv(b, b.input((2, 3, 6, 6)), 3, 6))
        x = b.op("Transpose", x, perm=NHWC) if nhwc else x
        x = b.op("Sub", x, b.op("ReduceMean", x, axes=(axes[0],), keepdims=1))
        x = b.op("Tanh", b.op("Gather", x, np.array([1, 0, 3, 2, 5, 4], np.int64), axis=axes[1]))
        x = b.op("Transpose", x, perm=(0, 3, 1, 2)) if nhwc else x
        return nets.end(b, nets.conv(b, x, 6, 5), 5)

    source = model(False, (1, 1))
    through.silent(Case.of(source, lambda _: through.renamed(model(True, (3, 3)))))
    for axes, at in (((1, 3), {"v_t3"}), ((3, 1), {"v_t5"})):
        case = Case.of(source, lambda _, a=axes: through.renamed(model(True, a)))  # type: ignore[misc]
        found = through.healed(case, case.target, "tss-stale-axis", at)
        assert found.steps[0].diagnosis.suspicions[0].evidence["stale"]


# ---------------------------------------------------------------- older types: where they are none, and other forms


def test_rows_of_a_constant_map_have_no_order() -> None:
    """Where a map is constant along its pixels, rows within a channel may change places."""
    b = Builder(0)
    x = b.op("GlobalAveragePool", b.op("Relu", nets.conv(b, b.input((2, 3, 6, 6)), 3, 4)))
    x = b.op("Flatten", b.op("Expand", x, np.array([1, 1, 2, 3], np.int64)), axis=1)
    source = b.build(b.op("Gemm", x, b.weight(5, 24), b.normal(5), transB=1))
    case = Case.of(source)
    rows = case.target.initializers[case.target.node("v_t5").inputs[1]].reshape(5, 4, 2, 3)
    moved = np.ascontiguousarray(rows.transpose(0, 1, 3, 2)).reshape(5, 24)
    through.silent(case, apply(case.target, [SetInput("v_t5", 1, moved)]))


def test_a_bound_out_of_reach_is_silent_and_one_within_reach_is_found() -> None:
    def model(high: float, size: float) -> Graph:
        b = Builder(2)
        x = b.op("Mul", b.op("Sigmoid", nets.conv(b, b.input((2, 3, 6, 6)), 3, 4)), np.array(size, np.float32))
        bounds = (np.array(0, np.float32), np.array(high, np.float32)) if high else (np.array(0, np.float32),)
        return nets.end(b, nets.conv(b, b.op("Clip", x, *bounds), 4, 5), 5)

    through.silent(Case.of(model(6, 5.5), lambda _: through.renamed(model(0, 5.5))))
    case = Case.of(model(6, 9), lambda _: through.renamed(model(0, 9)))
    through.healed(case, case.target, "lh-relu6-max", {"v_t3"})


def test_a_symmetric_kernel_has_no_direction_and_no_order() -> None:
    b = Builder(0)
    w = b.weight(4, 3, 3, 3)
    w = w + w[:, :, ::-1, ::-1]
    x = b.op("Conv", b.input((2, 3, 6, 6)), np.ascontiguousarray(w), b.normal(4), kernel_shape=(3, 3), pads=nets.PADS)
    source = nets.end(b, b.op("Relu", x), 4)
    turned = SetInput("v_t0", 1, np.ascontiguousarray(w[:, :, ::-1, ::-1]))
    through.silent(Case.of(source), apply(Case.of(source).target, [turned]))


@pytest.mark.parametrize("seed", range(3))
def test_bytes_in_reverse_are_damaged_storage(seed: int) -> None:
    case = Case.of(nets.stacked(seed))
    layer = convs(case.target)[1 + seed]
    swapped = weight_of(case.target, layer).byteswap()
    through.healed(case, apply(case.target, [SetInput(layer.key, 1, swapped)]), "st-storage", {layer.key})


def test_exchanged_operands_of_a_normalisation_that_the_source_has_as_one_operator() -> None:
    b, c = Builder(6), Builder(6)
    gamma, beta = b.normal(8, mean=1.0, scale=0.2), b.normal(8, scale=0.2)
    x = b.op("LayerNormalization", b.op("Tanh", b.input((2, 5, 8))), gamma, beta, axis=-1, epsilon=1e-3)
    source = b.build(b.op("MatMul", x, b.weight(8, 4)))
    y = c.op("Tanh", c.input((2, 5, 8)))
    y = c.op("Sub", y, c.op("ReduceMean", y, axes=(-1,)))
    spread = c.op("ReduceMean", c.op("Mul", y, y), axes=(-1,))
    y = c.op("Div", y, c.op("Sqrt", c.op("Add", spread, np.array(1e-3, np.float32))))
    y = c.op("Add", c.op("Mul", y, gamma), beta)
    target = c.build(c.op("MatMul", y, source.initializers[source.nodes[2].inputs[1]]))
    case = Case.of(source, lambda _: through.renamed(target))
    through.silent(case)
    for key in ("v_t2", "v_t7"):
        node = case.target.node(key)
        exchanged = [Rewire(key, 0, node.inputs[1]), Rewire(key, 1, node.inputs[0])]
        through.healed(case, apply(case.target, exchanged), "cg-operand-swap", {key})
