"""An ONNX file looked into by ONNX Runtime itself: every tensor an output, some of them given instead of computed.

For files whose nodes cannot be run one by one. The changed copy stays in memory; weights in files of their own are
found beside the original. Nothing is optimised, for a fused node would leave no tensors to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import LiftError
from fetafix.formats.base import OpenOptions, Tap, Taps
from fetafix.formats.onnx import errors as onnx_errors
from fetafix.formats.onnx import provider as onnx_provider
from fetafix.ir import Array

_MOST = 1 << 31


def tap(path: Path, options: OpenOptions, feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
    """What the file computes from `feeds`. Raises LiftError where onnxruntime does not run it so."""
    import onnx

    if path.stat().st_size >= _MOST:
        raise LiftError(f"{path}: a file of 2 GB and more cannot be looked into; keep its weights in another file")
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    initial = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    _force(graph, forced)
    made = [o for n in graph.node for o in n.output if o]
    known = {v.name for v in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=o) for o in made if o not in known)
    try:
        session = _session(path, options, model.SerializeToString())
        names = [o.name for o in session.get_outputs() if o.type.startswith("tensor(") and "string" not in o.type]
        found = dict(zip(names, session.run(names, {**feeds, **forced}), strict=True))
    except Exception as error:  # onnxruntime has a class a status code, all directly below Exception
        raise LiftError(onnx_errors.explain_run(path, error)) from error
    values = {**feeds, **{k: np.asarray(v) for k, v in found.items()}, **forced}
    return Taps(tuple(_layers(graph, values, initial)), values)


def _force(graph: Any, forced: Mapping[str, Array]) -> None:
    """Make inputs of the forced tensors; what made them makes something that nobody reads."""
    from onnx import helper

    for node in graph.node:
        for slot, name in enumerate(node.output):
            if name in forced:
                node.output[slot] = f"{name}/unforced"
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in forced.items()}
    graph.input.extend(helper.make_tensor_value_info(k, kinds[k], list(v.shape)) for k, v in forced.items())
    kept = [o for o in graph.output if o.name not in forced]
    del graph.output[:]
    graph.output.extend(kept)


def _session(path: Path, options: OpenOptions, model: bytes) -> Any:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    folder = str(path.absolute().parent)
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    return ort.InferenceSession(model, settings, providers=onnx_provider.choose(path, options))


def _layers(graph: Any, values: Mapping[str, Array], initial: set[str]) -> list[Tap]:
    layers = []
    for node in graph.node:
        forced = [o.removesuffix("/unforced") for o in node.output]
        outputs = tuple(dict.fromkeys(o for o in forced if o in values))
        inputs = tuple(i for i in node.input if i in values and i not in initial)
        if outputs:
            layers.append(Tap(node.name or f"{node.op_type} → {outputs[0]}", node.op_type, inputs, outputs))
    return layers
