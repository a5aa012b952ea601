"""tf2onnx: Keras, SavedModel, GraphDef and TFLite to ONNX. Runs in child processes alone."""

from __future__ import annotations

from typing import Any

from fetafix.convert.guard import Answer, Job
from fetafix.convert.with_tensorflow import frozen, load_graph, load_keras, prepare, signature


def to_onnx(job: Job) -> Answer:
    """Write ONNX of the opset that the options name."""
    tf = prepare(job)
    import tf2onnx

    opset = int(job.options["opset"])
    if job.kind == "tflite":
        tf2onnx.convert.from_tflite(job.source, opset=opset, output_path=job.out)
    elif job.kind == "graphdef":
        graph, inputs, outputs = load_graph(tf, job.source)
        tf2onnx.convert.from_graph_def(
            graph, input_names=inputs, output_names=outputs, opset=opset, output_path=job.out)
    elif job.kind == "saved_model":
        _from_function(tf, signature(tf, job.source), opset, job.out)
    else:
        model = load_keras(job)
        spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
        tf2onnx.convert.from_keras(model, input_signature=spec, opset=opset, output_path=job.out)
    return Answer()


def _from_function(tf: Any, function: Any, opset: int, out: str) -> None:
    """A signature by its frozen graph, its inputs and outputs under the names that the signature gives them."""
    import tf2onnx

    kept, names = frozen(tf, function)
    wanted = {t.name.split(":")[0]: t.name for t in kept.inputs if t.dtype != tf.resource}
    outputs = [t.name for t in kept.outputs]
    renamed = dict(zip(outputs, names, strict=True)) if len(names) == len(outputs) else {}
    model, _ = tf2onnx.convert.from_graph_def(
        kept.graph.as_graph_def(), input_names=list(wanted.values()), output_names=outputs, opset=opset)
    _rename(model.graph, {**{v: k for k, v in wanted.items()}, **renamed})
    import onnx

    onnx.save(model, out)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give tensors other names where those are free."""
    taken = {v for n in graph.node for v in (*n.input, *n.output)} | {i.name for i in graph.initializer}
    free = {old: new for old, new in names.items() if new not in taken}
    for node in graph.node:
        node.input[:] = [free.get(v, v) for v in node.input]
        node.output[:] = [free.get(v, v) for v in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = free.get(value.name, value.name)
