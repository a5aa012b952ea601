"""Settings of convolutions, poolings, resizing and normalisations, through the whole of localization."""

from __future__ import annotations

import numpy as np
import pytest

from tests.faults import layers as made
from tests.faults.layers import model
from tests.faults.through import Case, check

AA = {"mode": "linear", "antialias": 1}
# Fault type → models that must have a place for it.
INJECTED: dict[str, dict[str, made.Part]] = {
    "lh-auto-pad": {
        "upper": made.strided(auto_pad="SAME_UPPER"), "explicit": made.strided(pads=(0, 0, 1, 1)),
        "pool": made.pool(auto_pad="SAME_LOWER"), "even kernel": lambda b, x: made.conv(b, x, kernel=4,
                                                                                         auto_pad="SAME_UPPER"),
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
    "lh-lrn": {"five": made.lrn(), "three": made.lrn(size=3, bias=2.0)},
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
    check(Case.of(model(part, opset=opset, seed=seed)), code, seed)
