"""MobileNetV2 out of Keras in every format: faults put into the files by hand are repaired in the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fetafix.api import Options, check, repair
from fetafix.formats import recognise
from fetafix.formats.torch import env as torch_env
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = [*NEEDS_ASSETS, pytest.mark.slow]

SOURCE = ASSETS / "models/mobilenet_v2_1.0_224_imagenet.h5"
HEALTHY = ("mobilenet.tflite", "mobilenet.onnx", "mobilenet.pb", "mobilenet.keras", "mobilenet")
SEEDED = {
    "kernel-turned.tflite": {"wb-kernel-layout"},
    "bias-rolled.tflite": {"wb-bias"},
    "relu6-lost.tflite": {"cg-act-missing"},
    "dilated.tflite": {"lh-dilation"},
    "three.tflite": {"wb-kernel-layout", "wb-bias", "lh-dilation"},
    "kernel-turned.h5": {"wb-kernel-layout"},
    "relu6-lost.h5": {"lh-relu6-max"},
    "dilated.h5": {"lh-dilation"},
    "two.h5": {"wb-kernel-layout", "lh-dilation"},
    "kernel-turned.pb": {"wb-kernel-layout"},
    "relu6-lost.pb": {"lh-relu6-max"},
    "dilated.pb": {"lh-dilation"},
    "kernel-turned": {"wb-kernel-layout"},
    "relu6-lost": {"lh-relu6-max"},
    "dilated": {"lh-dilation"},
}


def _options(**more: Any) -> Options:
    both = {"source_preprocess": "keras-tf", "target_preprocess": "keras-tf"}
    return Options(**{"data": ASSETS / "images/imagenet", "samples": 24, **both, **more})


@pytest.mark.parametrize("name", HEALTHY)
def test_a_faithful_conversion_is_equivalent(name: str, tfzoo: Callable[[str], Path]) -> None:
    report = check(SOURCE, tfzoo("mobilenet") / name, _options(gate="numeric"))
    assert report.verdict is Verdict.EQUIVALENT, report.reason


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault_is_repaired_in_place(name: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    _repaired(tfzoo("mobilenet") / name, SEEDED[name], tmp_path)


def test_faults_in_the_onnx_file_are_repaired(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    model = onnx.load(tfzoo("mobilenet") / "mobilenet.onnx")
    still = [n for n in model.graph.node if n.op_type == "Conv" and _ints(n, "group")[0] > 1
             and _ints(n, "strides") == [1, 1]]  # fmt: skip
    _attribute(still[5], "dilations").ints[:] = [2, 2]
    _attribute(still[5], "pads").ints[:] = [2, 2, 2, 2]
    kernel = next(t for t in model.graph.initializer if t.name == still[2].input[1])
    turned = np.ascontiguousarray(onnx.numpy_helper.to_array(kernel).transpose(0, 1, 3, 2))
    kernel.CopyFrom(onnx.numpy_helper.from_array(turned, kernel.name))
    onnx.save(model, tmp_path / "faulty.onnx")
    _repaired(tmp_path / "faulty.onnx", {"lh-dilation", "wb-kernel-layout"}, tmp_path)


def test_faults_in_the_pytorch_module_are_repaired(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    torch_env.prepare()
    import onnx2torch
    import torch

    module = onnx2torch.convert(str(tfzoo("mobilenet") / "mobilenet.onnx")).eval()
    depthwise = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1 and m.stride == (1, 1)]
    depthwise[5].dilation = (2, 2)
    depthwise[5].padding = (2, 2)
    with torch.no_grad():
        depthwise[2].weight.copy_(depthwise[2].weight.transpose(2, 3).clone())
    torch.save(module, tmp_path / "faulty.pt")
    _repaired(tmp_path / "faulty.pt", {"lh-dilation", "wb-kernel-layout"}, tmp_path)


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    found = next((a for a in node.attribute if a.name == name), None)
    return [1] if found is None else [found.i] if found.type == onnx.AttributeProto.INT else list(found.ints)


def _repaired(target: Path, codes: set[str], folder: Path) -> None:
    """Found for what it is, repaired in its own format, equal on held-out samples; a second repair changes nothing."""
    out = folder / f"out-{target.name}"
    report = repair(SOURCE, target, _options(gate="numeric"), RepairOptions(output=out, apply=True))
    assert {f.code for f in report.findings} == codes
    assert report.verdict is Verdict.REPAIRED, report.reason
    assert report.after is not None and report.after.top1 == 1.0
    assert recognise(out) == recognise(target)
    again = repair(SOURCE, out, _options(gate="numeric"), RepairOptions(output=folder / f"again-{target.name}"))
    assert again.verdict is Verdict.EQUIVALENT and not again.repairs
