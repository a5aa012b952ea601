"""Forms of one network: what converters write differently although it computes the same.

"plain" keeps every layer as defined, "renamed" does, too; "folded" is as deployed: normalisations folded into
convolutions, constants folded, another operator set; "dynamo" is the exporter that goes by torch.export. "quantised" is
the folded network in 8 bits, and "requantised" the same. All but "plain" and "quantised" get arbitrary names, and their
initializers lie in another order: nothing but content tells which tensor is which.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fetafix.bench.zoo import Form
from fetafix.bench.zoo.networks import Network


def plain(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export layer by layer."""
    _traced(network, example, path, 17, folded=False)


def folded(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export as deployed."""
    _traced(network, example, path, 16, folded=True)
    rename(path, seed)


def renamed(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export layer by layer, names forgotten."""
    _traced(network, example, path, 17, folded=False)
    rename(path, seed + 2)


def quantised(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """ONNX Runtime's static quantisation: QDQ nodes, weights a channel, ranges of the first samples."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter([{k: v[i:i + 8] for k, v in network.samples.items()} for i in range(0, 32, 8)])

        def get_next(self) -> Any:
            return next(self._left, None)

    floating = path.with_suffix(".float.onnx")
    _traced(network, example, floating, 17, folded=True)
    try:
        with _quiet():
            quantize_static(str(floating), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
    finally:
        floating.unlink()
    model = onnx.load(path)
    _keep(model.graph, [t for t in model.graph.initializer if t.name in _read(model.graph)])
    onnx.save(model, path)


def requantised(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """The same, names forgotten."""
    quantised(network, example, path, seed)
    rename(path, seed + 3)


def dynamo(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export through torch.export."""
    import torch

    with _quiet():
        torch.onnx.export(
            network.module, example, str(path), input_names=list(network.samples), output_names=list(network.outputs),
            opset_version=20, dynamo=True, external_data=False, verbose=False,
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in example))
    rename(path, seed + 1)


EXPORTERS: Mapping[Form, Callable[[Network, tuple[Any, ...], Path, int], None]] = {
    "plain": plain, "renamed": renamed, "folded": folded, "dynamo": dynamo, "quantised": quantised,
    "requantised": requantised,
}


def _traced(network: Network, example: tuple[Any, ...], path: Path, opset: int, folded: bool) -> None:
    import torch

    names = [*network.samples, *network.outputs]
    with _quiet():
        torch.onnx.export(
            network.module, example, str(path), input_names=list(network.samples), output_names=list(network.outputs),
            opset_version=opset, dynamo=False, do_constant_folding=folded, dynamic_axes={n: {0: "N"} for n in names},
            training=torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell much about networks that are as they are."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def rename(path: Path, seed: int) -> None:
    """Give nodes and inner tensors arbitrary names, put initializers into another order, forget annotations."""
    model = onnx.load(path)
    graph, rng = model.graph, np.random.default_rng(seed)
    fixed = {v.name for v in (*graph.input, *graph.output)}
    found = dict.fromkeys([t.name for t in graph.initializer] + [o for n in graph.node for o in n.output])
    inner = [n for n in found if n and n not in fixed]
    names = {n: f"t{number}" for n, number in zip(inner, rng.permutation(len(inner)), strict=True)}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
        tensor.doc_string = ""
    for number, node in enumerate(graph.node):
        _renamed(node, names)
        node.name, node.doc_string = f"n{number}", ""
        del node.metadata_props[:]
    _keep(graph, [graph.initializer[i] for i in rng.permutation(len(graph.initializer))])
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    onnx.save(model, path)


def _keep(graph: onnx.GraphProto, initializers: Sequence[onnx.TensorProto]) -> None:
    """These initializers, in this order."""
    copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in initializers]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _read(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input} | {v.name for v in graph.output}


def _renamed(node: Any, names: Mapping[str, str]) -> None:
    for fields in (node.input, node.output):
        for i, name in enumerate(fields):
            fields[i] = names.get(name, name)
    for attribute in node.attribute:
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for child in inner.node:
                _renamed(child, names)
