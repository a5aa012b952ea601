"""Edits on a TensorFlow graph: values, attributes, connections, and pieces of ONNX in place of operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.onnx.view import Taps
from fetafix.formats.tensorflow import attributes as tf_attributes
from fetafix.formats.tensorflow import emit as tf_emit
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow import values as tf_values
from fetafix.formats.tensorflow.graph import join, split
from fetafix.formats.transfer import Changes, SetConstant
from fetafix.ir import Array, Graph

Action = Callable[[], None]
_HOLDERS = ("Const", "VarHandleOp", "VariableV2", "Variable")
_PLAIN = ("Identity", "ReadVariableOp")
_PASS = (*_PLAIN, "Reshape", "Squeeze", "ExpandDims")
_OPTIONAL = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A value of the graph: its tensor, and the permutation of axes that gives the ONNX tensor."""

    tensor: str
    perm: tuple[int, ...] = ()


class TfHost:
    """A flat GraphDef under repair.

    tensors: ONNX tensor → what holds it. values: constant tensor of the graph → its value, fetched when asked for.
    changed: variable node → its new value. structural: whether nodes changed.
    """

    def __init__(
        self, graph_def: Any, taps: Taps, inputs: Mapping[str, str], outputs: Mapping[str, str],
        constants: Callable[[Sequence[str]], Sequence[Array]],
    ) -> None:
        self.nodes = {n.name: n for n in graph_def.node}
        self._functions = tf_graph.library(graph_def)
        self.outputs = {k: join(*split(t)) for k, t in outputs.items()}
        self.changed: dict[str, Array] = {}
        self.structural = False
        self._names: dict[str, str] = {}
        self.tensors: Mapping[str, Any] = self._bound(taps)
        self._onnx = {held.tensor: tensor for tensor, held in self.tensors.items()}
        self._constants = constants
        live = [split(t)[0] for t in inputs.values()]
        self._live = _downstream(self.nodes, live)
        self._readers = _readers(self.nodes)

    def _bound(self, taps: Taps) -> dict[str, Held]:
        held: dict[str, Held] = {}
        for native, tensor in taps.tensors.items():
            if split(native)[0] in self.nodes and tensor not in held:
                held[tensor] = Held(join(*split(native)), taps.layouts.get(native, ()))
        return held

    # keeping an operator --------------------------------------------------------------------------------------------
    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Any:
        """What holds `tensor` after the changes. Raises Unsupported before anything is changed."""
        held: Held = self.tensors[tensor]
        unit = self._unit(held.tensor)
        edits = bool(changes.constants or changes.arguments or wires)
        if edits and not self._own(unit):
            raise Unsupported(f"{unit[0].name} shares what it computes from with other operators")
        actions = [self._constant(unit, c) for c in changes.constants if not _added_bias(c)]
        if changes.arguments:
            actions += tf_attributes.actions(self, unit, changes)
        if wires:
            actions.append(self._rewired(unit, wires))
        biases = [c for c in changes.constants if _added_bias(c)]
        for action in actions:
            action()
        for bias in biases:
            assert bias.new is not None
            held = self._add_bias(held, bias.new)
        return held

    def _unit(self, tensor: str) -> list[Any]:
        """The node and those before it that depend on the inputs but hold no tensor of the ONNX view."""
        unit: list[Any] = []
        stack = [split(tensor)[0]]
        while stack:
            name = stack.pop()
            node = self.nodes[name]
            if any(node is n for n in unit):
                continue
            unit.append(node)
            for spelled in node.input:
                source = join(*split(spelled))
                if not spelled.startswith("^") and source not in self._onnx and split(source)[0] in self._live:
                    stack.append(split(source)[0])
        return [n for n in unit if n.op != "Placeholder"]

    def _own(self, unit: Sequence[Any]) -> bool:
        """Whether nobody else reads what the unit computes on the way."""
        names = {n.name for n in unit}
        ends = {split(t)[0] for t in self.outputs.values()}
        return all(self._readers.get(n.name, set()) <= names and n.name not in ends for n in unit[1:])

    def constant_inputs(self, unit: Sequence[Any]) -> list[tuple[Any, int]]:
        """(node, slot) of the unit's inputs that do not depend on the model's."""
        return [(n, i) for n in unit for i, s in enumerate(n.input)
                if not s.startswith("^") and split(s)[0] not in self._live and split(s)[0] in self.nodes]

    def values(self, places: Sequence[tuple[Any, int]]) -> list[Array]:
        """The constant values at (node, slot) places."""
        return list(self._constants([n.input[i] for n, i in places]))

    def _constant(self, unit: Sequence[Any], change: SetConstant) -> Action:
        if change.old is None:
            raise Unsupported(f"{change.node.label}: input {change.slot} is absent there")
        places = sorted(self.constant_inputs(unit), key=lambda p: p[1] != change.slot)
        for (node, slot), value in zip(places, self.values(places), strict=True):
            way = tf_values.find(value, change.old, change.node.op, change.slot)
            if way is None:
                continue
            if change.new is None:
                if change.slot != 2 or change.node.op not in _OPTIONAL:
                    break
                new = np.zeros_like(value)
            else:
                new = way(change.new)
            return lambda n=node, s=slot, v=new: self.set_input(n, s, v)  # type: ignore[misc]
        raise Unsupported(
            f"{change.node.label}: input {change.slot} ({change.tensor or 'absent'}) is no constant of {unit[0].name}"
        )

    def set_input(self, node: Any, slot: int, value: Array) -> None:
        """Give a constant input another value: in the variable that holds it, where nobody else reads that."""
        chain, name = [], split(node.input[slot])[0]
        while self.nodes[name].op in _PASS and self.nodes[name].input:
            chain.append(name)
            name = split(self.nodes[name].input[0])[0]
        holder = self.nodes[name]
        alone = all(len(self._readers.get(n, set())) == 1 for n in [*chain, name])
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
        self._readers = _readers(self.nodes)

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

    def _add_bias(self, held: Held, bias: Array) -> Held:
        self.structural = True
        name = f"{split(held.tensor)[0]}/fetafix_bias"
        shape = [1] * (len(held.perm) or 2)
        axis = held.perm[1] if held.perm else 1
        shape[axis] = bias.size
        constant = self.add_constant(f"{name}_value", bias.reshape(shape))
        return Held(self.add_node(name, "AddV2", [held.tensor, constant], {"T": _enum(bias.dtype)}), held.perm)

    def _rewired(self, unit: Sequence[Any], wires: Mapping[str, Any]) -> Action:
        """All new connections of an operator at once: two operands may change places."""
        read = {self._onnx.get(join(*split(i))) for n in unit for i in n.input}
        unread = [old for old in wires if old not in read]
        if unread:
            raise Unsupported(f"{unit[0].name} does not read {unread[0]} directly")
        for old, new in wires.items():
            if self._dtype(new.tensor) != self._dtype(self.tensors[old].tensor):
                raise Unsupported(f"{unit[0].name} computes in another precision")

        def change() -> None:
            self.structural = True
            for node in unit:
                for slot, spelled in enumerate(node.input):
                    old = self._onnx.get(join(*split(spelled)), "")
                    if not spelled.startswith("^") and old in wires:
                        node.input[slot] = self.in_layout(wires[old], self.tensors[old].perm)
            self._readers = _readers(self.nodes)

        return change

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Any:
        """The tensor of the fragment's nodes, put in."""
        graph_def, placeholders, result = tf_emit.convert(fragment, feeds)
        fed = {p: self.in_layout(held, ()) for p, held in zip(placeholders, inputs, strict=True)}
        self.structural = True
        scope = tf_graph.free("fetafix", {n.partition("/")[0] for n in self.nodes})
        names = {n.name: f"{scope}/{n.name}" for n in graph_def.node if n.name not in fed}
        for node in graph_def.node:
            if node.name in fed:
                continue
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = names[node.name]
            for slot, spelled in enumerate(node.input):
                source, index = split(spelled)
                copy.input[slot] = fed[source] if source in fed else join(names[source], index)
            self.nodes[copy.name] = copy
            if any(split(i)[0] in self._live for i in copy.input):
                self._live.add(copy.name)
        source, index = split(result)
        self._readers = _readers(self.nodes)
        return Held(fed[source] if source in fed else join(names[source], index))

    def in_layout(self, held: Held, perm: tuple[int, ...]) -> str:
        """A tensor from which `perm` gives the ONNX tensor, as it does from the one that was there."""
        if held.perm == perm:
            return held.tensor
        rank = len(held.perm) or len(perm)
        have, want = held.perm or tuple(range(rank)), perm or tuple(range(rank))
        turn = tuple(have[want.index(i)] for i in range(rank))
        if turn == tuple(range(rank)):
            return held.tensor
        self.structural = True
        name = self._fresh(f"{split(held.tensor)[0]}/fetafix_transpose")
        constant = self.add_constant(f"{name}/perm", np.array(turn, np.int32))
        dtype = self._dtype(held.tensor)
        types = {"T": dtype, "Tperm": _enum(np.dtype(np.int32))}
        made = self.add_node(name, "Transpose", [held.tensor, constant], types)
        self._live.add(split(made)[0])
        return made

    def add_node(self, name: str, op: str, inputs: Sequence[str], types: Mapping[str, int]) -> str:
        """A new node; its first output."""
        import tensorflow as tf

        node = tf.compat.v1.NodeDef(name=self._fresh(name), op=op, input=list(inputs))
        for key, value in types.items():
            node.attr[key].type = value
        self.nodes[node.name] = node
        if any(split(i)[0] in self._live for i in inputs):
            self._live.add(node.name)
        self._readers = _readers(self.nodes)
        return str(node.name)

    def add_identity(self, name: str, tensor: str) -> str:
        """An Identity of that very name; its tensor."""
        return self.add_node(name, "Identity", [tensor], {"T": self._dtype(tensor)})

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

    def add_constant(self, name: str, value: Array) -> str:
        """A new Const; its tensor."""
        import tensorflow as tf

        node = tf.compat.v1.NodeDef(name=self._fresh(name), op="Const")
        _set_const(node, value)
        self.nodes[node.name] = node
        return str(node.name)

    def _dtype(self, tensor: str) -> int:
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
        return tf_graph.free("".join(c if c.isalnum() or c in "._-/" else "_" for c in base), set(self.nodes))

    def set_outputs(self, values: Sequence[Any]) -> None:
        """Put these values out in place of the old ones, in order; where there are fewer, those that stay."""
        names = list(self.outputs)
        if len(values) > len(names):
            raise Unsupported(f"the model has {len(names)} outputs, {len(values)} wanted")
        if len(values) < len(names):
            whose = {id(self.tensors[n]): n for n in names if n in self.tensors}
            kept = [whose.get(id(v), "") for v in values]
            if "" in kept:
                raise Unsupported("the outputs that remain are not among those that there were")
            self.outputs = {n: self.outputs[n] for n in names if n in kept}
            self.structural = True
            return
        for name, value in zip(names, values, strict=True):
            old = self.tensors.get(name)
            if old is None or value is not old:
                self.outputs[name] = self.in_layout(value, () if old is None else old.perm)
                self.structural = True


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


def _added_bias(change: SetConstant) -> bool:
    return change.old is None and change.new is not None and change.slot == 2 and change.node.op in _OPTIONAL


def _set_const(node: Any, value: Array) -> None:
    import tensorflow as tf

    node.attr.pop("_output_shapes", None)
    node.attr["dtype"].type = _enum(value.dtype)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.asarray(value)))


def _enum(dtype: Any) -> int:
    import tensorflow as tf

    return int(tf.as_dtype(dtype).as_datatype_enum)
