"""MobileNetV2 as ONNX file and PyTorch module: faults put into the files by hand are repaired in the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fetafix.formats.torch import env as torch_env
from tests.assets import mobilenet
from tests.assets.zoo import NEEDS_ASSETS

pytestmark = [*NEEDS_ASSETS, pytest.mark.slow]


def test_the_onnx_file_is_equivalent(tfzoo: Callable[[str], Path]) -> None:
    mobilenet.faithful(tfzoo("mobilenet") / "mobilenet.onnx")


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
    mobilenet.repaired(tmp_path / "faulty.onnx", {"lh-dilation", "wb-kernel-layout"}, tmp_path)


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
    mobilenet.repaired(tmp_path / "faulty.pt", {"lh-dilation", "wb-kernel-layout"}, tmp_path)


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    found = next((a for a in node.attribute if a.name == name), None)
    return [1] if found is None else [found.i] if found.type == onnx.AttributeProto.INT else list(found.ints)
