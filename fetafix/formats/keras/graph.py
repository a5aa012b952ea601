"""A Keras model as one flat list of calls, models within models included.

A *call* is one use of a layer or operation; what it makes are *values*, counted through. A layer used twice has two
calls. Models that are no graph (subclassed ones) have no such list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fetafix.errors import LiftError


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One use of an operation. inputs: id of the KerasTensor it is written with → value; outputs: values."""

    name: str
    operation: Any
    node: Any
    inputs: Mapping[int, int]
    outputs: tuple[int, ...]

    @property
    def reads(self) -> tuple[int, ...]:
        """The values it reads, in the order of its arguments, once each."""
        return tuple(dict.fromkeys(self.inputs[id(t)] for t in self.node.input_tensors))


@dataclass(slots=True)
class Flat:
    """inputs, outputs: values in the order of the model's interface. symbols: value → its KerasTensor."""

    calls: list[Call] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    symbols: list[Any] = field(default_factory=list)

    def new(self, symbol: Any) -> int:
        """A further value."""
        self.symbols.append(symbol)
        return len(self.symbols) - 1


def functional(model: Any) -> Any:
    """The graph of a model: itself, or what a Sequential holds; None for a subclassed model."""
    inner = getattr(model, "_functional", None)
    if inner is not None:
        return inner
    return model if hasattr(model, "_nodes_by_depth") and hasattr(model, "_run_through_graph") else None


def flatten(model: Any) -> Flat:
    """The calls of a model in the order in which Keras runs them. Raises LiftError where it is no graph."""
    graph = functional(model)
    if graph is None:
        raise LiftError(f"{type(model).__name__} is no graph of layers, so its layers cannot be told apart")
    flat = Flat()
    flat.inputs = [flat.new(t) for t in graph.inputs]
    flat.outputs = _into(flat, graph, flat.inputs, "", {})
    return flat


def _into(flat: Flat, graph: Any, inputs: Sequence[int], prefix: str, used: dict[str, int]) -> list[int]:
    values = {id(t): v for t, v in zip(graph.inputs, inputs, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.operation or node.is_input or any(id(t) not in values for t in node.input_tensors):
                continue
            inner = functional(node.operation)
            name = prefix + node.operation.name
            if inner is not None:
                read = [values[id(t)] for t in node.input_tensors]
                made = _into(flat, inner, read, f"{name}/", used)
            else:
                made = [flat.new(t) for t in node.outputs]
                used[name] = used.get(name, 0) + 1
                unique = name if used[name] == 1 else f"{name}:{used[name]}"
                own = {id(t): values[id(t)] for t in node.input_tensors}
                flat.calls.append(Call(unique, node.operation, node, own, tuple(made)))
            values.update({id(t): v for t, v in zip(node.outputs, made, strict=True)})
    return [values[id(t)] for t in graph.outputs]


def evaluate(flat: Flat, inputs: Sequence[Any], around: Callable[[int, Call], Any] | None = None) -> list[Any]:
    """Every value, computed call by call. `around(i, call)` is a context manager that each call runs in."""
    import contextlib

    from keras import tree

    values: list[Any] = [None] * len(flat.symbols)
    for v, x in zip(flat.inputs, inputs, strict=True):
        values[v] = x
    for i, call in enumerate(flat.calls):
        with around(i, call) if around is not None else contextlib.nullcontext():
            args, kwargs = call.node.arguments.fill_in({t: values[v] for t, v in call.inputs.items()})
            if "training" in getattr(call.operation, "_call_context_args", {}):
                kwargs = {**kwargs, "training": False}
            made = tree.flatten(call.operation(*args, **kwargs))
        for v, y in zip(call.outputs, made, strict=False):
            values[v] = y
    return values
