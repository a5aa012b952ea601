"""Carry an edited graph over to the protobuf that it came from.

A `Graph` shares every node and tensor that was not edited, so identity tells what changed: those protos are rewritten,
all others stay as they are, with names, documentation, metadata, annotations and functions. Of the shapes that the file
declares for inner tensors and outputs, those are kept that inference does not contradict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper

from fetafix.edits import Edit, apply
from fetafix.edits.surgery import free
from fetafix.errors import EditError
from fetafix.formats.onnx import dtypes as onnx_dtypes
from fetafix.formats.onnx import shapes as onnx_shapes
from fetafix.formats.onnx.store import is_apart
from fetafix.graph.proto import graph_from_model, node_to_proto, value_to_proto
from fetafix.ir import Graph, Node, Value

_SHAPES_BELOW = 1024


@dataclass(frozen=True, slots=True)
class Synced:
    """The edited model, and the initializers that were stored apart before their values changed."""

    model: onnx.ModelProto
    apart: frozenset[str]


def edited(model: onnx.ModelProto, folder: Path, edits: Sequence[Edit]) -> Synced:
    """The model after the edits; `model` is used up. Raises EditError where an edit does not fit.

    Local functions are kept unless an edit reaches into one; then they are inlined, as the lifted graph has them.
    """
    graph = graph_from_model(model, folder)
    try:
        after = _applied(model, graph, edits)
    except EditError:
        if not model.functions:
            raise
        model = onnx.inliner.inline_local_functions(model)
        graph = graph_from_model(model, folder)
        after = _applied(model, graph, edits)
    return _carry(model, graph, after)


def _applied(model: onnx.ModelProto, graph: Graph, edits: Sequence[Edit]) -> Graph:
    return _without_orphans(graph, apply(graph, onnx_dtypes.fitted(model, graph, edits)))


def _carry(model: onnx.ModelProto, graph: Graph, after: Graph) -> Synced:
    apart = frozenset(t.name for t in model.graph.initializer if is_apart(t))
    tainted = _tainted(graph, after)
    _write_nodes(model.graph, graph, after)
    changed = {k for k, v in after.initializers.items() if graph.initializers.get(k) is not v}
    _write_tensors(model, after, changed)
    _write_inputs(model, graph, after, changed)
    _write_opsets(model, graph, after)
    onnx_shapes.reconcile(model, after, tainted)
    known = {*after.producers, *after.initializers, *after.input_names}
    _keep(model.graph.quantization_annotation, lambda a: a.tensor_name in known)
    return Synced(model, apart & changed)


def _live(graph: Graph) -> tuple[set[str], set[str]]:
    """Keys of the nodes and names of the tensors that the outputs need."""
    needed, keys = set(graph.output_names), set[str]()
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            keys.add(node.key)
            needed.update(node.reads)
    return keys, needed & graph.initializers.keys()


def _without_orphans(before: Graph, after: Graph) -> Graph:
    """Drop what the edits left without a reader; what nobody read before either stays."""
    old_nodes, old_tensors = _live(before)
    idle_nodes = {n.key for n in before.nodes} - old_nodes
    idle_tensors = before.initializers.keys() - old_tensors
    nodes, tensors = _live(after)
    return replace(
        after,
        nodes=tuple(n for n in after.nodes if n.key in nodes or n.key in idle_nodes),
        initializers={k: v for k, v in after.initializers.items() if k in tensors or k in idle_tensors},
    )


def _tainted(before: Graph, after: Graph) -> set[str]:
    """Tensors whose shape or dtype may differ now: behind changed nodes, inputs or constants that set shapes."""
    same = {id(n) for n in before.nodes}
    tainted = {v.name for v, old in zip(after.inputs, before.inputs, strict=True) if v is not old}
    for name, tensor in after.initializers.items():
        old = before.initializers.get(name)
        if old is tensor or old is None:
            continue
        sets_shapes = tensor.dtype.kind in "iu" and tensor.nbytes < _SHAPES_BELOW
        if sets_shapes or old.shape != tensor.shape or old.dtype != tensor.dtype:
            tainted.add(name)
    for node in after.nodes:
        if id(node) not in same or tainted.intersection(node.reads):
            tainted.update(o for o in node.outputs if o)
    return tainted


def _write_nodes(proto: onnx.GraphProto, before: Graph, after: Graph) -> None:
    """Put the nodes in the order of the edited graph; unchanged ones are the old protos."""
    if len(after.nodes) == len(before.nodes) and all(a is b for a, b in zip(after.nodes, before.nodes, strict=True)):
        return
    olds = {id(n): p for n, p in zip(before.nodes, proto.node, strict=True)}
    origins = _origins(before, after)
    used = {origins[id(n)].name for n in after.nodes if id(n) in origins}
    named = any(n.name for n in before.nodes)
    protos = []
    for node in after.nodes:
        old = origins.get(id(node))
        if old is not None:
            protos.append(olds[id(old)] if old is node else _changed(olds[id(old)], old, node))
        else:
            protos.append(node_to_proto(replace(node, name=_name(node, used, named))))
            used.add(protos[-1].name)
    del proto.node[:]
    proto.node.extend(protos)


def _origins(before: Graph, after: Graph) -> dict[int, Node]:
    """The old node behind each node that is not new, by id: the same one, one edited, or one with renamed outputs."""
    same = {id(n) for n in before.nodes}
    origins = {id(n): n for n in after.nodes if id(n) in same}
    edited = [n for n in after.nodes if id(n) not in same]
    names = Counter(n.name for n in before.nodes if n.name)
    by_key = {n.key: n for n in before.nodes}
    by_name = {n.name: n for n in before.nodes if names[n.name] == 1}
    for table, label in ((by_key, "key"), (by_name, "name")):
        taken = {id(o) for o in origins.values()}
        for node in edited:
            old = table.get(getattr(node, label))
            # an edited node keeps its name; a new one in its place has another, or in unnamed files another operator
            kept = old is not None and old.name == node.name and (bool(node.name) or old.op == node.op)
            if old is not None and kept and id(node) not in origins and id(old) not in taken:
                origins[id(node)] = old
                taken.add(id(old))
    return origins


def _changed(proto: onnx.NodeProto, old: Node, node: Node) -> onnx.NodeProto:
    """A copy of the old proto with what differs."""
    new = onnx.NodeProto()
    new.CopyFrom(proto)
    fresh = node_to_proto(node)
    new.input[:] = node.inputs
    new.output[:] = node.outputs
    new.op_type = node.op
    if old.domain != node.domain:
        new.domain = node.domain
    kept = [a for a in proto.attribute if a.name in node.attrs and node.attrs[a.name] is old.attrs.get(a.name)]
    same = {a.name for a in kept}
    replaced = {a.name: a for a in fresh.attribute if a.name not in same}
    in_place = [replaced.pop(a.name, None) or (a if a.name in same else None) for a in proto.attribute]
    del new.attribute[:]
    new.attribute.extend([a for a in in_place if a is not None] + list(replaced.values()))
    return new


def _name(node: Node, used: set[str], named: bool) -> str:
    """A name of its own for a new node: the one it brings, or one in the style of the file."""
    if not named:
        return ""
    base = node.name or (f"/{node.op}" if sum(n.startswith("/") for n in used) * 2 > len(used) else node.op)
    return free(base, used)


def _write_tensors(model: onnx.ModelProto, after: Graph, changed: set[str]) -> None:
    graph = model.graph
    _keep(graph.initializer, lambda t: t.name in after.initializers)
    _keep(graph.sparse_initializer, lambda t: t.values.name in after.initializers and t.values.name not in changed)
    places = {t.name: t for t in graph.initializer}
    for name in (k for k in after.initializers if k in changed):
        tensor = numpy_helper.from_array(np.asarray(after.initializers[name], order="C"), name)
        if name in places:
            tensor.doc_string = places[name].doc_string
            tensor.metadata_props.extend(places[name].metadata_props)
            places[name].CopyFrom(tensor)
        else:
            graph.initializer.append(tensor)


def _write_inputs(model: onnx.ModelProto, before: Graph, after: Graph, changed: set[str]) -> None:
    """Declared inputs: shapes that were set, and the initializers that old files (IR version 3) list as inputs."""
    graph = model.graph
    olds = {v.name: v for v in before.inputs}
    wanted = {v.name: v for v in after.inputs}
    _keep(graph.input, lambda i: i.name in wanted or i.name in after.initializers)
    listed = {i.name: i for i in graph.input}
    for name, value in wanted.items():
        if value is not olds[name]:
            _set_shape(listed[name], value)
    for name in sorted(changed):
        tensor = after.initializers[name]
        if name in listed or model.ir_version < 4:
            entry = listed.get(name) or graph.input.add(name=name)
            entry.type.CopyFrom(value_to_proto(Value(name, tensor.dtype, tensor.shape)).type)


def _set_shape(proto: onnx.ValueInfoProto, value: Value) -> None:
    proto.type.tensor_type.ClearField("shape")
    shape = value_to_proto(value).type.tensor_type
    if shape.HasField("shape"):
        proto.type.tensor_type.shape.CopyFrom(shape.shape)


def _write_opsets(model: onnx.ModelProto, before: Graph, after: Graph) -> None:
    for domain, version in after.opset.items():
        if domain not in before.opset:
            model.opset_import.add(domain=domain, version=version)


def _keep(repeated: Any, wanted: Callable[[Any], bool]) -> None:
    """Delete the entries of a repeated protobuf field that are not wanted."""
    gone = [i for i, entry in enumerate(repeated) if not wanted(entry)]
    for i in reversed(gone):
        del repeated[i]
