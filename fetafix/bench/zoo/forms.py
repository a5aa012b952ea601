"""Forms of one network: what converters write differently although it computes the same.

"plain" keeps every layer as defined; "folded" is as deployed: normalisations folded into convolutions, constants
folded, another operator set; "dynamo" is the exporter that goes by torch.export. The two latter get arbitrary names,
and their initializers lie in another order: nothing but content tells which tensor is which.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.bench.zoo import Form
from fetafix.bench.zoo.networks import Network


def plain(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export layer by layer."""
    _traced(network, example, path, 17, folded=False)


def folded(network: Network, example: tuple[Any, ...], path: Path, seed: int) -> None:
    """Export as deployed."""
    _traced(network, example, path, 16, folded=True)
    rename(path, seed)


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
    "plain": plain, "folded": folded, "dynamo": dynamo,
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
        yield


def rename(path: Path, seed: int) -> None:
    """Give nodes and inner tensors arbitrary names, put initializers into another order, forget annotations."""
    import onnx

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
    order = rng.permutation(len(graph.initializer))
    shuffled = [graph.initializer[i] for i in order]
    copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in shuffled]
    del graph.initializer[:], graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    graph.initializer.extend(copies)
    onnx.save(model, path)


def _renamed(node: Any, names: Mapping[str, str]) -> None:
    for fields in (node.input, node.output):
        for i, name in enumerate(fields):
            fields[i] = names.get(name, name)
    for attribute in node.attribute:
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for child in inner.node:
                _renamed(child, names)
