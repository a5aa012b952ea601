"""Small ONNX models for tests: a classifier with everything that a write-back has to keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ITEM = (3, 8, 8)
CLASSES = 5
OPSETS = range(7, min(onnx.defs.onnx_opset_version(), 26) + 1)


def weights(dtype: type = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of `classifier`."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(dtype),
        "conv.bias": rng.normal(size=4).astype(dtype),
        "fc.weight": rng.normal(size=(CLASSES, 4 * 64)).astype(dtype),
        "fc.bias": rng.normal(size=CLASSES).astype(dtype),
    }


def classifier(
    opset: int = 17, dtype: type = np.float32, batch: int | str = "N", ir: int | None = None
) -> onnx.ModelProto:
    """Conv, Relu, Add of a Constant, Flatten, Gemm; with doc strings, metadata and declared inner shapes."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constant = helper.make_tensor("", code, [1], np.array([0.5], dtype))
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["c"], "/conv/Conv", "the only convolution",
                         kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1], group=1),
        helper.make_node("Constant", [], ["half"], "/Constant", value=constant),
        helper.make_node("Relu", ["c"], ["r"], "/act/Relu"),
        helper.make_node("Add", ["r", "half"], ["a"], "/Add"),
        helper.make_node("Flatten", ["a"], ["f"], "/Flatten", axis=1),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], "/fc/Gemm", transB=1),
    ]
    for node in nodes[:1]:
        node.metadata_props.add(key="origin", value="layer 1")
    inputs = [helper.make_tensor_value_info("image", code, [batch, *ITEM], "an RGB image")]
    outputs = [helper.make_tensor_value_info("logits", code, [batch, CLASSES])]
    tensors = [numpy_helper.from_array(v, k) for k, v in weights(dtype).items()]
    tensors[0].doc_string = "kernel"
    inner = [helper.make_tensor_value_info(n, code, [batch, 4, 8, 8]) for n in ("c", "r", "a")]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors, "a graph", inner)
    ir = ir or (3 if opset < 8 else 8 if opset < 20 else 10)
    if ir < 4:
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir,
                              producer_name="zoo", producer_version="1.2", doc_string="a model")
    helper.set_model_props(model, {"author": "somebody", "classes": "a,b,c,d,e"})
    return model


def save(model: onnx.ModelProto, path: Path, external: bool = False) -> Path:
    """Write a model; its weights into `path`.bin where `external`."""
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.bin", size_threshold=0)
    else:
        path.write_bytes(model.SerializeToString())
    return path


def single(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list]],
    outputs: dict[str, tuple[int, list | None]],
    tensors: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    domains: dict[str, int] | None = None,
    ir: int = 8,
) -> onnx.ModelProto:
    """A model of the given nodes; inputs and outputs are name → (element type, shape)."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(k, *v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, *v) for k, v in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in (tensors or {}).items()],
    )
    imports = [helper.make_opsetid(k, v) for k, v in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def relu(batch: int | str = "N", opset: int = 17, ir: int = 8, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """y = max(x, 0) over (N, 3)."""
    node = helper.make_node("Relu", ["x"], ["y"], "the_relu")
    return single([node], {"x": (dtype, [batch, 3])}, {"y": (dtype, [batch, 3])}, opset=opset, ir=ir)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Inputs of `classifier`."""
    return np.random.default_rng(seed).normal(size=(count, *ITEM)).astype(np.float32)
