"""A SavedModel of TensorFlow 2 without signatures: its only function, called from the main graph.

The functions that an object offers stand in the object graph, each with its concrete forms; what a form captures are
nodes of that graph, whose values the checkpoint holds under keys, and the main graph has a variable for each key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fetafix.edits.surgery import free
from fetafix.errors import UnreadableModel
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow import variables as tf_variables


def call(path: Path, meta: Any, prefix: str) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The graph with a call of the only function, its inputs and its outputs. Raises UnreadableModel."""
    name, attribute = _only(path, meta)
    concrete = meta.object_graph_def.concrete_functions[name]
    function = tf_graph.library(meta.graph_def)[name]
    graph_def = type(meta.graph_def)()
    graph_def.CopyFrom(meta.graph_def)
    taken = {n.name for n in graph_def.node}
    captured = _captured(path, meta, concrete, prefix)
    arguments = list(function.signature.input_arg)[: len(function.signature.input_arg) - len(captured)]
    inputs: dict[str, str] = {}
    for arg, shape in zip(arguments, _shapes(concrete, len(arguments)), strict=True):
        node = graph_def.node.add(name=free(arg.name, taken), op="Placeholder")
        taken.add(node.name)
        node.attr["dtype"].type = arg.type
        if shape is not None:
            node.attr["shape"].shape.CopyFrom(shape)
        inputs[arg.name] = f"{node.name}:0"
    made = graph_def.node.add(name=free(attribute, taken), op="StatefulPartitionedCall")
    made.input.extend([*(t[:-2] for t in inputs.values()), *captured])
    made.attr["f"].func.name = name
    made.attr["Tin"].list.type.extend(a.type for a in function.signature.input_arg)
    made.attr["Tout"].list.type.extend(a.type for a in function.signature.output_arg)
    keys = _output_names(concrete, len(function.signature.output_arg))
    return graph_def, inputs, {k: f"{made.name}:{i}" for i, k in enumerate(keys)}


def _only(path: Path, meta: Any) -> tuple[str, str]:
    """(function, attribute of the object) of the only function that can be called."""
    nodes = meta.object_graph_def.nodes
    children = {c.local_name: nodes[c.node_id] for c in nodes[0].children} if len(nodes) else {}
    functions = {k: n.function for k, n in children.items() if n.WhichOneof("kind") == "function"}
    offered = {k: list(f.concrete_functions) for k, f in functions.items()}
    usable = {k: forms for k, forms in offered.items() if len(forms) == 1}
    if "__call__" in usable:
        usable = {"__call__": usable["__call__"]}
    if len(usable) != 1:
        there = ", ".join(f"{k} ({len(f)} forms)" for k, f in sorted(offered.items())) or "no function either"
        raise UnreadableModel(f"{path}: expected a signature, found none, and {there}; save it with "
                              "tf.saved_model.save(model, folder, signatures=...)")
    attribute, forms = next(iter(usable.items()))
    return forms[0], attribute if attribute != "__call__" else "call"


def _captured(path: Path, meta: Any, concrete: Any, prefix: str) -> list[str]:
    """The main graph's node of each thing that the function captures."""
    if not concrete.bound_inputs:
        return []
    objects = tf_variables.object_graph(prefix)
    handles = {k: n for n, k in tf_variables.keys(meta.graph_def, meta.saver_def.restore_op_name).items()}
    found = []
    for number in concrete.bound_inputs:
        keys = [a.checkpoint_key for a in objects.nodes[number].attributes] if objects is not None else []
        if not keys or keys[0] not in handles:
            raise UnreadableModel(f"{path}: expected a signature, found none, and the only function captures something "
                                  "other than variables; save it with signatures")
        found.append(handles[keys[0]])
    return found


def _shapes(concrete: Any, count: int) -> list[Any]:
    """The declared shapes of the arguments, where they are plain tensors."""
    specs = _specs(concrete.canonicalized_input_signature)
    shapes = [s.shape for s in specs]
    return shapes if len(shapes) == count else [None] * count


def _output_names(concrete: Any, count: int) -> list[str]:
    signature = concrete.output_signature
    if signature.WhichOneof("kind") == "dict_value":
        names = sorted(signature.dict_value.fields)
        if len(names) == count:
            return names
    return [f"output_{i}" for i in range(count)]


def _specs(value: Any) -> list[Any]:
    """The tensor specs within a structured value, in the order in which TensorFlow flattens it."""
    kind = value.WhichOneof("kind")
    if kind == "tensor_spec_value":
        return [value.tensor_spec_value]
    if kind in ("tuple_value", "list_value"):
        return [s for v in getattr(value, kind).values for s in _specs(v)]
    if kind == "dict_value":
        return [s for k in sorted(value.dict_value.fields) for s in _specs(value.dict_value.fields[k])]
    return []
