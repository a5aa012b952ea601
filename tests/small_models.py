"""Small ONNX models for tests, written with onnx.helper; weights from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.onnx_ml_pb2 import NodeProto

Shape = Sequence[int | str]


def save(
    path: Path, nodes: Sequence[NodeProto], inputs: dict[str, Shape], outputs: dict[str, Shape],
    tensors: dict[str, np.ndarray] | None = None, integers: Sequence[str] = (), opset: int = 17,
) -> Path:
    """Check and write a model; inputs and outputs are float32 unless named in `integers` (int64)."""

    def value(name: str, shape: Shape) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if name in integers else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, list(shape))

    graph = helper.make_graph(
        list(nodes), "g", [value(*i) for i in inputs.items()], [value(*o) for o in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in (tensors or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def weights(seed: int = 0, classes: int = 10) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * 0.3, "b1": rng.normal(size=8), "w2": rng.normal(size=(classes, 8)),
        "b2": rng.normal(size=classes),
    }
    return {k: v.astype(np.float32) for k, v in made.items()}


CNN = [
    ("Conv", ["x", "w1", "b1"], ["c"], {"pads": [1, 1, 1, 1]}), ("Relu", ["c"], ["r"], {}),
    ("GlobalAveragePool", ["r"], ["p"], {}), ("Flatten", ["p"], ["f"], {}),
    ("Gemm", ["f", "w2", "b2"], ["y"], {"transB": 1}),
]


def cnn(path: Path, seed: int = 0, batch: int | str = "N", layout: str = "nchw", tail: str = "", classes: int = 10,
        change: dict[str, np.ndarray] | None = None, output: str = "y", centred: bool = True) -> Path:
    """A classifier of 3×16×16 images whose labels vary over natural inputs.

    tail: an operator behind the logits. centred: the logits' mean over images is taken off, so that labels vary.
    """
    tensors = weights(seed, classes)
    if centred:
        tensors["b2"] = tensors["b2"] * 0 - _mean_logits(tensors)
        tensors["w2"], tensors["b2"] = tensors["w2"] * 5, tensors["b2"] * 5
    tensors |= change or {}
    nodes = [node(op, i, o, **a) for op, i, o, a in CNN]
    shape: Shape = [batch, 3, 16, 16]
    if layout == "nhwc":
        nodes = [node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]), *nodes]
        shape = [batch, 16, 16, 3]
    last = "y"
    if tail:
        nodes.append(node(tail, ["y"], ["t"]))
        last = "t"
    nodes.append(node("Identity", [last], [output + "_"]))
    return save(path, nodes, {"image" if layout == "nhwc" else "x": shape}, {output + "_": [batch, classes]}, tensors)


def _mean_logits(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of a uniformly gray-ish image, roughly: what all images have in common."""
    level = tensors["w1"].sum((1, 2, 3)) * 0.5 + tensors["b1"]
    mean: np.ndarray = tensors["w2"] @ np.maximum(level, 0.0)
    return mean
