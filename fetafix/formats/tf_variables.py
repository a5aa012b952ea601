"""Which checkpoint entry belongs to which variable of a SavedModel's graph, and checkpoints written anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.formats import tf_graph
from fetafix.formats.tf_graph import split
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
