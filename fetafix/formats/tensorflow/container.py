"""A flat graph put back where it came from: as the body of a function of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fetafix.formats.base import Unsupported
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.graph import split
from fetafix.formats.tensorflow.program import Flat


def put(graph_def: Any, flat: Flat, nodes: Sequence[Any], outputs: Mapping[str, str]) -> None:
    """Make `nodes` the body of the function `flat.function` in the library of `graph_def`.

    outputs: interface name → tensor; those left out stay what they were. Arguments and their order stay; control
    outputs, which served operators that are inlined now, go.
    """
    functions = tf_graph.library(graph_def)
    function = functions[flat.function]
    by_name = {n.name: n for n in nodes}
    ends = {**flat.outputs, **outputs}
    results = {flat.results[k]: t for k, t in ends.items()} | dict(flat.hidden)
    needed = tf_graph.upstream(by_name, results.values())
    body = tf_graph.sort([n for n in nodes if n.name in needed and n.name not in flat.args])
    spell = _Speller(by_name, flat.args, functions)
    made = []
    for node in body:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.attr.pop("_output_shapes", None)
        del copy.input[:]
        copy.input.extend(spell(i) for i in node.input)
        made.append(copy)
    del function.node_def[:]
    function.node_def.extend(made)
    for index, arg in enumerate(function.signature.output_arg):
        function.ret[arg.name] = spell(results[index])
    function.control_ret.clear()
    del function.signature.control_output[:]


class _Speller:
    """A function's spelling of a graph's tensors: an argument, or "node:output:index"."""

    def __init__(self, nodes: Mapping[str, Any], args: Mapping[str, str], functions: Mapping[str, Any]) -> None:
        self._nodes, self._args, self._functions = nodes, args, functions

    def __call__(self, tensor: str) -> str:
        name, index = split(tensor)
        if name in self._args:
            return self._args[name] if index >= 0 else f"^{self._args[name]}"
        if index < 0:
            return f"^{name}"
        for output, size in tf_graph.outputs_of(self._nodes[name], self._functions):
            if index < size:
                return f"{name}:{output}:{index}"
            index -= size
        raise ValueError(f"{tensor}: the node has fewer outputs")


def drop_outputs(meta: Any, signature: str, kept: Sequence[str]) -> None:
    """Take outputs out of a signature, and out of the function that it calls, for TensorFlow 2 binds both by order.

    Raises Unsupported where something else calls that function too.
    """
    outputs = meta.signature_def[signature].outputs
    nodes = {n.name: n for n in meta.graph_def.node}
    call = nodes[split(next(iter(outputs.values())).name)[0]]
    name = call.attr["f"].func.name if call.op in tf_graph.CALLS else ""
    functions = tf_graph.library(meta.graph_def)
    bodies = [n for f in functions.values() for n in f.node_def]
    if name not in functions or sum(name in tf_graph.functions_of(n) for n in [*nodes.values(), *bodies]) != 1:
        raise Unsupported(f"the outputs of signature {signature!r} are shared with other functions")
    function = functions[name]
    gone = sorted(split(t.name)[1] for k, t in outputs.items() if k not in kept)
    fields = meta.object_graph_def.concrete_functions[name].output_signature.dict_value.fields
    for key in [k for k in outputs if k not in kept]:
        del outputs[key]
        fields.pop(key, None)
    for key in outputs:
        index = split(outputs[key].name)[1]
        outputs[key].name = f"{call.name}:{index - sum(g < index for g in gone)}"
    for index in reversed(gone):
        del function.ret[function.signature.output_arg[index].name]
        del function.signature.output_arg[index]
        del call.attr["Tout"].list.type[index]
    call.attr.pop("_output_shapes", None)
