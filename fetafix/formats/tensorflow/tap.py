"""What each operator of a TensorFlow graph computes: the tensors of the flat, frozen graph, fetched in a session.

The graph is run as it is written, without grappler, which would fuse what is looked at; tensors inside the loops of
TensorFlow 1 have no single value and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.formats.base import OpenOptions, Tap, Taps
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.graph import join, split
from fetafix.formats.tensorflow.program import Program
from fetafix.formats.tensorflow.session import Running, config
from fetafix.ir import Array

_CHUNK = 256
_FIXED = {"Const", "NoOp", "VarHandleOp", "VariableV2", "Variable", "ReadVariableOp", "Assert"}
_LOOP = {"Enter", "RefEnter"}
_LEAVES = {"Exit", "RefExit"}


class _Values:
    """The values of variables, to whom TensorFlow's freezing takes this for a session."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._values = values

    def run(self, names: Iterable[str]) -> list[Array]:
        """Values of tensors by name."""
        return [self._values[n.removesuffix(":0").removesuffix("/Read/ReadVariableOp")] for n in names]


def variable_values(program: Program) -> dict[str, Array]:
    """Variable of the flat graph → its value, read in a session."""
    flat = program.flat
    if not flat.variables:
        return {}
    graph_def = type(program.running)()
    graph_def.CopyFrom(program.running)
    kinds = {n.name: n for n in graph_def.node}
    fetch = {}
    for name, main in flat.variables.items():
        fetch[name] = main
        if kinds[main].op == "VarHandleOp":
            fetch[name] = f"{main}/fetafix_read"
            read = graph_def.node.add(name=fetch[name], op="ReadVariableOp", input=[main])
            read.attr["dtype"].type = kinds[main].attr["dtype"].type
    running = Running(graph_def, program, "cpu", config(0, False))
    try:
        return dict(zip(fetch, map(np.asarray, running.run({}, list(fetch.values()))), strict=True))
    finally:
        running.close()


def frozen(program: Program, values: Mapping[str, Array] | None = None) -> Any:
    """The flat graph with the variables' values as constants."""
    from tensorflow.python.framework import convert_to_constants

    flat = program.flat
    values = variable_values(program) if values is None else values
    ends = [split(t)[0] for t in (*flat.outputs.values(), *flat.inputs.values(), *flat.hidden.values())]
    if not values:
        return flat.graph_def
    graph_def = convert_to_constants.convert_variables_to_constants_from_session_graph(
        _Values(values), flat.graph_def, list(dict.fromkeys(ends)))
    graph_def = tf_graph.ordered(graph_def)
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)  # of the variables' handles, which are tensors now
    return graph_def


class Tapped:
    """The frozen graph of a program, and which of its tensors can be looked at."""

    def __init__(self, program: Program, options: OpenOptions) -> None:
        self._flat = program.flat
        self.graph_def = frozen(program)
        bare = Program(self.graph_def, self._flat.inputs, self._flat.outputs)
        self._running = Running(self.graph_def, bare, options.device, config(options.threads, False))
        self.layers = tuple(self._layers())

    def _layers(self) -> Iterable[Tap]:
        functions = tf_graph.library(self.graph_def)
        live = {split(t)[0] for t in self._flat.inputs.values()}
        inside: set[str] = set()
        for node in self.graph_def.node:
            data = [split(i)[0] for i in node.input if not i.startswith("^")]
            if node.op in _LOOP or (node.op not in _LEAVES and inside.intersection(data)):
                inside.add(node.name)
            read = tuple(join(*split(i)) for i in node.input if not i.startswith("^") and split(i)[0] in live)
            if not read or node.op in _FIXED or node.name in live:
                continue
            live.add(node.name)
            count = sum(n for _, n in tf_graph.outputs_of(node, functions))
            shown = range(1 if node.op.startswith("FusedBatchNorm") else count)
            made = tuple(t for t in (join(node.name, i) for i in shown) if self._shown(t))
            if node.name not in inside and made:
                yield Tap(node.name, node.op, read, made)

    def _shown(self, tensor: str) -> bool:
        return self._running.tensor(tensor).dtype.base_dtype.name not in ("resource", "variant", "string")

    def values(self, feeds: Mapping[str, Array], forced: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Tensor ("node" or "node:1") → value; those forced, by their names, take the place of what is computed."""
        fed = {self._flat.inputs[k]: np.asarray(v) for k, v in feeds.items() if k in self._flat.inputs}
        fed.update({t: np.asarray(v) for t, v in (forced or {}).items()})
        fetch = [t for y in self.layers for t in y.outputs]
        made: dict[str, Array] = {}
        for start in range(0, len(fetch), _CHUNK):
            part = fetch[start : start + _CHUNK]
            made.update(zip(part, map(np.asarray, self._running.run(fed, part)), strict=True))
        inputs = self._flat.inputs
        made.update({join(*split(inputs[k])): np.asarray(v) for k, v in feeds.items() if k in inputs})
        return made

    def close(self) -> None:
        """Give its memory back."""
        self._running.close()


def tap(
    program: Program, options: OpenOptions, feeds: Mapping[str, Array], forced: Mapping[str, Array] | None = None
) -> Taps:
    """Layers in the order in which they ran, and their values. Raises RuntimeCrash with TensorFlow's message.

    forced: values by their names in these taps, in place of what the model computes there.
    """
    flat = program.flat
    names = {join(*split(t)): n for n, t in {**flat.outputs, **flat.inputs}.items()}
    back = {n: t for t, n in names.items()}
    try:
        tapped = Tapped(program, options)
        values = tapped.values(feeds, {back.get(k, k): v for k, v in (forced or {}).items()})
    except Exception as error:  # whatever TensorFlow raises
        raise RuntimeCrash(f"TensorFlow cannot compute every tensor: {error}") from error
    tapped.close()

    def named(tensors: Iterable[str]) -> tuple[str, ...]:
        return tuple(names.get(t, t) for t in tensors)

    layers = tuple(Tap(y.layer, y.op, named(y.inputs), named(y.outputs)) for y in tapped.layers)
    renamed = {names.get(t, t): v for t, v in values.items()}
    renamed.update({n: values[join(*split(t))] for n, t in flat.outputs.items() if join(*split(t)) in values})
    return Taps(layers, renamed)
