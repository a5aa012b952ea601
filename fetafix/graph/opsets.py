"""Nodes of one operator set written in another: source and target seldom share the version of ONNX's operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from onnx import version_converter

from fetafix.graph.canonical import constants_in_place
from fetafix.graph.downgrade import lowered
from fetafix.graph.proto import graph_from_model, model_from_graph
from fetafix.ir import Dim, Graph, Value


def translated(graph: Graph, version: int, shapes: Mapping[str, tuple[Dim, ...]]) -> Graph | None:
    """A fragment in version `version` of the default domain's operators; None where onnx knows no way.

    Tensors that the fragment reads from outside keep their names, and so does its output. shapes: where known.
    """
    own = graph.opset.get("", version)
    if own == version:
        return graph
    older = lowered(replace(graph, shapes={**graph.shapes, **shapes}), version) if own > version else None
    if older is not None:
        return replace(older, shapes={})
    made = {o for n in graph.nodes for o in n.outputs}
    outside = [t for t in dict.fromkeys(t for n in graph.nodes for t in n.reads)
               if t not in made and t not in graph.initializers]
    inputs = tuple(Value(t, np.dtype(np.float32), shapes.get(t)) for t in outside)
    outputs = tuple(replace(v, shape=v.shape or ()) if v.shape else v for v in graph.outputs)
    try:
        model = version_converter.convert_version(
            model_from_graph(replace(graph, inputs=inputs, outputs=outputs), ir_version=8), version
        )
    except Exception:  # the converter is C++ and raises RuntimeError, IndexError, ConvertError and more
        return None
    return replace(constants_in_place(graph_from_model(model)), inputs=graph.inputs)
