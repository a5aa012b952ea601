"""Edits on a TFLite subgraph: parameters by value, connections, and new operators in place of old ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import fragment as tflite_fragment
from fetafix.formats.tflite import merge as tflite_merge
from fetafix.formats.tflite.constants import Constants
from fetafix.formats.tflite.grids import KEEPING
from fetafix.formats.tflite.program import Program
from fetafix.formats.tflite.tensors import ALIASES, MOVERS, Value
from fetafix.formats.transfer import Changes
from fetafix.ir import Array, Graph, Node

Action = Callable[[], None]


class TfliteHost:
    """A TFLite model under repair. `tensors`: ONNX tensor → its native value."""

    def __init__(self, program: Program, before: Graph, tensors: Mapping[str, Value]) -> None:
        self.program, self.tensors, self._before = program, tensors, before
        self._native = {v.tensor for v in tensors.values()}
        self._constants = Constants(program, before)
        self._told: dict[int, dict[tuple[bytes, ...], str]] = {}
        self._maker = {int(t): o for o in program.old_operators for t in o.outputs}
        self._reads = {id(o): [int(t) for t in o.inputs] for o in program.old_operators}

    # keeping a layer ------------------------------------------------------------------------------------------------
    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Value:
        """The value of `tensor` with the changes made. Raises Unsupported before anything is changed."""
        value, node = self.tensors[tensor], self._before.producers[tensor]
        if self._alias(node, value):
            return self._keep_alias(node, value, changes, wires)
        if changes.arguments:
            raise Unsupported(f"{node.label}: {changes.arguments[0].attribute} is written with its operator")
        for inner in changes.nodes:
            if inner.op == "QuantizeLinear" and inner.outputs[0] in self.tensors:
                self._note_grid(inner, changes)
        unit = self._unit(value.tensor)
        actions = self._constants.actions(unit, changes, value)
        if wires:
            self._own_unit(unit, node)
            actions += self._rewired(unit, node, wires)
        for action in actions:
            action()
        return value

    def _alias(self, node: Node, value: Value) -> bool:
        source = self.tensors.get(node.input(0))
        return node.op in ALIASES | MOVERS and source is not None and source.tensor == value.tensor

    def _keep_alias(self, node: Node, value: Value, changes: Changes, wires: Mapping[str, Any]) -> Value:
        if changes.arguments:
            raise Unsupported(f"{node.label} is no operator of its own")
        if changes.constants and node.op in MOVERS:
            raise Unsupported(f"{node.label} is no operator of its own")
        self._note_grid(node, changes)
        if changes.constants:
            self._constants.grid(node, value, changes)
        new = wires.get(node.input(0))
        if new is None:
            return value
        if node.op == "QuantizeLinear":
            self._put_on_grid(node, new)
        turn: Any = node.attrs.get("perm") if node.op == "Transpose" else range(len(new.perm))
        turn = range(len(new.perm))[::-1] if turn is None else turn
        return Value(new.tensor, tuple(new.perm[i] for i in turn))

    def _note_grid(self, node: Node, changes: Changes) -> None:
        """What a Q or DQ of an activation says of its tensor's grid now."""
        if node.op not in ("QuantizeLinear", "DequantizeLinear"):
            return
        new = {c.slot: c.new for c in changes.constants if c.node is node}
        told = tuple(new.get(slot, self._before.constant(node, slot)) for slot in (1, 2))
        said = tuple(b"" if v is None or not np.any(v) else v.astype(np.float64).tobytes() for v in told)
        name = node.outputs[0] if node.op == "QuantizeLinear" else node.input(0)
        if name in self.tensors:
            self._told.setdefault(self.tensors[name].tensor, {})[said] = node.label

    def _put_on_grid(self, node: Node, new: Value) -> None:
        """What a new operator makes is put on the grid that a QuantizeLinear behind it asks for."""
        scale, zero = self._before.constant(node, 1), self._before.constant(node, 2)
        grid = self.program.quantisation(new.tensor)
        if scale is None or zero is None or grid is None:
            raise Unsupported(f"{node.label}: what it reads now is not in codes")
        if np.array_equal(grid[0], scale.reshape(-1)) and np.array_equal(grid[1], zero.reshape(-1)):
            return
        maker = self.program.producer(new.tensor)
        if maker is None or id(maker) not in self.program.fields or self.program.opcode(maker) in KEEPING:
            raise Unsupported(f"{node.label} reads what is on another grid")
        self.program.set_quantisation(new.tensor, scale.reshape(-1), zero.reshape(-1), 0)

    def _unit(self, tensor: int) -> list[Any]:
        """The operator that makes a tensor, and those before it whose outputs no ONNX tensor stands for."""
        unit: list[Any] = []
        stack = [self._maker.get(tensor)]
        while stack:
            operator = stack.pop()
            if operator is None or any(o is operator for o in unit):
                continue
            unit.append(operator)
            stack += [self._maker.get(t) for t in self._reads[id(operator)] if t >= 0 and t not in self._native]
        if not unit:
            raise Unsupported("an input of the model is computed by no operator")
        return unit

    def _own_unit(self, unit: Sequence[Any], node: Node) -> None:
        inside = {id(o) for o in unit}
        for operator in unit[1:]:
            made = {int(t) for t in operator.outputs}
            shared = any(made & set(r) and u not in inside for u, r in self._reads.items())
            if shared and self.program.origin(operator.outputs[0]) == operator.outputs[0]:
                raise Unsupported(f"{node.label} shares what it computes from with other layers")

    def _rewired(self, unit: Sequence[Any], node: Node, wires: Mapping[str, Any]) -> list[Action]:
        """All new connections of a layer at once: two operands may change places."""
        new: dict[int, tuple[Value, tuple[int, ...], str]] = {}
        for tensor, value in wires.items():
            old = self.tensors[tensor]
            if len(old.perm) != len(value.perm):
                raise Unsupported(f"{node.label} would read a tensor of another rank")
            new.setdefault(old.tensor, (value, old.perm, tensor))
        if not set(new) <= {t for o in unit for t in self._reads[id(o)]}:
            raise Unsupported(f"{node.label} does not read what is to be rewired directly")

        def change() -> None:
            made = {old: self._turned(*turned) for old, turned in new.items()}
            for operator in unit:
                inputs = np.array(operator.inputs, np.int32)
                for slot, read in enumerate(self._reads[id(operator)]):
                    inputs[slot] = made.get(read, inputs[slot])
                if not np.array_equal(inputs, operator.inputs):
                    operator.inputs = inputs

        return [change]

    def _turned(self, value: Value, perm: tuple[int, ...], tensor: str) -> int:
        """A native tensor that looks in layout `perm` as `value` does in its own."""
        return self._translator().shaped(value, perm, tensor).tensor

    def _translator(self) -> tflite_fragment.Translator:
        empty = Graph((), {}, (), (), {})
        return tflite_fragment.Translator(self.program, empty, {}, {})

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Value:
        """New operators that compute the fragment."""
        return tflite_fragment.convert(self.program, fragment, inputs, feeds)

    def set_outputs(self, values: Sequence[Any]) -> None:
        """These values are put out, in ONNX's order of axes, under the old names."""
        names = [self._before.output_names[i] if i < len(self._before.output_names) else f"output_{i}"
                 for i in range(len(values))]  # fmt: skip
        made = [self._turned(v, tuple(range(len(v.perm))), n) for v, n in zip(values, names, strict=True)]
        old, exits = [int(t) for t in self.program.graph.outputs], self.program.exits
        if made == exits:
            return
        new = list(made)
        if len(made) == len(exits) == len(old):
            new = list(old)
            for was, now in zip(exits, made, strict=True):
                new[old.index(was)] = now
        self.program.exits = made
        self._put_out(new)

    def _put_out(self, made: list[int]) -> None:
        graph, tensors = self.program.graph, self.program.tensors
        old = [int(t) for t in graph.outputs]
        labels = [tensors[t].name for t in old]
        for place, (was, now) in enumerate(zip(old, made, strict=False)):
            if was != now and labels[place] is not None and now not in old:
                tensors[now].name, tensors[was].name = labels[place], tensors[was].name + b"_unused"
        graph.outputs = np.array(made, np.int32)
        for signature in self.program.model.signatureDefs or []:
            if signature.subgraphIndex == 0 and signature.outputs is not None:
                tflite_merge.signature_outputs(signature, old, made, tensors)

    def finish(self) -> Any:
        """Sort, merge new operators into old ones that they replace, drop what nothing reads any more; the ModelT.

        Raises Unsupported where the ends of a tensor of codes no longer agree on its grid.
        """
        for labels in self._told.values():
            if len(labels) > 1:
                raise Unsupported(
                    f"{' and '.join(labels.values())} take one tensor for codes of different grids, but TFLite keeps "
                    "one scale and zero point for a tensor, which its writer and all its readers share"
                )
        tflite_merge.finish(self.program)
        return self.program.model
