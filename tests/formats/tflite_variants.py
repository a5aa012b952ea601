"""TFLite files changed by hand, through the schema's own classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fetafix.formats.tflite_copy import pack, unpack
from fetafix.formats.tflite_file import read


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
