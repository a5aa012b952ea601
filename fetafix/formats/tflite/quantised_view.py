"""The view of a model with integer codes at its ends, given an interface in real numbers.

A QuantizeLinear is put behind each such input, a DequantizeLinear in front of each such output. Activations of 16 bit
need operator set 21, and their biases of 64 bit are narrowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fetafix.errors import LiftError
from fetafix.formats.tflite.ports import Port, Ports

_SIXTEEN = 21


def to_real(model: onnx.ModelProto, ports: Ports) -> dict[str, str]:
    """Change the model in place. Returns the names of the nodes added: key → tensor."""
    graph = model.graph
    added = [_input(graph, p) for p in ports.inputs if p.quantisation is not None]
    added += [_output(graph, p) for p in ports.outputs if p.quantisation is not None]
    _narrow(graph)
    if any(_holds_16_bit(n, graph) for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")):
        _raise_opset(model)
    return dict(added)


def _input(graph: Any, port: Port) -> tuple[str, str]:
    codes = f"{port.name}_codes"
    _redirect(graph.node, port.name, codes)
    declared = next(i for i in graph.input if i.name == port.name)
    declared.type.tensor_type.elem_type = TensorProto.FLOAT
    graph.node.insert(0, helper.make_node("QuantizeLinear", [port.name, *_constants(graph, port)], [codes], name=codes))
    return codes, f"{port.name} (input)"


def _output(graph: Any, port: Port) -> tuple[str, str]:
    codes = f"{port.name}_codes"
    _redirect(graph.node, port.name, codes)
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == port.name:
                node.output[i] = codes
    declared = next(o for o in graph.output if o.name == port.name)
    declared.type.tensor_type.elem_type = TensorProto.FLOAT
    constants = _constants(graph, port)
    graph.node.append(helper.make_node("DequantizeLinear", [codes, *constants], [port.name], name=f"{port.name}_real"))
    return port.name, f"{port.name} (output)"


def _redirect(nodes: Sequence[Any], old: str, new: str) -> None:
    for node in nodes:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def _constants(graph: Any, port: Port) -> list[str]:
    q = port.quantisation
    assert q is not None
    names = [f"{port.name}_scale", f"{port.name}_zero_point"]
    values = [np.asarray(q.scale[0], np.float32), np.asarray(q.zero_point[0], port.tensor.dtype)]
    graph.initializer.extend(numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True))
    return names


def _narrow(graph: Any) -> None:
    """Biases of 64 bit as 32 bit, which is what DequantizeLinear takes; TFLite has them beside activations of 16 bit.

    Raises LiftError where one does not fit.
    """
    wide = {i.name: i for i in graph.initializer if i.data_type == TensorProto.INT64}
    for node in (n for n in graph.node if n.op_type == "DequantizeLinear"):
        for name in (n for n in (node.input[0], *node.input[2:]) if n in wide):
            codes = numpy_helper.to_array(wide.pop(name))
            if np.abs(codes).max(initial=0) > np.iinfo(np.int32).max:
                raise LiftError(f"the bias {name!r} has codes beyond 32 bit, which ONNX cannot dequantise")
            next(i for i in graph.initializer if i.name == name).CopyFrom(
                numpy_helper.from_array(codes.astype(np.int32), name)
            )


def _holds_16_bit(node: Any, graph: Any) -> bool:
    return any(i.name in node.input[2:] and i.data_type == TensorProto.INT16 for i in graph.initializer)


def _raise_opset(model: onnx.ModelProto) -> None:
    from onnx import version_converter

    try:
        model.CopyFrom(version_converter.convert_version(model, _SIXTEEN))
    except Exception as error:  # the converter raises anything
        raise LiftError(f"its 16 bit codes need operator set {_SIXTEEN}: {error}") from error
