"""Write a graph edit natively: keep every native layer that still does its part, change only what differs.

Before and after are ONNX graphs; a *host* is the native graph (torch.fx, TorchScript, a GraphDef, a TFLite subgraph)
whose values are known to be certain tensors of the before graph (`host.tensors`). Going through the after graph in
order, each such tensor is obtained in the cheapest way that is right:

1. the native layer still computes it: kept, with inputs rewired, parameters and arguments set where those differ;
2. otherwise the ONNX nodes that compute it now are converted to native operators and take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fetafix.edits import prune
from fetafix.formats.base import Unsupported
from fetafix.formats.constants import constant_value
from fetafix.ir import Array, Attribute, Graph, Node


@dataclass(frozen=True, eq=False, slots=True)
class SetConstant:
    """A layer's constant input changes. tensor: its name in the before graph ("" where there was none)."""

    node: Node
    slot: int
    tensor: str
    old: Array | None
    new: Array | None


@dataclass(frozen=True, eq=False, slots=True)
class SetArgument:
    """A layer's attribute changes."""

    node: Node
    attribute: str
    value: Attribute | None


@dataclass(slots=True)
class Changes:
    """What has to change in one native layer. wires: before tensor → after tensor it shall read instead."""

    wires: dict[str, str] = field(default_factory=dict)
    constants: list[SetConstant] = field(default_factory=list)
    arguments: list[SetArgument] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)


Samples = Callable[[Sequence[str]], Mapping[str, Array]]


class Host(Protocol):
    """A native graph that can be edited. Values are opaque."""

    tensors: Mapping[str, Any]

    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Any:
        """The value of `tensor` after the changes; raises Unsupported before anything is changed."""
        ...

    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Any:
        """A new value, computed by the fragment (one output) from host values. Raises Unsupported."""
        ...

    def set_outputs(self, values: Sequence[Any]) -> None:
        """These values become the outputs."""
        ...


def transfer(before: Graph, after: Graph, host: Host, samples: Samples) -> None:
    """Make the host compute `after`. `samples` gives example values of tensors of the after graph.

    Raises Unsupported with a reason; the host is then in no defined state.
    """
    _Transfer(before, prune(after), host, samples).run()


class _Transfer:
    def __init__(self, before: Graph, after: Graph, host: Host, samples: Samples) -> None:
        self._before, self._after, self._host, self._samples = before, after, host, samples
        self._origin = _origins(before, after)
        self._values: dict[str, Any] = {}
        self._claimed: set[str] = set()

    def run(self) -> None:
        for name in self._after.input_names:
            if name not in self._host.tensors:
                raise Unsupported(f"the native graph has no input {name!r}")
            self._values[name] = self._host.tensors[name]
        for node in self._after.nodes:
            for tensor in node.outputs:
                if self._native(tensor):
                    self._value(tensor)
        self._host.set_outputs([self._value(t) for t in self._after.output_names])

    def _native(self, tensor: str) -> bool:
        origin = self._origin.get(tensor)
        return origin is not None and origin in self._host.tensors

    def _value(self, tensor: str) -> Any:
        if tensor not in self._values:
            self._values[tensor] = self._obtain(tensor)
        return self._values[tensor]

    def _obtain(self, tensor: str) -> Any:
        origin = self._origin.get(tensor, "")
        refusal = ""
        if self._native(tensor) and origin not in self._claimed:
            changes = Changes()
            if self._match(tensor, origin, changes):
                self._claimed.add(origin)
                wires = {old: self._value(new) for old, new in changes.wires.items()}
                wires = {old: v for old, v in wires.items() if v is not self._host.tensors[old]}
                try:
                    return self._host.keep(origin, changes, wires)
                except Unsupported as reason:
                    refusal = str(reason)
        return self._splice(tensor, refusal)

    def _splice(self, tensor: str, refusal: str) -> Any:
        starts = {*self._values, *(t for t in self._origin if self._native(t))} - {tensor}
        fragment = self._after.between(starts, [tensor])
        if not fragment.nodes:
            raise Unsupported(f"{tensor} would become a constant or an input of the model")
        inputs = [self._value(v.name) for v in fragment.inputs]
        feeds = self._samples([v.name for v in fragment.inputs])
        try:
            return self._host.splice(fragment, inputs, feeds)
        except Unsupported as reason:
            raise Unsupported("; ".join(dict.fromkeys(r for r in (refusal, str(reason)) if r))) from reason

    def _match(self, after: str, before: str, changes: Changes) -> bool:
        """Whether the unit that made `before` makes `after` now, up to wires, constants and attributes (noted down)."""
        new, old = self._after.producers.get(after), self._before.producers.get(before)
        if new is None or old is None or (new.op, new.domain) != (old.op, old.domain):
            return False
        if new.outputs.index(after) != old.outputs.index(before) or len(new.outputs) != len(old.outputs):
            return False
        changes.nodes.append(old)
        changes.arguments += [SetArgument(old, k, v) for k, v in _attribute_changes(old, new)]
        slots = range(max(len(old.inputs), len(new.inputs)))
        return all(self._match_input(old, slot, new.input(slot), old.input(slot), changes) for slot in slots)

    def _internal(self, tensor: str) -> bool:
        """Whether a tensor of the before graph lies inside a native layer."""
        return tensor not in self._host.tensors and tensor not in self._before.initializers

    def _match_input(self, node: Node, slot: int, new: str, old: str, changes: Changes) -> bool:
        if not new and not old:
            return True
        made, was = self._after.initializers.get(new), self._before.initializers.get(old)
        if was is not None or not old or (made is not None and self._internal(old)) or not new:
            if (was is None and old and self._constant_value(old) is None) or (made is None and new):
                return False
            was = was if was is not None or not old else self._constant_value(old)
            if not _same(was, made):
                changes.constants.append(SetConstant(node, slot, old, was, made))
            return True
        if made is not None:
            return False
        if self._internal(old):
            return self._match(new, old, changes)
        return changes.wires.setdefault(old, new) == new

    def _constant_value(self, tensor: str) -> Array | None:
        """A tensor inside a layer that is a constant after all: an initializer turned, put together or dequantised."""
        return constant_value(self._before, tensor)


def _same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _attribute_changes(old: Node, new: Node) -> list[tuple[str, Attribute | None]]:
    if new.attrs is old.attrs:
        return []
    names = dict.fromkeys((*old.attrs, *new.attrs))
    return [(n, new.attrs.get(n)) for n in names if not _equal(old.attrs.get(n), new.attrs.get(n))]


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None or type(a) is not type(b):
        return a is b
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and np.array_equal(a, b))
    return bool(a == b) if isinstance(a, int | float | str | bytes | tuple) else a is b


def _origins(before: Graph, after: Graph) -> dict[str, str]:
    """After tensor → the before tensor that the same node made. Edits copy nodes but share their attributes."""
    same = {id(n): n for n in before.nodes}
    shared = {id(n.attrs): n for n in before.nodes}
    keyed = {n.key: n for n in before.nodes}
    origin: dict[str, str] = {name: name for name in after.input_names}
    taken: set[int] = set()
    finders: tuple[Callable[[Node], Node | None], ...] = (
        lambda n: same.get(id(n)),
        lambda n: shared.get(id(n.attrs)),
        lambda n: keyed.get(n.key),
    )
    for find in finders:
        for node in after.nodes:
            twin = find(node)
            if twin is None or node.key in origin or id(twin) in taken or twin.op != node.op:
                continue
            taken.add(id(twin))
            origin.update({a: b for a, b in zip(node.outputs, twin.outputs, strict=False) if a and b})
    return origin
