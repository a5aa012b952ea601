"""Declared shapes of an edited model: kept where inference agrees, else dropped or, for outputs, corrected."""

from __future__ import annotations

import onnx
from onnx import shape_inference

from fetafix.ir import Graph

_SMALL = 1024


def skeleton(model: onnx.ModelProto, shapes: bool = True) -> onnx.ModelProto:
    """The model without the data of large tensors (declared as inputs instead), so that inference is cheap at any size.

    `shapes` False leaves out all that is declared about inner tensors and outputs.
    """
    graph = model.graph
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = graph.name or "graph"
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    listed = {i.name for i in graph.input}
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() < _SMALL:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(value)
    for output in graph.output:
        bare.graph.output.append(output if shapes else onnx.ValueInfoProto(name=output.name))
    if shapes:
        bare.graph.value_info.extend(graph.value_info)
    return bare


def inferred(model: onnx.ModelProto, shapes: bool = True) -> dict[str, onnx.TypeProto]:
    """The types of all tensors that inference can tell; empty where it fails."""
    try:
        graph = shape_inference.infer_shapes(skeleton(model, shapes), data_prop=True).graph
    except shape_inference.InferenceError:
        return {}
    values = (*graph.input, *graph.value_info, *graph.output)
    return {v.name: v.type for v in values if v.type.WhichOneof("value")}


def reconcile(model: onnx.ModelProto, after: Graph, tainted: set[str]) -> None:
    """Bring declared types of inner tensors and outputs in line; those of untainted tensors stay as they are."""
    graph = model.graph
    declared = {v.name: v for v in (*graph.output, *graph.value_info)}
    outputs = [_copy(declared[n]) if n in declared else onnx.ValueInfoProto(name=n) for n in after.output_names]
    del graph.output[:]
    graph.output.extend(outputs)
    known = after.producers.keys() | after.initializers.keys()  # some exporters declare constants too
    stale = [i for i, v in enumerate(graph.value_info) if v.name in tainted or v.name not in known]
    if not stale and not tainted.intersection(after.output_names) and all(o.HasField("type") for o in graph.output):
        return
    types = inferred(model, shapes=False)
    for i in reversed(stale):
        value = graph.value_info[i]
        inner = value.name in after.producers and value.name not in after.output_names
        if not inner or value.name not in types or not _agree(value.type, types[value.name], both=True):
            del graph.value_info[i]
    for output in graph.output:
        found = types.get(output.name)
        unknown = not output.HasField("type")
        if found is not None and (unknown or (output.name in tainted and not _agree(output.type, found))):
            output.type.CopyFrom(found)


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    new = onnx.ValueInfoProto()
    new.CopyFrom(value)
    return new


def _agree(declared: onnx.TypeProto, found: onnx.TypeProto, both: bool = False) -> bool:
    """Whether a declaration does not contradict what was inferred; `both`: and inference knows as much."""
    a, b = declared.tensor_type, found.tensor_type
    if declared.WhichOneof("value") != found.WhichOneof("value") or a.elem_type != b.elem_type:
        return False
    if not a.HasField("shape"):
        return True
    if not b.HasField("shape"):
        return not both
    if len(a.shape.dim) != len(b.shape.dim):
        return False
    for x, y in zip(a.shape.dim, b.shape.dim, strict=True):
        if x.HasField("dim_value") and (y.HasField("dim_value") or both) and x.dim_value != y.dim_value:
            return False
    return True
