"""Which checkpoint entry belongs to which variable of a SavedModel's graph, and checkpoints written anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.graph import split
from fetafix.ir import Array

_ASSIGN = ("AssignVariableOp", "Assign")


def keys(graph_def: Any, restore: str) -> dict[str, str]:
    """Variable node (VarHandleOp, VariableV2) → checkpoint key, as the restoring part of the graph tells.

    Whatever lies between RestoreV2 and the assignment passes its first input on (Identity, casts of the dtype).
    """
    part = tf_graph.pruned(graph_def, [restore])
    flat, _ = tf_graph.inlined(list(part.node), tf_graph.library(graph_def))
    nodes = {n.name: n for n in flat}
    found: dict[str, str] = {}
    for node in flat:
        if node.op not in _ASSIGN:
            continue
        source, index = split(node.input[1])
        while source in nodes and nodes[source].op != "RestoreV2" and nodes[source].input:
            source, index = split(nodes[source].input[0])
        if source in nodes and nodes[source].op == "RestoreV2":
            names = _strings(nodes, nodes[source].input[1])
            if names is not None and index < len(names):
                found[split(node.input[0])[0]] = names[index]
    return found


_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"


def object_graph(prefix: str) -> Any:
    """The checkpoint's table of objects and the keys of their values (TensorFlow 2), or None where it has none."""
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    reader = tf.train.load_checkpoint(prefix)
    if not reader.has_tensor(_OBJECTS):
        return None
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(_OBJECTS))
    return graph


def captured_keys(meta: Any, function: str, prefix: str) -> dict[str, list[str]]:
    """Argument of a function → checkpoint keys of the variable that TensorFlow 2 binds to it.

    They may be others than those that the graph of TensorFlow 1 restores: Keras saves what it exports twice.
    """
    if function not in meta.object_graph_def.concrete_functions:
        return {}
    bound = list(meta.object_graph_def.concrete_functions[function].bound_inputs)
    objects = object_graph(prefix) if bound else None
    if objects is None:
        return {}
    args = [a.name for a in tf_graph.library(meta.graph_def)[function].signature.input_arg][-len(bound):]
    return {a: [t.checkpoint_key for t in objects.nodes[i].attributes] for a, i in zip(args, bound, strict=True)}


def _strings(nodes: Mapping[str, Any], tensor: str) -> list[str] | None:
    import tensorflow as tf

    node = nodes.get(split(tensor)[0])
    while node is not None and node.op == "Identity":
        node = nodes.get(split(node.input[0])[0])
    if node is None or node.op != "Const":
        return None
    return [s.decode() for s in np.ravel(tf.make_ndarray(node.attr["value"].tensor))]


def rewrite(old: Path, new: Path, values: Mapping[str, Array]) -> None:
    """Write the checkpoint `old` (a prefix) to `new` with other values under some keys."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(old))
    dtypes = reader.get_variable_to_dtype_map()
    names = sorted(dtypes)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        held = tf.raw_ops.RestoreV2(prefix=str(old), tensor_names=names, shape_and_slices=[""] * len(names),
                                    dtypes=[dtypes[n] for n in names])
        tensors = [tf.constant(values[n], dtypes[n]) if n in values else t for n, t in zip(names, held, strict=True)]
        session.run(tf.raw_ops.SaveV2(prefix=str(new), tensor_names=names, shape_and_slices=[""] * len(names),
                                      tensors=tensors))
