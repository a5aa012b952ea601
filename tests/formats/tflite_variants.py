"""TFLite files changed by hand, through the schema's own classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fetafix.formats.tflite.copy import pack, unpack
from fetafix.formats.tflite.file import read
from fetafix.formats.tflite.names import schema


def logits(path: Path, codes: float) -> bytes:
    """A copy of an int8 classifier that ends before its softmax, with logits that are some codes larger.

    Done by the bias of the last layer, so by up to one code less where that rounds down.
    """
    model = unpack(read(path))
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:-1]
    head = graph.operators[-1]
    end, bias = graph.tensors[head.outputs[0]], graph.tensors[head.inputs[2]]
    graph.outputs, model.signatureDefs = list(head.outputs), []
    steps = codes * end.quantization.scale[0] / np.asarray(bias.quantization.scale)
    stored = np.frombuffer(np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
    model.buffers[bias.buffer].data = np.frombuffer((stored + np.floor(steps).astype(np.int32)).tobytes(), np.uint8)
    return pack(model)


def recurrent(units: int = 3, steps: int = 5) -> bytes:
    """A recurrent layer of identity weights whose state is a variable tensor: it adds up what it has seen."""
    s = schema()
    eye, zeros = np.eye(units, dtype=np.float32), np.zeros(units, np.float32)
    model, graph, operator, code = s.ModelT(), s.SubGraphT(), s.OperatorT(), s.OperatorCodeT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_RNN
    model.buffers, graph.tensors, graph.operators = [s.BufferT()], [], [operator]
    shape = (1, steps, units)
    for name, dims, value in (
        ("x", shape, None), ("kernel", eye.shape, eye), ("recurrent", eye.shape, eye), ("bias", zeros.shape, zeros),
        ("state", (1, units), None), ("y", shape, None),
    ):  # fmt: skip
        tensor = s.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.isVariable = name, list(dims), 0, name == "state"
        if value is not None:
            tensor.buffer = len(model.buffers)
            model.buffers.append(s.BufferT())
            model.buffers[-1].data = np.frombuffer(value.tobytes(), np.uint8)
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs = [0], [5]
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1, 2, 3, 4], [5], 0
    operator.builtinOptionsType = s.BuiltinOptions.SequenceRNNOptions
    operator.builtinOptions = s.SequenceRNNOptionsT()
    return pack(model)


def with_weights_apart(path: Path, file: str, need: int) -> bytes:
    """A copy that claims to have weights in a file of its own."""
    s = schema()
    model = unpack(read(path))
    group, buffer = s.ExternalBufferGroupT(), s.ExternalBufferT()
    group.name, buffer.group, buffer.length = file, 0, need
    model.externalBufferGroups, model.externalBuffers = [group], [buffer]
    return pack(model)
