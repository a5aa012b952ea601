"""Take a protection off an ONNX model: weights as they are read, and no trace of what read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from fetafix.formats.onnx import store as onnx_store
from fetafix.formats.onnx.protected import METADATA, recognise, voted
from fetafix.formats.onnx.write import placed


def unprotect(path: Path, out: Path) -> int:
    """Write the model at `path` with plain weights and scales; how many were protected. Raises OutputError."""
    model = onnx.load(str(path), load_external_data=False)
    readings = recognise(model, path.parent)
    graph, apart = model.graph, set()
    with placed(path, out, model) as place:
        for reading in readings:
            values = np.ascontiguousarray(reading.values(path.parent))
            if onnx_store.is_apart(reading.stored):
                apart.add(reading.name)
            tensor = numpy_helper.from_array(values, reading.name)
            tensor.doc_string = reading.stored.doc_string
            graph.initializer.append(tensor)
        constants = voted(model, path.parent)
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v, order="C"), k) for k, v in constants.items())
        _prune(graph, {r.name for r in readings} | constants.keys())
        for i in reversed([i for i, p in enumerate(model.metadata_props) if p.key == METADATA]):
            del model.metadata_props[i]
        place.save(model, apart)
    return len(readings) + len(constants)


def _prune(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove the makers of these tensors, and then whatever nobody reads any more."""
    graph_reads = {o.name for o in graph.output}
    dead = [n for n in graph.node if set(n.output) & names]
    while dead:
        candidates = {i for n in dead for i in n.input}
        for node in dead:
            graph.node.remove(node)
        reads = graph_reads | {i for n in graph.node for i in _reads(n)}
        for tensor in [t for t in graph.initializer if t.name in candidates - reads]:
            graph.initializer.remove(tensor)
        dead = [n for n in graph.node if set(n.output) & candidates and not set(n.output) & reads]


def _reads(node: onnx.NodeProto) -> set[str]:
    """What a node reads, in its bodies too."""
    found = set(node.input)
    for attribute in node.attribute:
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in body.node:
                found |= _reads(inner)
    return found
