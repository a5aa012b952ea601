"""Frozen GraphDefs: a graph of constants, without a word on what goes in and what comes out.

Inputs are the Placeholders, outputs the tensors of nodes that nobody reads; nodes that compute nothing (NoOp, Assert)
and those that depend on no input are no outputs. Names are those of the nodes; further tensors of a node are "node:1" …
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow import safety as tf_safety
from fetafix.formats.tensorflow.program import Program

_NO_OUTPUT = {"NoOp", "Assert", "Const", "Placeholder", "PlaceholderWithDefault", "VarHandleOp", "VariableV2",
              "Variable", "CheckNumerics", "SaveV2", "RestoreV2"}
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable", "AutoReloadVariable"}


def open_graph(path: Path, options: OpenOptions) -> Program:
    """The program of a frozen GraphDef. Raises UnreadableModel, UntrustedModel."""
    graph_def = load(path)
    if options.signature:
        raise UnreadableModel(f"{path}: expected no signature, for a GraphDef has none; found {options.signature!r}")
    inputs = {n.name: n.name for n in graph_def.node if n.op == "Placeholder"}
    tf_safety.examine(path, graph_def, options.trust)
    outputs = _outputs(graph_def)
    if not outputs:
        raise UnreadableModel(f"{path}: expected nodes that nobody reads as outputs, found none among "
                              f"{len(graph_def.node)} nodes")
    held = [n.name for n in graph_def.node if n.op in _VARIABLES]
    needed = tf_graph.upstream({n.name: n for n in graph_def.node}, outputs.values())
    if loose := [n for n in held if n in needed]:
        raise UnreadableModel(f"{path}: expected a frozen graph; its variable {loose[0]!r} (of {len(loose)}) has its "
                              "value in a checkpoint: freeze it, or give the SavedModel")
    details = {"producer": graph_def.versions.producer}
    return Program(graph_def, inputs, outputs, details=details)


def load(path: Path) -> Any:
    """The GraphDef of a file."""
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError
        raise UnreadableModel(f"{path}: this is a TensorFlow GraphDef, but the file is cut off or damaged ({error}); "
                              "copy or download it again") from error
    if not graph_def.node:
        raise UnreadableModel(f"{path}: this GraphDef has no nodes; nothing can be computed")
    return graph_def


def _outputs(graph_def: Any) -> dict[str, str]:
    functions = tf_graph.library(graph_def)
    read = {tf_graph.split(i)[0] for n in graph_def.node for i in (n.input[:1] if n.op == "Assert" else n.input)
            if not i.startswith("^")}
    nodes = {n.name: n for n in graph_def.node}
    fed = {n.name for n in graph_def.node if n.op == "Placeholder"}
    ends = [n for n in graph_def.node if n.name not in read and n.op not in _NO_OUTPUT]
    computed = [n for n in ends if tf_graph.upstream(nodes, [n.name]) & fed]
    found: dict[str, str] = {}
    for node in computed or ends:
        count = sum(size for _, size in tf_graph.outputs_of(node, functions))
        found.update({tf_graph.join(node.name, i): tf_graph.join(node.name, i) for i in range(count)})
    return found
