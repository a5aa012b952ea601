"""Edits on a Keras model's graph of calls: weights, settings, connections, and new layers in place of ONNX nodes.

Nothing is made while the edits are gathered: what changes is noted down call by call. Where only weights and settings
change, the file is edited in place (keras_container); otherwise the graph is built anew (keras_rebuild).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.graph import Call, Flat
from fetafix.formats.keras.lift import Places
from fetafix.formats.keras.parameters import Delta, parameter
from fetafix.formats.keras.pieces import Piece
from fetafix.formats.keras.settings import settings
from fetafix.formats.transfer import Changes, SetArgument, SetConstant
from fetafix.ir import Array, Graph

Perm = tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """A value that its own layer still makes. perm: the ONNX tensor so transposed has the native layout."""

    value: int
    perm: Perm


@dataclass(frozen=True, eq=False, slots=True)
class Spliced:
    """A value that new layers make from other host values."""

    piece: Piece
    inputs: tuple[Kept | Spliced, ...]


Held = Kept | Spliced


@dataclass(slots=True)
class Plan:
    """What changes. deltas: call → weights and settings. wires: call → value it read → value it shall read."""

    deltas: dict[int, Delta] = field(default_factory=dict)
    wires: dict[int, dict[int, Held]] = field(default_factory=dict)
    order: list[Held] = field(default_factory=list)
    outputs: list[Held] | None = None
    structural: bool = False


class KerasHost:
    """A flat model under repair. `tensors`: ONNX tensor → what the model makes it with (inputs included)."""

    def __init__(self, flat: Flat, places: Places, inputs: Sequence[str], feeds: Mapping[str, Array]) -> None:
        self._flat, self._places, self._feeds = flat, places, feeds
        self.plan = Plan()
        tensors: dict[str, Held] = {}
        self._makers = {v: i for i, call in enumerate(flat.calls) for v in call.outputs}
        for v, name in zip(flat.inputs, inputs, strict=True):
            tensors[name] = Kept(v, places[v][1])
        for v in sorted(places):
            tensor, perm = places[v]
            tensors.setdefault(tensor, Kept(v, perm))
        self.tensors: Mapping[str, Any] = tensors

    # keeping a layer ------------------------------------------------------------------------------------------------
    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Held:
        """What makes `tensor`, with its changes noted down. Raises Unsupported before anything is."""
        held = self.tensors[tensor]
        assert isinstance(held, Kept)
        unit = self._unit(held.value) if held.value in self._makers else []
        if not unit and (changes.constants or changes.arguments or wires):
            raise Unsupported(f"{tensor} is an input of the model")
        deltas = self._deltas(unit, changes)
        connections = self._connections(unit, wires)
        for i, delta in deltas.items():
            self.plan.deltas[i] = delta
        for i, table in connections.items():
            self.plan.wires.setdefault(i, {}).update(table)
            self.plan.structural = True
        self.plan.order.append(held)
        return held

    def _unit(self, value: int) -> list[int]:
        """The call that makes the value, and those before it whose values no ONNX tensor holds."""
        unit, stack = [self._makers[value]], [self._makers[value]]
        while stack:
            for v in self._flat.calls[stack.pop()].reads:
                i = self._makers.get(v)
                if i is not None and v not in self._places and i not in unit:
                    unit.append(i)
                    stack.append(i)
        return unit

    def _deltas(self, unit: Sequence[int], changes: Changes) -> dict[int, Delta]:
        deltas = {i: self.plan.deltas.get(i, Delta()) for i in unit}
        for node in changes.nodes:
            constants = [c for c in changes.constants if c.node is node]
            arguments = [a for a in changes.arguments if a.node is node]
            if constants or arguments:
                i, delta = self._changed(unit, deltas, constants, arguments)
                deltas[i] = delta
        return {i: d for i, d in deltas.items() if d}

    def _changed(
        self,
        unit: Sequence[int],
        deltas: Mapping[int, Delta],
        constants: Sequence[SetConstant],
        arguments: Sequence[SetArgument],
    ) -> tuple[int, Delta]:
        """The call of the unit that takes all changes of one ONNX node, and what they come to."""
        reasons: list[str] = []
        for i in unit:
            call = self._flat.calls[i]
            try:
                delta = deltas[i]
                left = []
                for constant in constants:
                    found = parameter(call.operation, constant, delta)
                    if found is None:
                        left.append(constant)
                    else:
                        delta = delta.merged(found)
                return i, delta.merged(settings(call, left, arguments, self._shape(call), self._perm(call)))
            except Unsupported as reason:
                reasons.append(str(reason))
        raise Unsupported("; ".join(dict.fromkeys(reasons)))

    def _shape(self, call: Call) -> tuple[int | None, ...]:
        """The native shape of what the call reads first, from the example."""
        return tuple(self._flat.symbols[call.reads[0]].shape) if call.reads else ()

    def _perm(self, call: Call) -> Perm:
        place = self._places.get(call.outputs[0])
        return place[1] if place else tuple(range(len(self._flat.symbols[call.outputs[0]].shape)))

    def _connections(self, unit: Sequence[int], wires: Mapping[str, Any]) -> dict[int, dict[int, Held]]:
        made: dict[int, dict[int, Held]] = {}
        for tensor, new in wires.items():
            for i in unit:
                for v in self._flat.calls[i].reads:
                    if v in self._places and self._places[v][0] == tensor:
                        made.setdefault(i, {})[v] = new
            if not any(self._places[v][0] == tensor for table in made.values() for v in table):
                raise Unsupported(f"{self._flat.calls[unit[0]].name} does not read {tensor} directly")
        return made

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Held:
        """New Keras layers that compute the fragment, tried on the feeds. Raises Unsupported."""
        perms = [self._native_perm(h, np.ndim(feeds[v.name])) for h, v in zip(inputs, fragment.inputs, strict=True)]
        piece = Piece(fragment, feeds)
        piece.check(perms)
        self.plan.structural = True
        held = Spliced(piece, tuple(inputs))
        self.plan.order.append(held)
        return held

    def _native_perm(self, held: Held, rank: int) -> Perm:
        return held.perm if isinstance(held, Kept) else tuple(range(rank))

    def set_outputs(self, values: Sequence[Any]) -> None:
        """These values become the outputs."""
        old = [self.tensors.get(self._places[v][0]) if v in self._places else None for v in self._flat.outputs]
        if list(values) != old:
            self.plan.structural = True
        self.plan.outputs = list(values)
