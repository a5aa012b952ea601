"""Between the canonical `Graph` and ONNX's ModelProto, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.inliner
from onnx import helper, numpy_helper

from fetafix.ir import Array, Attribute, Body, Dim, Graph, Node, Value

_A = onnx.AttributeProto


def _captures(body: onnx.GraphProto) -> tuple[str, ...]:
    """Tensors that a sub-graph reads from outside, nested bodies included."""
    own = {v.name for v in body.input} | {t.name for t in body.initializer} | {o for n in body.node for o in n.output}
    free: dict[str, None] = {}
    for node in body.node:
        free.update(dict.fromkeys(i for i in node.input if i and i not in own))
        for attr in node.attribute:
            for inner in (attr.g, *attr.graphs):
                free.update(dict.fromkeys(c for c in _captures(inner) if c not in own))
    free.update(dict.fromkeys(o.name for o in body.output if o.name not in own))
    return tuple(free)


def attribute_from_proto(attr: onnx.AttributeProto) -> Attribute:
    """An attribute's value as plain data."""
    if attr.type == _A.GRAPH:
        return Body(attr.g.SerializeToString(), _captures(attr.g))
    value: Any = helper.get_attribute_value(attr)
    if attr.type == _A.TENSOR:
        return numpy_helper.to_array(value)
    if attr.type == _A.STRING:
        return bytes(value).decode("utf-8", "surrogateescape")
    if attr.type == _A.STRINGS:
        return tuple(bytes(v).decode("utf-8", "surrogateescape") for v in value)
    if attr.type in (_A.INTS, _A.FLOATS):
        return tuple(value)
    if attr.type in (_A.INT, _A.FLOAT):
        return float(value) if attr.type == _A.FLOAT else int(value)
    return bytes(attr.SerializeToString())


def _attribute_to_proto(name: str, value: Attribute) -> onnx.AttributeProto:
    if isinstance(value, Body):
        return helper.make_attribute(name, onnx.GraphProto.FromString(value.proto))
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if isinstance(value, bytes):
        return cast(onnx.AttributeProto, _A.FromString(value))
    if isinstance(value, tuple) and not value:
        return helper.make_attribute(name, [], attr_type=_A.INTS)
    return helper.make_attribute(name, list(value) if isinstance(value, tuple) else value)


def node_from_proto(proto: onnx.NodeProto) -> Node:
    """A node as a frozen record."""
    attrs = {a.name: attribute_from_proto(a) for a in proto.attribute}
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attrs, proto.name, domain)


def node_to_proto(node: Node) -> onnx.NodeProto:
    """A node as a NodeProto."""
    proto = onnx.NodeProto(op_type=node.op, input=node.inputs, output=node.outputs, name=node.name, domain=node.domain)
    proto.attribute.extend(_attribute_to_proto(k, v) for k, v in node.attrs.items())
    return proto


def _dims(tensor: onnx.TypeProto.Tensor) -> tuple[Dim, ...] | None:
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim)


def _value_from_proto(proto: onnx.ValueInfoProto) -> Value:
    tensor = proto.type.tensor_type
    code = tensor.elem_type or onnx.TensorProto.FLOAT
    return Value(proto.name, np.dtype(helper.tensor_dtype_to_np_dtype(code)), _dims(tensor))


def value_to_proto(value: Value) -> onnx.ValueInfoProto:
    """A graph input or output as a ValueInfoProto."""
    code = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(value.name, code, None if value.shape is None else list(value.shape))


def tensor_from_proto(proto: onnx.TensorProto, folder: Path | None) -> Array:
    """A tensor; external data are mapped into memory, not read."""
    if not onnx.external_data_helper.uses_external_data(proto):
        return numpy_helper.to_array(proto)
    info = onnx.external_data_helper.ExternalDataInfo(proto)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type))
    shape = tuple(proto.dims)
    if folder is None or proto.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return numpy_helper.to_array(proto, str(folder or ""))
    path = (folder / info.location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"external data {info.location!r} lies outside the model's folder")
    if not shape or 0 in shape:
        return numpy_helper.to_array(proto, str(folder))
    return np.memmap(path, dtype=dtype, mode="r", offset=info.offset or 0, shape=shape)


def graph_from_model(model: onnx.ModelProto, folder: Path | None = None) -> Graph:
    """The canonical record of a ModelProto. `folder` is where external data lie.

    Graph inputs that only name an initializer (IR < 4) are not inputs.
    """
    g = model.graph
    tensors: dict[str, Array] = {t.name: tensor_from_proto(t, folder) for t in g.initializer}
    for sparse in g.sparse_initializer:
        tensors[sparse.values.name] = _dense(sparse)
    shapes: dict[str, tuple[Dim, ...]] = {}
    for info in (*g.value_info, *g.input, *g.output):
        dims = _dims(info.type.tensor_type)
        if dims is not None:
            shapes[info.name] = dims
    shapes.update({k: t.shape for k, t in tensors.items()})
    return Graph(
        nodes=tuple(node_from_proto(n) for n in g.node),
        initializers=tensors,
        inputs=tuple(_value_from_proto(v) for v in g.input if v.name not in tensors),
        outputs=tuple(_value_from_proto(v) for v in g.output),
        opset={"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import},
        shapes=shapes,
    )


def graph_from_body(body: Body) -> Graph:
    """What a body computes, as a graph; it reads outer tensors by their names there."""
    g = onnx.GraphProto.FromString(body.proto)
    return Graph(
        nodes=tuple(node_from_proto(n) for n in g.node),
        initializers={t.name: tensor_from_proto(t, None) for t in g.initializer},
        inputs=tuple(_value_from_proto(v) for v in g.input),
        outputs=tuple(_value_from_proto(v) for v in g.output),
        opset={},
    )


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def model_from_graph(graph: Graph, ir_version: int = 10, embed: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    """A ModelProto of a graph; `embed` names the initializers to store (default: all)."""
    tensors = graph.initializers if embed is None else embed
    proto = helper.make_graph(
        [node_to_proto(n) for n in graph.nodes],
        "graph",
        [value_to_proto(v) for v in graph.inputs],
        [onnx.ValueInfoProto(name=v.name) for v in graph.outputs],
        [numpy_helper.from_array(np.asarray(t, order="C"), k) for k, t in tensors.items()],
    )
    for out, value in zip(proto.output, graph.outputs, strict=True):
        if value.shape is not None:
            out.CopyFrom(value_to_proto(value))
    opsets = [helper.make_opsetid(d, v) for d, v in graph.opset.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=ir_version)


def load_graph(path: Path) -> Graph:
    """The graph of an ONNX file, external data mapped into memory, local functions inlined."""
    model = onnx.load(str(path), load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return graph_from_model(model, Path(path).parent)
