"""Float weights of a TFLite file stored as int8 with a scale a channel, read by DEQUANTIZE.

What TFLite's operators allow: DEQUANTIZE reads constant codes once, at the first inference, and the scale that a tensor
has anyhow is the constant that weights are divided by. Everything else that a protection would take (a product, a
comparison, a choice) TFLite computes anew at every inference, for it folds nothing; so it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import EditError, OutputError, UsageError
from fetafix.formats.staging import staging
from fetafix.formats.tflite import schema as schemas
from fetafix.formats.tflite import stored as tflite_stored
from fetafix.formats.tflite.file import read
from fetafix.formats.tflite.patch import patched
from fetafix.ir import Array
from fetafix.storage.encodings import INT8
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import Form, error_bound, formed

Choose = Callable[[Held, Array], "Plan | str"]
_PER_CHANNEL = 5  # the version of DEQUANTIZE that takes a scale a channel


@dataclass(slots=True)
class Protected:
    """What was done. changed: weights that are stored anew; left: (tensor, why not). notes: what else to know."""

    changed: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def protect(path: Path, out: Path, choose: Choose) -> Protected:
    """Write the file at `path` to `out`, float32 weights as int8. Raises UsageError for any other plan, OutputError."""
    if out.exists() and out.samefile(path):
        raise OutputError(f"{out}: this is the original model, which is never changed; choose another output")
    done, data = Protected(), path.read_bytes()
    model = schemas.parse(data)
    places = _places(path)
    for held, (graph, tensor) in zip(tflite_stored.held(path, "tflite"), places, strict=True):
        if held.role != "weight":
            continue
        values = schemas.stored(model, model.subgraphs[graph].tensors[tensor])
        if not held.floating or held.dtype != np.float32 or values is None:
            done.left.append((held.name, f"its {held.dtype.name} values are no float32"))
            continue
        plan = choose(held, values)
        if isinstance(plan, str):
            done.left.append((held.name, plan))
            continue
        _check(path, plan)
        _store(model, graph, tensor, *formed(values, plan))
        done.changed.append(held.name)
    if done.changed:
        with staging(out) as folder:
            (folder / out.name).write_bytes(_settled(path, data, model))
            os.replace(folder / out.name, out)
    done.notes.append("scales are stored once, as TFLite has it: a flip in one scales its channel")
    return done


def _check(path: Path, plan: Plan) -> None:
    if plan.scheme != "scale" or plan.encoding != INT8:
        raise UsageError(
            f"{path}: TFLite's operators can read int8 codes with a scale a channel (--scheme scale --dtype int8), and "
            f"nothing else without a cost at every inference; {plan.scheme} of {plan.encoding.name} is not expressible "
            "in place. --scheme secded and --scheme rs leave the graph as it is; or convert to ONNX (fetafix convert)")


def _places(path: Path) -> list[tuple[int, int]]:
    """(subgraph, tensor) of each tensor that `stored.held` tells, in the same order."""
    file = read(path)
    return [(g, t.index) for g, graph in enumerate(file.subgraphs) for t in graph.tensors
            if file.buffers[t.buffer].size]


def _store(model: Any, graph_index: int, tensor_index: int, codes: Array, form: Form) -> None:
    """A tensor of codes, and a DEQUANTIZE in front of everything that makes the weight of it."""
    kinds, graph = schemas.schema(), model.subgraphs[graph_index]
    weight = graph.tensors[tensor_index]
    stored, quantised, buffer, operator = (kinds.TensorT(), kinds.QuantizationParametersT(), kinds.BufferT(),
                                           kinds.OperatorT())
    assert form.factor is not None
    name = weight.name.decode() if isinstance(weight.name, bytes) else weight.name
    quantised.scale = np.asarray(form.factor, np.float32).reshape(-1)
    quantised.zeroPoint = np.zeros(quantised.scale.size, np.int64)
    quantised.quantizedDimension = form.axis or 0
    buffer.data = np.frombuffer(np.ascontiguousarray(codes).tobytes(), np.uint8)
    stored.shape, stored.type, stored.name = weight.shape, schemas.type_number(np.dtype(np.int8)), f"{name}/stored"
    stored.quantization, stored.buffer, stored.hasRank = quantised, len(model.buffers), weight.hasRank
    model.buffers.append(buffer)
    graph.tensors.append(stored)
    weight.buffer = 0  # by the schema always empty
    operator.opcodeIndex = schemas.opcode_index(model, "DEQUANTIZE", _PER_CHANNEL)
    operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
    operator.outputs = np.array([tensor_index], np.int32)
    graph.operators.insert(0, operator)


def _settled(path: Path, data: bytes, model: Any) -> bytes:
    """The new file, without the buffers that nobody reads any more; loaded once, or EditError."""
    used = {t.buffer for g in model.subgraphs for t in g.tensors} | {m.buffer for m in model.metadata or ()}
    for i, buffer in enumerate(model.buffers):
        if i not in used:
            buffer.data = None
    made = patched(data, model)
    try:
        from ai_edge_litert.interpreter import Interpreter

        Interpreter(model_content=made).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        reason = str(error)[:300]
        raise EditError(f"{path}: the hardened file does not load, so nothing is written: {reason}") from error
    return made


def readings(path: Path) -> dict[str, tuple[Array, Callable[[Array], Array]]]:
    """Weights that DEQUANTIZE reads from constant int8 codes: name → (values, bound of their error)."""
    model, found = schemas.parse(path.read_bytes()), {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            source = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            if schemas.opcode(model, operator) != "DEQUANTIZE" or source is None:
                continue
            codes, quantised = schemas.stored(model, source), schemas.quantisation(source)
            if codes is None or quantised is None or codes.dtype != np.int8 or codes.ndim < 2:
                continue
            target = graph.tensors[operator.outputs[0]]
            name = target.name.decode() if isinstance(target.name, bytes) else target.name
            found[name] = (schemas.real(codes, quantised), _bound(codes, quantised))
    return found


def _bound(codes: Array, quantised: tuple[Array, Array, int]) -> Callable[[Array], Array]:
    scale, _, axis = quantised
    form = Form(scale if scale.size > 1 else scale.reshape(()), None, axis if scale.size > 1 else None)
    return lambda original: error_bound(original.astype(np.float32), codes, form)
