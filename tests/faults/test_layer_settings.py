"""Settings of convolutions, poolings, resizing and normalisations, through the whole of localization."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.faults import get
from tests.faults import layers as made
from tests.faults.layers import model
from tests.faults.models import renamed
from tests.faults.through import Case, check, healed, silent

AA = {"mode": "linear", "antialias": 1}
# Fault type → models that must have a place for it.
INJECTED: dict[str, dict[str, made.Part]] = {
    "lh-auto-pad": {
        "upper": made.strided(auto_pad="SAME_UPPER"), "explicit": made.strided(pads=(0, 0, 1, 1)),
        "pool": made.pool(auto_pad="SAME_LOWER"), "symmetric": made.strided(pads=(1, 1, 1, 1)),
        "even kernel": lambda b, x: made.conv(b, x, kernel=4, auto_pad="SAME_UPPER"),
    },
    "lh-stride": {"bottleneck": made.bottleneck(2, 1), "v1.5": made.bottleneck(1, 2),
                  "pool": made.pool(kernel=3, pads=(1, 1, 1, 1))},
    "lh-ceil-mode": {"average": made.pool("AveragePool", ceil_mode=1), "max": made.pool("MaxPool", ceil_mode=1),
                     "floor": made.pool("MaxPool", ceil_mode=0)},
    "lh-maxpool-zero-pad": {"symmetric": made.pool(pads=(1, 1, 1, 1)), "same": made.pool(auto_pad="SAME_UPPER")},
    "lh-convT-outpad": {
        "torch": made.transposed_conv(pads=(1, 1, 1, 1), output_padding=(1, 1)),
        "end": made.transposed_conv(pads=(0, 0, 1, 1)), "slice": made.transposed_conv((1, 20)),
        "slice, channels last": made.transposed_conv((0, 20), last=True),
    },
    "lh-elu-alpha": {"elu": made.elu("operator", 0.7), "celu": made.single("Celu", alpha=2.0),
                     "selu": made.single("Selu")},
    "lh-hardsigmoid": {"alone": made.single("HardSigmoid", alpha=1 / 6), "gate": made.hard_sigmoid("gate")},
    "lh-lrn": {"five": made.lrn(), "three": made.lrn(size=3, bias=2.0), "spelled": made.lrn("spelled")},
    "lh-nearest-mode": {
        "fraction": made.resize(1.7, mode="nearest"),
        "double": made.resize(2.0, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    },
    "lh-cubic-a": {"up": made.resize(2.0, mode="cubic"), "down, torch": made.resize(
        0.5, mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="pytorch_half_pixel")},
    "lh-scale-vs-size": {
        "linear": made.resize(1.75, mode="linear"), "sizes": made.resize((17, 17), mode="linear"),
        "asymmetric": made.resize(1.55, mode="linear", coordinate_transformation_mode="asymmetric"),
        "nearest": made.resize(1.75, mode="nearest"),
    },
    "lh-pad-mode": {
        "none": lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1)),
        "reflect": made.single("Pad", made.pads(1, 2, 1, 2), mode="reflect"), "edge": made.single(
            "Pad", made.pads(2, 0, 0, 1), mode="edge"), "zeros": made.single("Pad", made.pads(1, 1, 2, 2)),
    },
    "lh-gridsample": {"zeros": made.grid_sample(), "corners": made.grid_sample(align_corners=1, padding_mode="border")},
    "lh-in-gn": {"groups": made.group_norm(4), "instance": made.instance_norm(1e-6)},
    "vs-upsample": {
        "linear": made.resize(2.0, mode="linear", coordinate_transformation_mode="asymmetric"),
        "nearest": made.resize(1.7, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    },
    "vs-groupnorm": {"reshape": made.group_norm(4), "two": made.group_norm(2)},
}
TIMES = {"lh-stride": 2}  # layers that exchange their strides are two places
NEWER = {("lh-cubic-a", "antialias"): (18, made.resize(0.5, **AA)),
         ("lh-scale-vs-size", "sizes of axes"): (18, made.resize(1.75, mode="linear")),
         ("lh-in-gn", "operator"): (21, made.group_norm(4, "operator")),
         ("vs-groupnorm", "operator"): (21, made.group_norm(4, "operator")),
         ("lh-gridsample", "linear"): (20, made.grid_sample(mode="linear"))}
CASES = [(code, name, 17, part) for code, parts in INJECTED.items() for name, part in parts.items()]
CASES += [(code, name, opset, part) for (code, name), (opset, part) in NEWER.items()]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("code", "name", "opset", "part"), CASES, ids=[f"{c}-{n}" for c, n, _, _ in CASES])
def test_injected_is_named_and_healed(code: str, name: str, opset: int, part: made.Part, seed: int) -> None:
    check(Case.of(model(part, opset=opset, seed=seed)), code, seed, times=TIMES.get(code, 1))


# ---------------------------------------------------------------- the same function, broken in another form

Z, HALF, LOWEST = np.zeros(0, np.float32), np.array(0.5, np.float32), np.array(-3.4e38, np.float32)
FORMS: dict[str, tuple[str, int, made.Part, int, made.Part]] = {
    "SAME written out, read as the other side": (
        "lh-auto-pad", 17, made.strided(pads=(0, 0, 1, 1)), 17, made.strided(auto_pad="SAME_LOWER")),
    "a Pad in front, automatic on the other side": (
        "lh-auto-pad", 17, lambda b, x: made.strided()(b, b.op("Pad", x, made.pads(0, 0, 1, 1))),
        17, made.strided(auto_pad="SAME_LOWER")),
    "a strided 1×1 for a strided 3×3": ("lh-stride", 17, made.bottleneck(1, 2), 17, made.bottleneck(2, 1)),
    "another window": (
        "lh-stride", 17, made.pool(kernel=3, pads=(1, 1, 1, 1)), 17, made.pool(kernel=2)),
    "ceil_mode as counted pads": (
        "lh-ceil-mode", 17, made.pool("AveragePool", ceil_mode=1, count_include_pad=1, pads=(1, 1, 1, 1)),
        17, made.pool("AveragePool", count_include_pad=1, pads=(1, 1, 2, 2))),
    "counted pads as ceil_mode": (
        "lh-ceil-mode", 17, made.pool("AveragePool", count_include_pad=1, pads=(0, 0, 1, 1)),
        17, made.pool("AveragePool", ceil_mode=1)),
    "ceil_mode lost before global pooling": (
        "lh-ceil-mode", 17, made.pool("MaxPool", ceil_mode=1), 17, made.pool("MaxPool")),
    "zeros by a Pad, channels last": (
        "lh-maxpool-zero-pad", 17, made.pool(pads=(1, 1, 1, 1)), 17, lambda b, x: b.op("MaxPool", b.op(
            "Transpose", b.op("Pad", b.op("Transpose", x, perm=made.NHWC), np.array([0, 1, 1, 0] * 2, np.int64)),
            perm=made.NCHW), kernel_shape=(3, 3), strides=(2, 2))),
    "a meant Pad of zeros merged": (
        "lh-maxpool-zero-pad", 17, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1))),
        17, made.pool(pads=(1, 1, 1, 1))),
    "zeros in the Pad of lowest numbers": (
        "lh-maxpool-zero-pad", 17, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1), LOWEST)),
        17, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1)))),
    "another number": ("lh-pad-mode", 17, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1), HALF)),
                       17, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1)))),
    "torch's output_padding as less crop": (
        "lh-convT-outpad", 17, made.transposed_conv(pads=(1, 1, 1, 1), output_padding=(1, 1)),
        17, made.transposed_conv(pads=(0, 0, 1, 1))),
    "a crop as a Slice of the wrong rows": (
        "lh-convT-outpad", 17, made.transposed_conv(pads=(0, 0, 1, 1)), 17, made.transposed_conv((1, 20))),
    "a crop as two Slices of the wrong rows": (
        "lh-convT-outpad", 17, made.transposed_conv(pads=(1, 1, 1, 1), output_padding=(1, 1)),
        17, made.transposed_conv((0, 20), apart=True)),
    "an Elu spelled by TensorFlow": (
        "lh-elu-alpha", 17, made.elu("operator", 0.4), 17, made.elu("select", 1.0)),
    "HardSwish in two of another slope": (
        "lh-hardsigmoid", 17, made.hard_sigmoid("operator"), 17, made.hard_sigmoid("gate", 0.2)),
    "HardSwish spelled with another slope": (
        "lh-hardsigmoid", 17, made.hard_sigmoid("operator"), 17, made.hard_sigmoid("clip", 0.2)),
    "spelled HardSwish as the gate of another": (
        "lh-hardsigmoid", 17, made.hard_sigmoid("clip"), 17, made.hard_sigmoid("gate", 0.2)),
    "an LRN spelled without its size": (
        "lh-lrn", 17, made.lrn(), 17, made.lrn("spelled", alpha=0.1)),
    "an LRN spelled with another bias": (
        "lh-lrn", 17, made.lrn(), 17, made.lrn("spelled", bias=2.0)),
    "an LRN spelled on both sides": ("lh-lrn", 17, made.lrn("spelled"), 17, made.lrn("spelled", alpha=0.1)),
    "an LRN spelled on both sides, another bias": ("lh-lrn", 17, made.lrn("spelled"), 17, made.lrn("spelled", bias=2)),
    "an LRN spelled on both sides, another size": ("lh-lrn", 17, made.lrn("spelled"), 17, made.lrn("spelled", size=3)),
    "Upsample relabelled as Resize": (
        "vs-upsample", 9, made.upsample(2.0, "linear"), 13,
        lambda b, x: b.op("Resize", x, Z, np.array([1, 1, 2, 2], np.float32), mode="linear")),
    "Upsample as Resize by half_pixel": (
        "vs-upsample", 9, made.upsample(1.7, "nearest"), 13,
        lambda b, x: b.op("Resize", x, Z, np.array([1, 1, 1.7, 1.7], np.float32), mode="nearest",
                          coordinate_transformation_mode="half_pixel")),
    "a nearest rule in another form": (
        "lh-nearest-mode", 17, made.resize(2.0, mode="nearest", coordinate_transformation_mode="asymmetric",
                                           nearest_mode="floor"),
        17, made.resize(2.0, mode="nearest", nearest_mode="ceil", coordinate_transformation_mode="asymmetric")),
    "both in other words": (
        "lh-nearest-mode", 17, made.resize(2.0, mode="nearest"), 17, made.resize(
            2.0, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="ceil")),
    "a cubic coefficient where sizes are computed": (
        "lh-cubic-a", 17, made.resize_computed(17, mode="cubic"), 17, made.resize_computed(
            17, mode="cubic", cubic_coeff_a=-0.5)),
    "sizes computed for fractional scales": (
        "lh-scale-vs-size", 17, made.resize(1.75, mode="linear"), 17, made.resize_computed(17, mode="linear")),
    "fractional scales for sizes computed": (
        "lh-scale-vs-size", 17, made.resize_computed(17, mode="linear"), 17, made.resize(1.75, mode="linear")),
    "sizes for fractional scales": (
        "lh-scale-vs-size", 17, made.resize(1.75, mode="linear"), 17, made.resize((17, 17), mode="linear")),
    "scales for sizes": (
        "lh-scale-vs-size", 17, made.resize((17, 17), mode="linear"), 17, made.resize(1.75, mode="linear")),
    "reflection merged into the convolution": (
        "lh-pad-mode", 17, lambda b, x: made.conv(b, b.op("Pad", x, made.pads(1, 1, 1, 1), mode="reflect")),
        17, lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1))),
    "reflection, channels last, merged": (
        "lh-pad-mode", 17, lambda b, x: made.conv(b, b.op("Transpose", b.op(
            "Pad", b.op("Transpose", x, perm=made.NHWC), np.array([0, 1, 1, 0] * 2, np.int64), mode="reflect"),
            perm=made.NCHW)),
        17, lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1))),
    "reflection for zeros": (
        "lh-pad-mode", 17, lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1)),
        17, lambda b, x: made.conv(b, b.op("Pad", x, made.pads(1, 1, 1, 1), mode="reflect"))),
    "another operator set's name for a mode": (
        "lh-gridsample", 16, made.grid_sample(align_corners=1), 20, made.grid_sample(mode="linear")),
    "one group as instances": ("lh-in-gn", 17, made.group_norm(1), 17, made.instance_norm()),
    "one group as instances of a newer set": (
        "lh-in-gn", 21, made.group_norm(1, "operator"), 21, made.instance_norm()),
    "groups spelled out wrongly": ("lh-in-gn", 21, made.group_norm(4, "operator"), 17, made.group_norm(2)),
    "groups of the operator": ("lh-in-gn", 17, made.group_norm(2), 21, made.group_norm(4, "operator")),
    "scales in the slots of the groups": ("vs-groupnorm", 17, made.group_norm(4), 17, made.group_norm(4, "collapsed")),
    "scales in the slots of the groups, from the operator": (
        "vs-groupnorm", 21, made.group_norm(2, "operator"), 17, made.group_norm(2, "collapsed")),
    "scales of groups in an older set": (
        "vs-groupnorm", 21, made.group_norm(4, "operator"), 18, made.group_norm(4, "older")),
    "another ε in the spelled form": (
        "lh-in-gn", 21, made.group_norm(4, "operator", 1e-3), 17, made.group_norm(4, epsilon=1e-5)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_fault_in_another_form_is_named_and_healed(name: str) -> None:
    code, first, source, second, target = FORMS[name]
    case = Case.of(model(source, opset=first), lambda _: renamed(model(target, opset=second)))
    healed(case, case.target, code, set(), times=TIMES.get(code, 1))


# ---------------------------------------------------------------- differences that change nothing

RELU = made.single("Relu")


def behind(first: made.Part, second: made.Part) -> made.Part:
    """One part behind another."""
    return lambda b, x: second(b, first(b, x))


def two(scale: float, **attrs: object) -> made.Part:
    return made.resize(scale, mode="nearest", **attrs)


ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
NOTHING: dict[str, tuple[int, int, made.Part, int, made.Part]] = {
    "SAME at stride 1, odd kernel": (10, 17, lambda b, x: made.conv(b, x, auto_pad="SAME_UPPER"),
                                     17, lambda b, x: made.conv(b, x, auto_pad="SAME_LOWER")),
    "SAME of odd size at stride 2": (9, 17, made.strided(auto_pad="SAME_UPPER"),
                                     17, made.strided(auto_pad="SAME_LOWER")),
    "SAME written out": (10, 17, made.strided(auto_pad="SAME_UPPER"), 17, made.strided(pads=(0, 0, 1, 1))),
    "padding that is never read": (10, 17, made.strided(pads=(1, 1, 1, 1)), 17, made.strided(auto_pad="SAME_LOWER")),
    "SAME as a Pad in front": (10, 17, made.strided(auto_pad="SAME_UPPER"), 17, lambda b, x: made.strided()(
        b, b.op("Pad", x, made.pads(0, 0, 1, 1)))),
    "zeros around a pool behind Relu": (10, 17, behind(RELU, made.pool(pads=(1, 1, 1, 1))), 17, behind(
        RELU, lambda b, x: made.pool()(b, b.op("Pad", x, made.pads(1, 1, 1, 1))))),
    "lowest numbers around a pool": (10, 17, made.pool(pads=(1, 1, 1, 1)), 17, lambda b, x: made.pool()(
        b, b.op("Pad", x, made.pads(1, 1, 1, 1), LOWEST))),
    "ceil_mode of a MaxPool as pads": (10, 17, made.pool(ceil_mode=1), 17, made.pool(pads=(0, 0, 1, 1))),
    "ceil_mode of an average as uncounted pads": (
        10, 17, made.pool("AveragePool", ceil_mode=1), 17, made.pool("AveragePool", pads=(0, 0, 1, 1))),
    "ceil_mode where the size divides": (9, 17, made.pool(ceil_mode=1), 17, made.pool()),
    "count_include_pad without pads": (10, 17, made.pool("AveragePool", 2, count_include_pad=1), 17, made.pool(
        "AveragePool", 2)),
    "a stride over a 1×1": (10, 17, behind(lambda b, x: made.conv(b, x, kernel=1, strides=(2, 2)),
                                           lambda b, x: made.conv(b, x, kernel=1)),
                            17, behind(lambda b, x: made.conv(b, x, kernel=1),
                                       lambda b, x: made.conv(b, x, kernel=1, strides=(2, 2)))),
    "a stride as a pooling of one pixel": (10, 17, made.strided(pads=(1, 1, 1, 1)), 17, behind(
        lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1)), made.pool(kernel=1))),
    "output_padding as less crop": (
        10, 17, made.transposed_conv(pads=(1, 1, 1, 1), output_padding=(1, 1)), 17, made.transposed_conv(
            pads=(1, 1, 0, 0))),
    "a crop as a Slice": (10, 17, made.transposed_conv(pads=(1, 1, 0, 0)), 17, made.transposed_conv((1, 20))),
    "half_pixel, pytorch_half_pixel": (
        10, 17, made.resize(1.7, mode="linear"), 17, made.resize(
            1.7, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")),
    "nearest at ×2, three ways": (10, 17, two(2.0), 17, two(2.0, **ASYMMETRIC)),
    "nearest at ×2, other round": (10, 17, two(2.0, **ASYMMETRIC), 17, two(2.0, nearest_mode="round_prefer_ceil")),
    "Upsample as nearest Resize at ×2": (10, 9, made.upsample(2.0, "nearest"), 17, two(2.0)),
    "Upsample as asymmetric Resize": (10, 9, made.upsample(2.0, "linear"), 17, made.resize(
        2.0, mode="linear", coordinate_transformation_mode="asymmetric")),
    "sizes for whole scales": (10, 17, made.resize(2.0, mode="linear"), 17, made.resize((20, 20), mode="linear")),
    "sizes for scales by align_corners": (
        10, 17, made.resize(1.75, mode="linear", coordinate_transformation_mode="align_corners"),
        17, made.resize((17, 17), mode="linear", coordinate_transformation_mode="align_corners")),
    "antialiasing where the map grows": (10, 18, made.resize(2.0, mode="cubic"), 18, made.resize(
        2.0, mode="cubic", antialias=1)),
    "a cubic coefficient of a linear Resize": (10, 17, made.resize(2.0, mode="linear"), 17, made.resize(
        2.0, mode="linear", cubic_coeff_a=-0.5)),
    "a Pad of zeros and a padded convolution": (
        10, 17, lambda b, x: made.conv(b, x, pads=(1, 1, 1, 1)),
        17, lambda b, x: made.conv(b, b.op("Pad", x, made.pads(1, 1, 1, 1)))),
    "a Pad of nothing, by any mode": (10, 17, made.single("Pad", made.pads(0, 0, 0, 0)), 17, made.single(
        "Pad", made.pads(0, 0, 0, 0), mode="edge")),
    "modes by two operator sets' names": (10, 16, made.grid_sample(mode="bilinear"), 20, made.grid_sample(
        mode="linear")),
    "HardSwish in two": (10, 17, made.hard_sigmoid("operator"), 17, made.hard_sigmoid("gate")),
    "HardSwish spelled out": (10, 17, made.hard_sigmoid("operator"), 17, made.hard_sigmoid("clip")),
    "Elu spelled out": (10, 17, made.elu("operator", 0.4), 17, made.elu("select", 0.4)),
    "LRN spelled out": (10, 17, made.lrn(), 17, made.lrn("spelled")),
    "groups spelled out": (10, 21, made.group_norm(4, "operator"), 17, made.group_norm(4)),
    "as many groups as channels": (10, 17, made.group_norm(8), 17, lambda b, x: made.instance_norm()(b, x)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_gives_no_finding_and_no_edit(name: str) -> None:
    size, first, source, second, target = NOTHING[name]
    case = Case.of(model(source, opset=first, size=size), lambda _: renamed(model(target, opset=second, size=size)))
    silent(case)


def test_groups_by_channel_mean_nothing_where_there_is_one_channel_a_group() -> None:
    graph = model(made.group_norm(8, "operator"), opset=21)
    assert get("vs-groupnorm").inject(graph, np.random.default_rng(0)) is None


def test_a_nearest_resize_is_not_injected_where_no_pixel_changes() -> None:
    graph = model(made.resize(2.0, mode="nearest", **ASYMMETRIC))
    for seed in range(10):
        edits = get("lh-nearest-mode").inject(graph, np.random.default_rng(seed))
        assert edits and "ceil" in edits[0].describe()
    assert get("vs-upsample").inject(graph, np.random.default_rng(0)) is None
    assert get("lh-scale-vs-size").inject(graph, np.random.default_rng(0)) is None
