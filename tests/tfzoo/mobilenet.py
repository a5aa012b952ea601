"""MobileNetV2 converted to every TensorFlow format, healthy and with faults put into the files by hand.

The faults are made with the formats' own tools (flatbuffers' object API, h5py, protobufs), not with fetafix's writers:
what repairs them must not be what made them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ASSETS = Path(os.environ.get("FETAFIX_ASSETS", ""))
SOURCE = ASSETS / "models/mobilenet_v2_1.0_224_imagenet.h5"


def make(folder: Path) -> None:
    """mobilenet.{tflite,onnx,pb,keras}, the SavedModel `mobilenet`, and one faulty copy of them for each seed."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from tests.tfzoo.freezing import frozen

    model = keras.models.load_model(SOURCE, compile=False)
    model.save(folder / "mobilenet.keras")
    model.export(folder / "mobilenet", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "mobilenet"))
    (folder / "mobilenet.tflite").write_bytes(converter.convert())
    tf2onnx.convert.from_keras(model, opset=17, output_path=str(folder / "mobilenet.onnx"))
    (folder / "mobilenet.pb").write_bytes(frozen(lambda image: model(image, training=False), (None, 224, 224, 3)))
    for name, damage in TFLITE.items():
        _tflite(folder / "mobilenet.tflite", folder / f"{name}.tflite", damage)
    for name, damage in H5.items():
        _h5(folder / f"{name}.h5", damage)
    for name, damage in GRAPHDEF.items():
        _graphdef(folder / "mobilenet.pb", folder / f"{name}.pb", damage)
    for name, damage in SAVED_MODEL.items():
        _saved_model(folder / "mobilenet", folder / name, damage)


# -- TFLite: (operators of the main subgraph, buffers, tensors) are changed in place


