"""Edits on a TFLite subgraph: parameters by value, connections, and new operators in place of old ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats import tflite_fragment, tflite_merge
from fetafix.formats.base import Unsupported
from fetafix.formats.tflite_constants import Constants
from fetafix.formats.tflite_program import Program
from fetafix.formats.tflite_tensors import ALIASES, MOVERS, Value
from fetafix.formats.transfer import Changes
from fetafix.ir import Array, Graph, Node

Action = Callable[[], None]


class TfliteHost:
    """A TFLite model under repair. `tensors`: ONNX tensor → its native value."""

    def __init__(self, program: Program, before: Graph, tensors: Mapping[str, Value]) -> None:
        self.program, self.tensors, self._before = program, tensors, before
        self._native = {v.tensor for v in tensors.values()}
        self._constants = Constants(program, before)
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
        if changes.constants:
            self._constants.grid(node, value, changes)
        new = wires.get(node.input(0))
        if new is None:
            return value
        turn: Any = node.attrs.get("perm") if node.op == "Transpose" else range(len(new.perm))
        turn = range(len(new.perm))[::-1] if turn is None else turn
        return Value(new.tensor, tuple(new.perm[i] for i in turn))

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
        """Sort, merge new operators into old ones that they replace, drop what nothing reads any more; the ModelT."""
        tflite_merge.finish(self.program)
        return self.program.model
