"""The ONNX view of a PyTorch model whose every intermediate tensor is tapped.

The model is exported with its intermediate values as extra outputs, so the exporter itself tells which ONNX tensor
holds which native value; the extra outputs are dropped again and the correspondence is kept in the file's metadata.
Nothing is folded or fused: tensors keep their native values, Conv and BatchNormalization stay apart.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from fetafix.formats.onnx.view import Taps

OPSET = 17


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter's warnings and progress lines are about PyTorch's plans, not about the model."""
    import torch

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    torch._C._jit_set_onnx_log_output_stream("stderr")  # it prints whole graphs where it fails
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export(
    model: Any, args: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str], batch: Sequence[str]
) -> onnx.ModelProto:
    """The legacy exporter, which keeps the module structure; `batch`: inputs and outputs whose axis 0 is the batch."""
    import torch
    import torch.onnx.symbolic_helper as helper

    if not hasattr(helper, "GLOBALS"):  # onnx2torch's modules ask for the opset there; PyTorch has moved it
        vars(helper)["_export_onnx_opset_version"] = OPSET
    buffer = io.BytesIO()
    with quiet():
        torch.onnx.export(
            model,
            tuple(args),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            keep_initializers_as_inputs=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={n: {0: "batch"} for n in batch},
        )
    return onnx.load_from_string(buffer.getvalue())


def settle(model: onnx.ModelProto, values: Sequence[str], tensors: Sequence[str], outputs: Sequence[str]) -> Taps:
    """Drop the tapped outputs and the exporter's Identity nodes from `model`; the tensor of each native value.

    values, tensors: native value ids and the output names that they were exported under. outputs: the model's own.
    """
    graph = model.graph
    alias = _remove_identities(graph, set(outputs))
    kept = [o for o in graph.output if o.name in outputs]
    del graph.output[:]
    graph.output.extend(kept)
    _prune(graph)
    alive = {o for n in graph.node for o in n.output} | {i.name for i in graph.input}
    taps: dict[str, str] = {}
    for value, tensor in zip(values, tensors, strict=True):
        while tensor in alias:
            tensor = alias[tensor]
        if tensor in alive:
            taps[value] = tensor
    return Taps(taps)


def _remove_identities(graph: onnx.GraphProto, outputs: set[str]) -> dict[str, str]:
    """Bypass Identity nodes; those over an initializer become one of their own (the exporter merges equals)."""
    initializers = {t.name: t for t in graph.initializer}
    alias: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        source, target = (node.input[0], node.output[0]) if node.op_type == "Identity" else ("", "")
        if not target or target in outputs:
            kept.append(node)
        elif source in initializers:
            copy = graph.initializer.add()
            copy.CopyFrom(initializers[source])
            copy.name = target
            initializers[target] = copy
        else:
            alias[target] = source
    del graph.node[:]
    graph.node.extend(kept)
    return alias


def _prune(graph: onnx.GraphProto) -> None:
    needed = {o.name for o in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(_captured(node))
    kept.reverse()
    tensors = [t for t in graph.initializer if t.name in needed]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _captured(node: onnx.NodeProto) -> set[str]:
    bodies = [b for a in node.attribute for b in (a.g, *a.graphs)]
    return {i for body in bodies for n in body.node for i in {*n.input, *_captured(n)}} | {
        o.name for body in bodies for o in body.output
    }
