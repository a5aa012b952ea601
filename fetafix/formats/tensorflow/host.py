"""Edits on a TensorFlow graph: values, attributes, connections, and pieces of ONNX in place of operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.edits.surgery import free
from fetafix.formats.base import Unsupported
from fetafix.formats.onnx.view import Taps
from fetafix.formats.tensorflow import attributes as tf_attributes
from fetafix.formats.tensorflow import emit as tf_emit
from fetafix.formats.tensorflow import values as tf_values
from fetafix.formats.tensorflow.editor import GraphEditor, type_number
from fetafix.formats.tensorflow.graph import join, split
from fetafix.formats.transfer import Changes, SetConstant
from fetafix.ir import Array, Graph

Action = Callable[[], None]
_OPTIONAL = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A value of the graph: its tensor, and the permutation of axes that gives the ONNX tensor."""

    tensor: str
    perm: tuple[int, ...] = ()


class TfHost(GraphEditor):
    """A flat GraphDef under repair.

    tensors: ONNX tensor → what holds it. constants: fetches the values of constant tensors of the graph.
    """

    def __init__(
        self, graph_def: Any, taps: Taps, inputs: Mapping[str, str], outputs: Mapping[str, str],
        constants: Callable[[Sequence[str]], Sequence[Array]],
    ) -> None:
        super().__init__(graph_def, inputs, outputs)
        self.tensors: Mapping[str, Any] = self._bound(taps)
        self._onnx = {held.tensor: tensor for tensor, held in self.tensors.items()}
        self._constants = constants

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
                if not spelled.startswith("^") and source not in self._onnx and split(source)[0] in self.live:
                    stack.append(split(source)[0])
        return [n for n in unit if n.op != "Placeholder"]

    def _own(self, unit: Sequence[Any]) -> bool:
        """Whether nobody else reads what the unit computes on the way."""
        names = {n.name for n in unit}
        ends = {split(t)[0] for t in self.outputs.values()}
        return all(self.readers.get(n.name, set()) <= names and n.name not in ends for n in unit[1:])

    def constant_inputs(self, unit: Sequence[Any]) -> list[tuple[Any, int]]:
        """(node, slot) of the unit's inputs that do not depend on the model's."""
        return [(n, i) for n in unit for i, s in enumerate(n.input)
                if not s.startswith("^") and split(s)[0] not in self.live and split(s)[0] in self.nodes]

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

    def _add_bias(self, held: Held, bias: Array) -> Held:
        self.structural = True
        name = f"{split(held.tensor)[0]}/fetafix_bias"
        shape = [1] * (len(held.perm) or 2)
        axis = held.perm[1] if held.perm else 1
        shape[axis] = bias.size
        constant = self.add_constant(f"{name}_value", bias.reshape(shape))
        return Held(self.add_node(name, "AddV2", [held.tensor, constant], {"T": type_number(bias.dtype)}), held.perm)

    def _rewired(self, unit: Sequence[Any], wires: Mapping[str, Any]) -> Action:
        """All new connections of an operator at once: two operands may change places."""
        read = {self._onnx.get(join(*split(i))) for n in unit for i in n.input}
        unread = [old for old in wires if old not in read]
        if unread:
            raise Unsupported(f"{unit[0].name} does not read {unread[0]} directly")
        for old, new in wires.items():
            if self.dtype(new.tensor) != self.dtype(self.tensors[old].tensor):
                raise Unsupported(f"{unit[0].name} computes in another precision")

        def change() -> None:
            self.structural = True
            for node in unit:
                for slot, spelled in enumerate(node.input):
                    old = self._onnx.get(join(*split(spelled)), "")
                    if not spelled.startswith("^") and old in wires:
                        node.input[slot] = self.in_layout(wires[old], self.tensors[old].perm)
            self.reread()

        return change

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Any:
        """The tensor of the fragment's nodes, put in."""
        graph_def, placeholders, result = tf_emit.convert(fragment, feeds)
        fed = {p: self.in_layout(held, ()) for p, held in zip(placeholders, inputs, strict=True)}
        self.structural = True
        scope = free("fetafix", {n.partition("/")[0] for n in self.nodes})
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
            if any(split(i)[0] in self.live for i in copy.input):
                self.live.add(copy.name)
        source, index = split(result)
        self.reread()
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
        dtype = self.dtype(held.tensor)
        types = {"T": dtype, "Tperm": type_number(np.dtype(np.int32))}
        made = self.add_node(name, "Transpose", [held.tensor, constant], types)
        self.live.add(split(made)[0])
        return made

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


def _added_bias(change: SetConstant) -> bool:
    return change.old is None and change.new is not None and change.slot == 2 and change.node.op in _OPTIONAL