def _tflite(source: Path, out: Path, damage: Callable[[Any], None]) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    damage(model)
    builder = flatbuffers.Builder(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(bytes(builder.Output()))


def _floats(model: Any, operator: int, slot: int) -> np.ndarray:
    """A constant input of an operator, as an array that can be written to."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.operators[operator].inputs[slot]]
    buffer = model.buffers[tensor.buffer]
    buffer.data = np.array(buffer.data, np.uint8)
    return buffer.data.view(np.float32).reshape(tensor.shape)


def _tflite_kernel_turned(model: Any) -> None:
    kernel = _floats(model, 0, 1)  # OHWI
    kernel[...] = kernel.transpose(0, 2, 1, 3).copy()


def _tflite_bias_rolled(model: Any) -> None:
    convolutions = [i for i, o in enumerate(model.subgraphs[0].operators) if len(o.inputs) == 3]
    bias = _floats(model, convolutions[20], 2)
    bias[...] = np.roll(bias, 1)


def _tflite_relu6_lost(model: Any) -> None:
    options = [o for o in model.subgraphs[0].operators if getattr(o.builtinOptions, "fusedActivationFunction", 0) == 3]
    options[9].builtinOptions.fusedActivationFunction = 0


def _tflite_dilated(model: Any) -> None:
    depthwise = [o for o in model.subgraphs[0].operators if hasattr(o.builtinOptions, "depthMultiplier")]
    still = [o for o in depthwise if o.builtinOptions.strideW == 1]
    still[4].builtinOptions.dilationWFactor = still[4].builtinOptions.dilationHFactor = 2


def _tflite_three(model: Any) -> None:
    _tflite_kernel_turned(model)
    _tflite_bias_rolled(model)
    _tflite_dilated(model)


TFLITE: dict[str, Callable[[Any], None]] = {
    "relu6-lost": _tflite_relu6_lost,
    "three": _tflite_three,
}

# -- Keras: datasets and the architecture's JSON of an HDF5 file


def _h5(out: Path, damage: Callable[[Any, dict[str, Any]], None]) -> None:
    import h5py

    shutil.copyfile(SOURCE, out)
    with h5py.File(out, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = {layer["config"]["name"]: layer["config"] for layer in config["config"]["layers"]}
        damage(file["model_weights"], layers)
        file.attrs["model_config"] = json.dumps(config)


def _dataset(weights: Any, layer: str, name: str) -> Any:
    found: list[Any] = []
    weights[layer].visititems(lambda path, item: found.append(item) if path.split(":")[0].endswith(name) else None)
    return next(item for item in found if hasattr(item, "shape"))


def _h5_kernel_turned(weights: Any, layers: dict[str, Any]) -> None:
    kernel = _dataset(weights, "b5_dw", "kernel")  # HWCM
    kernel[...] = kernel[...].transpose(1, 0, 2, 3)


def _h5_relu6_lost(weights: Any, layers: dict[str, Any]) -> None:
    layers["b3_exp_relu"]["max_value"] = None


def _h5_dilated(weights: Any, layers: dict[str, Any]) -> None:
    layers["b9_dw"]["dilation_rate"] = [2, 2]


def _h5_two(weights: Any, layers: dict[str, Any]) -> None:
    _h5_kernel_turned(weights, layers)
    _h5_dilated(weights, layers)


H5: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "relu6-lost": _h5_relu6_lost, "two": _h5_two,
}  # fmt: skip

# -- TensorFlow: nodes of a GraphDef, functions and variables of a SavedModel


def _graphdef(source: Path, out: Path, damage: Callable[[Any], None]) -> None:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(source.read_bytes())
    damage(graph.node)
    out.write_bytes(graph.SerializeToString())


def _named(nodes: Any, op: str) -> list[Any]:
    return [n for n in nodes if n.op == op]


def _graph_relu6_lost(nodes: Any) -> None:
    _named(nodes, "Relu6")[8].op = "Relu"


def _graph_dilated(nodes: Any) -> None:
    still = [n for n in _named(nodes, "DepthwiseConv2dNative") if list(n.attr["strides"].list.i) == [1, 1, 1, 1]]
    still[5].attr["dilations"].list.i[:] = [1, 2, 2, 1]


def _graph_kernel_turned(nodes: Any) -> None:
    import tensorflow as tf

    by_name = {n.name: n for n in nodes}
    depthwise = _named(nodes, "DepthwiseConv2dNative")[3]
    node = by_name[depthwise.input[1]]
    while node.op == "Identity":
        node = by_name[node.input[0]]
    value = tf.make_ndarray(node.attr["value"].tensor)  # HWCM
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.ascontiguousarray(value.transpose(1, 0, 2, 3))))


def _graph_two(nodes: Any) -> None:
    _graph_kernel_turned(nodes)
    _graph_dilated(nodes)


GRAPHDEF: dict[str, Callable[[Any], None]] = {"relu6-lost": _graph_relu6_lost, "two": _graph_two}


def _saved_model(source: Path, out: Path, damage: Callable[[Path], None]) -> None:
    shutil.copytree(source, out)
    damage(out)


def _in_functions(folder: Path, damage: Callable[[Any], None]) -> None:
    """Change the nodes of every function in which there are such nodes."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    functions = [f for f in model.meta_graphs[0].graph_def.library.function if _named(f.node_def, "Relu6")]
    assert functions, "the export keeps its functions in another place"
    for function in functions:
        damage(function.node_def)
    file.write_bytes(model.SerializeToString())


def _saved_kernel_turned(folder: Path) -> None:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    kernels = [v for v in loaded.variables if list(v.shape) == [3, 3, 144, 1]]
    kernels[0].assign(tf.transpose(kernels[0], [1, 0, 2, 3]))
    shutil.rmtree(folder)
    tf.saved_model.save(loaded, str(folder), signatures=loaded.signatures)


def _saved_three(folder: Path) -> None:
    _saved_kernel_turned(folder)
    _in_functions(folder, _graph_dilated)
    _in_functions(folder, _graph_relu6_lost)


SAVED_MODEL: dict[str, Callable[[Path], None]] = {"three": _saved_three}
