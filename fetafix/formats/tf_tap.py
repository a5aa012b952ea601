"""What each operator of a TensorFlow graph computes: every tensor of the flat, frozen graph, fetched in a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.formats import tf_graph
from fetafix.formats.base import OpenOptions, Tap, Taps
from fetafix.formats.tf_graph import join, split
from fetafix.formats.tf_program import Flat, Program
from fetafix.formats.tf_session import Running, config
from fetafix.ir import Array

_CHUNK = 256
_CONSTANT = {"Const", "NoOp", "VarHandleOp", "VariableV2", "Variable", "ReadVariableOp"}
_INNER = {"Enter", "Exit", "Switch", "Merge", "NextIteration", "LoopCond"}


def frozen(program: Program, options: OpenOptions) -> Any:
    """The flat graph with the variables' values as constants. Raises RuntimeCrash where TensorFlow cannot freeze it."""
    import tensorflow as tf

    flat = program.flat
    variables = {n.name for n in flat.graph_def.node if n.op in ("VarHandleOp", "VariableV2", "Variable")}
    if not variables:
        return flat.graph_def
    running = Running(_with_saver(program), program, "cpu", config(options.threads, False))
    try:
        values = dict(zip(sorted(variables), _values(running, sorted(variables)), strict=True))
    finally:
        running.close()
    graph_def = type(flat.graph_def)()
    graph_def.CopyFrom(flat.graph_def)
    del graph_def.node[:]
    for node in flat.graph_def.node:
        graph_def.node.append(_frozen_node(tf, node, values))
    return graph_def


def variables_of(flat: Flat) -> dict[str, str]:
    """Variable node of the flat graph → what the main graph calls it."""
    return {n.name: n.name for n in flat.graph_def.node if n.op in ("VarHandleOp", "VariableV2", "Variable")}


def tap(program: Program, options: OpenOptions, feeds: Mapping[str, Array]) -> Taps:
    """Layers in the order in which they ran, and their values, fetched a few hundred at a time."""
    flat = program.flat
    graph_def = frozen(program, options)
    layers, fetch = _layers(flat, graph_def)
    running = Running(graph_def, Program(graph_def, flat.inputs, flat.outputs), options.device,
                      config(options.threads, False))
    fed = {flat.inputs[k]: np.asarray(v) for k, v in feeds.items() if k in flat.inputs}
    try:
        made: dict[str, Array] = {}
        for start in range(0, len(fetch), _CHUNK):
            part = fetch[start : start + _CHUNK]
            made.update(zip(part, running.run(fed, part), strict=True))
    except Exception as error:  # whatever TensorFlow raises
        raise RuntimeCrash(f"TensorFlow cannot compute every tensor: {error}") from error
    finally:
        running.close()
    named = {join(*split(t)): n for n, t in {**flat.inputs, **flat.outputs}.items()}
    values = {t: np.asarray(v) for t, v in made.items()}
    values.update({n: np.asarray(feeds[n]) for n in flat.inputs if n in feeds})
    values.update({n: values[join(*split(t))] for n, t in flat.outputs.items() if join(*split(t)) in values})
    rename = {t: n for t, n in named.items() if n in values}
    moved = tuple(Tap(y.layer, y.op, tuple(rename.get(t, t) for t in y.inputs), tuple(rename.get(t, t) for t in y.outputs))
                  for y in layers)
    return Taps(moved, {k: v for k, v in values.items() if k not in rename})


def _layers(flat: Flat, graph_def: Any) -> tuple[list[Tap], list[str]]:
    """The operators whose values depend on the inputs, and the tensors to fetch."""
    functions = tf_graph.library(graph_def)
    live = {split(t)[0] for t in flat.inputs.values()}
    layers, fetch = [], []
    for node in graph_def.node:
        if node.name in live or node.op in _CONSTANT:
            continue
        read = tuple(join(*split(i)) for i in node.input if not i.startswith("^") and split(i)[0] in live)
        if not read:
            continue
        live.add(node.name)
        count = sum(n for _, n in tf_graph.outputs_of(node, functions))
        made = tuple(join(node.name, i) for i in range(count))
        if node.op == "Identity" and not made or node.op in _INNER:
            continue
        kept = made[:1] if node.op.startswith("FusedBatchNorm") else made
        layers.append(Tap(node.name, node.op, read, kept))
        fetch += kept
    return layers, fetch


def _with_saver(program: Program) -> Any:
    """The running graph with a ReadVariableOp for every variable handle."""
    graph_def = type(program.running)()
    graph_def.CopyFrom(program.running)
    for node in list(graph_def.node):
        if node.op == "VarHandleOp":
            read = graph_def.node.add(name=f"{node.name}/fetafix_read", op="ReadVariableOp", input=[node.name])
            read.attr["dtype"].type = node.attr["dtype"].type
    return graph_def


def _values(running: Running, names: Sequence[str]) -> list[Array]:
    kinds = {n: running.graph.get_operation_by_name(n).type for n in names}
    return running.run({}, [f"{n}/fetafix_read" if kinds[n] == "VarHandleOp" else n for n in names])


def _frozen_node(tf: Any, node: Any, values: Mapping[str, Array]) -> Any:
    """A variable as a Const under its own name, what reads it as an Identity, a gather from it as a plain one."""
    made = type(node)()
    made.CopyFrom(node)
    if node.name in values:
        made.Clear()
        made.name, made.op = node.name, "Const"
        dtype = tf.as_dtype(node.attr["dtype"].type).base_dtype
        made.attr["dtype"].type = dtype.as_datatype_enum
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name], dtype=dtype))
    elif node.op == "ReadVariableOp":
        made.op = "Identity"
        made.attr.clear()
        made.attr["T"].type = node.attr["dtype"].type
    elif node.op == "ResourceGather":
        made.op = "GatherV2"
        axis = node.attr["batch_dims"].i
        made.attr.clear()
        made.attr["Tparams"].type, made.attr["Tindices"].type = node.attr["dtype"].type, node.attr["Tindices"].type
        made.attr["batch_dims"].i = axis
        made.attr["Taxis"].type = tf.int32.as_datatype_enum
        made.input.insert(2, f"{node.name}/axis")
    return made
