"""Edits on the nodes of a TensorFlow graph: new ones, other constants, other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.edits.surgery import free
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.graph import join, split
from fetafix.ir import Array

_HOLDERS = ("Const", "VarHandleOp", "VariableV2", "Variable")
_PLAIN = ("Identity", "ReadVariableOp")
_PASS = (*_PLAIN, "Reshape", "Squeeze", "ExpandDims")


class GraphEditor:
    """A flat GraphDef whose nodes change.

    nodes: by name. outputs: name → tensor. changed: variable node → its new value. structural: whether nodes changed.
    live: nodes that depend on the inputs. readers: node → those that read it.
    """

    def __init__(self, graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self.nodes = {n.name: n for n in graph_def.node}
        self._functions = tf_graph.library(graph_def)
        self.outputs = {k: join(*split(t)) for k, t in outputs.items()}
        self.changed: dict[str, Array] = {}
        self.structural = False
        self._names: dict[str, str] = {}
        self.live = _downstream(self.nodes, [split(t)[0] for t in inputs.values()])
        self.readers = _readers(self.nodes)

    def reread(self) -> None:
        """Find out anew who reads whom, after inputs of nodes were changed."""
        self.readers = _readers(self.nodes)

    def set_input(self, node: Any, slot: int, value: Array) -> None:
        """Give a constant input another value: in the variable that holds it, where nobody else reads that."""
        chain, name = [], split(node.input[slot])[0]
        while self.nodes[name].op in _PASS and self.nodes[name].input:
            chain.append(name)
            name = split(self.nodes[name].input[0])[0]
        holder = self.nodes[name]
        alone = all(len(self.readers.get(n, set())) == 1 for n in [*chain, name])
        alone = alone and sum(split(i)[0] == (chain[0] if chain else name) for i in node.input) == 1
        fitting = self._fitting(holder, value, bool({self.nodes[n].op for n in chain} - set(_PLAIN)))
        if alone and fitting is not None:
            if holder.op != "Const":
                self.changed[name] = fitting
                return
            self.structural = True
            _set_const(holder, fitting)
            return
        self.structural = True
        node.input[slot] = self.add_constant(f"{node.name}/fetafix_{slot}", value)
        self.reread()

    def _fitting(self, holder: Any, value: Array, reshaped: bool) -> Array | None:
        """The value as its holder keeps it: a variable in its shape, a constant in any unless it is reshaped."""
        import tensorflow as tf

        if holder.op not in _HOLDERS:
            return None
        if holder.op == "Const":
            shape = tf.TensorShape(holder.attr["value"].tensor.tensor_shape)
        else:
            shape = tf.TensorShape(holder.attr["shape"].shape)
        if shape.is_compatible_with(value.shape) or (holder.op == "Const" and not reshaped):
            return value
        return value.reshape(shape.as_list()) if reshaped and shape.num_elements() == value.size else None

    def add_node(self, name: str, op: str, inputs: Sequence[str], types: Mapping[str, int]) -> str:
        """A new node; its first output."""
        import tensorflow as tf

        node = tf.compat.v1.NodeDef(name=self._fresh(name), op=op, input=list(inputs))
        for key, value in types.items():
            node.attr[key].type = value
        self.nodes[node.name] = node
        if any(split(i)[0] in self.live for i in inputs):
            self.live.add(node.name)
        self.reread()
        return str(node.name)

    def add_constant(self, name: str, value: Array) -> str:
        """A new Const; its tensor."""
        import tensorflow as tf

        node = tf.compat.v1.NodeDef(name=self._fresh(name), op="Const")
        _set_const(node, value)
        self.nodes[node.name] = node
        return str(node.name)

    def add_identity(self, name: str, tensor: str) -> str:
        """An Identity of that very name; its tensor."""
        return self.add_node(name, "Identity", [tensor], {"T": self.dtype(tensor)})

    def rename(self, old: str, new: str) -> None:
        """Give a node another name, in whatever reads it."""
        new = self._fresh(new)
        self._names[old] = new
        node = self.nodes.pop(old)
        node.name = new
        self.nodes[new] = node
        for reader in self.nodes.values():
            for slot, spelled in enumerate(reader.input):
                name, index = split(spelled)
                if name == old:
                    reader.input[slot] = join(new, index)
        self.outputs = {k: self.renamed(t) for k, t in self.outputs.items()}

    def renamed(self, tensor: str) -> str:
        """What a tensor is called now."""
        name, index = split(tensor)
        return join(self._names.get(name, name), index)

    def dtype(self, tensor: str) -> int:
        """The dtype of a tensor, by a look at the graph as it is."""
        import tensorflow as tf

        graph_def = tf.compat.v1.GraphDef()
        needed = tf_graph.upstream(self.nodes, [tensor])
        graph_def.node.extend(tf_graph.sort([n for k, n in self.nodes.items() if k in needed]))
        graph_def.library.function.extend(self._functions.values())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
        name, index = split(tensor)
        return int(graph.get_tensor_by_name(f"{name}:{index}").dtype.as_datatype_enum)

    def _fresh(self, base: str) -> str:
        return free("".join(c if c.isalnum() or c in "._-/" else "_" for c in base), set(self.nodes))


def _downstream(nodes: Mapping[str, Any], starts: Sequence[str]) -> set[str]:
    readers = _readers(nodes)
    found, stack = set(starts), list(starts)
    while stack:
        for name in readers.get(stack.pop(), ()):
            if name not in found:
                found.add(name)
                stack.append(name)
    return found


def _readers(nodes: Mapping[str, Any]) -> dict[str, set[str]]:
    table: dict[str, set[str]] = {}
    for node in nodes.values():
        for spelled in node.input:
            if not spelled.startswith("^"):
                table.setdefault(split(spelled)[0], set()).add(node.name)
    return table


def _set_const(node: Any, value: Array) -> None:
    import tensorflow as tf

    node.attr.pop("_output_shapes", None)
    node.attr["dtype"].type = type_number(value.dtype)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.asarray(value)))


def type_number(dtype: Any) -> int:
    """TensorFlow's number for a dtype."""
    import tensorflow as tf

    return int(tf.as_dtype(dtype).as_datatype_enum)
