"""The ONNX view of a TFLite file, by tf2onnx: the only part of this family that loads TensorFlow.

Integer arithmetic appears as QuantizeLinear and DequantizeLinear around float operators, and the view's interface is in
real numbers as the artifact's is. An activation that TFLite fuses into an operator becomes a node of its own, which
keeps the operator's name. tf2onnx goes by the names of tensors, so files in which they are empty or repeated are lifted
from a copy with names put right, and so is a signature of another subgraph than the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from fetafix.errors import LiftError
from fetafix.formats.base import Lifted
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.tensorflow import env as tf_env
from fetafix.formats.tensorflow import lift as tf_lift
from fetafix.formats.tflite import copy as tflite_copy
from fetafix.formats.tflite import layers as tflite_layers
from fetafix.formats.tflite import quantised_view as tflite_quantised_view
from fetafix.formats.tflite.file import read
from fetafix.formats.tflite.ports import Ports, ports
from fetafix.formats.tflite.records import TfliteFile
from fetafix.formats.tflite.runtime import VARIABLES
from fetafix.ir import Array

_HYBRID = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "UNIDIRECTIONAL_SEQUENCE_LSTM")


def lift(file: TfliteFile, chosen: Ports, folder: Path, example: Mapping[str, Array]) -> Lifted:
    """The view, written into `folder`. Raises LiftError that names the operators which tf2onnx does not know."""
    stateful = sorted({o.op for o in chosen.graph.operators} & set(VARIABLES))
    if stateful:
        raise LiftError(
            f"{file.path}: it keeps variables between runs ({', '.join(stateful)}), which ONNX does not have"
        )
    tf_env.prepare()
    file, chosen = _prepared(file, chosen, folder)
    try:
        with tf_lift.quiet():
            model = _converted(file, chosen)
    except LiftError:
        raise
    except Exception as error:  # tf2onnx raises anything
        raise LiftError(f"{file.path}: tf2onnx cannot convert it: {tf_lift.short(error)}") from error
    ends = tflite_quantised_view.to_real(model, chosen)
    names = tflite_layers.names(model.graph, chosen.graph) | ends
    _name_dimensions(model.graph)
    path = onnx_view.save(model, onnx_view.Taps({}), folder, example)
    return Lifted(path, names, _notes(file, chosen))


def _prepared(file: TfliteFile, chosen: Ports, folder: Path) -> tuple[TfliteFile, Ports]:
    """The file as tf2onnx can take it, and its interface there, under the same names."""
    content = tflite_copy.liftable(file, chosen)
    if content is None:
        return file, chosen
    path = folder / "source.tflite"
    path.write_bytes(content)
    copy = read(path)
    key = chosen.signature.key if chosen.signature is not None else None
    return copy, ports(copy, key)


def _converted(file: TfliteFile, chosen: Ports) -> onnx.ModelProto:
    from tf2onnx.optimizer import optimize_graph
    from tf2onnx.tfonnx import process_tf_graph

    inputs = {p.tensor.name: p.name for p in chosen.inputs}
    outputs = {p.tensor.name: p.name for p in chosen.outputs}
    made = process_tf_graph(
        None, opset=tf_lift.OPSET, tflite_path=str(file.path), continue_on_error=True, input_names=list(inputs),
        output_names=list(outputs), tensors_to_rename={k: v for k, v in {**inputs, **outputs}.items() if k != v},
    )  # fmt: skip
    made = optimize_graph(made, catch_errors=True, optimizers=tf_lift.optimizers())
    model: onnx.ModelProto = made.make_model("lifted")
    unknown = sorted({op.removeprefix("TFL_") for op in tf_lift.unknown(model.graph)})
    if unknown:
        raise LiftError(
            f"{file.path}: the lift, not your model: tf2onnx does not know the operator(s) {', '.join(unknown)}"
        )
    return model


def _name_dimensions(graph: Any) -> None:
    """tf2onnx numbers open dimensions; the first one of each input and output is the batch."""
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            dims[0].dim_param = "batch"


def _notes(file: TfliteFile, chosen: Ports) -> tuple[str, ...]:
    """Operators with integer weights on real activations: LiteRT quantises those anew for each sample."""
    hybrid = [o for o in chosen.graph.operators if o.op in _HYBRID and _is_hybrid(file, chosen, o)]
    if not hybrid:
        return ()
    return (
        f"{len(hybrid)} operators have integer weights and real activations (dynamic-range quantisation): LiteRT "
        "rounds their activations to 8 bit as it runs, the ONNX view does not",
    )


def _is_hybrid(file: TfliteFile, chosen: Ports, operator: Any) -> bool:
    tensors = [chosen.graph.tensors[i] for i in operator.inputs[:2] if i >= 0]
    return len(tensors) == 2 and tensors[0].dtype == "float32" and tensors[1].dtype in ("int8", "int4", "uint8")
