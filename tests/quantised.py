"""Small networks quantised by onnxruntime.quantization, in QDQ form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fetafix.graph.align import Aligner, Alignment, InputTwin
from fetafix.graph.canonical import canonical
from fetafix.graph.proto import load_graph, model_from_graph
from fetafix.ir import Array, Graph
from tests.faults.models import gated, residual
from tests.faults.support import EVALUATOR

KINDS = {
    "int8 per channel": {"per_channel": True, "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
    "int8 per tensor": {"per_channel": False, "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
    "uint8": {"per_channel": False, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
}
NETWORKS = {"residual": lambda: residual(seed=3, channels=12), "gated": lambda: gated(seed=5)}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds for calibration, one by one."""

    def __init__(self, feeds: Mapping[str, Array]) -> None:
        self._each: Iterator[dict[str, Array]] = iter(
            [{k: v[i : i + 1] for k, v in feeds.items()} for i in range(len(next(iter(feeds.values()))))])

    def get_next(self) -> dict[str, Array] | None:
        """The next sample's feeds."""
        return next(self._each, None)


def feeds(graph: Graph, seed: int, count: int = 8) -> dict[str, Array]:
    """Gaussian images with a few large values, as natural ones have."""
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal((count, *(d for d in (v.shape or ())[1:] if isinstance(d, int)))).astype(
        np.float32) for v in graph.inputs}


def save(graph: Graph, path: Path) -> Path:
    """A graph as an ONNX file."""
    outputs = tuple(replace(v, shape=("N", *graph.shapes[v.name][1:])) for v in graph.outputs)
    onnx.save(model_from_graph(replace(graph, outputs=outputs), 9), str(path))
    return path


def quantise(graph: Graph, kind: str, folder: Path) -> Path:
    """The file of a graph's quantised form, calibrated on 24 samples."""
    folded, path = folder / "folded.onnx", folder / f"{kind.replace(' ', '-')}.onnx"
    quant_pre_process(str(save(graph, folder / "float.onnx")), str(folded), skip_symbolic_shape=True)
    quantize_static(str(folded), str(path), Reader(feeds(graph, 0, 24)), quant_format=QuantFormat.QDQ, **KINDS[kind])
    return path


def quantised(graph: Graph, kind: str) -> Graph:
    """The canonical graph of a graph's quantised form."""
    with tempfile.TemporaryDirectory() as folder:
        return canonical(load_graph(quantise(graph, kind, Path(folder))), EVALUATOR)


def aligned(aligner: Aligner, target: Graph) -> Alignment:
    """A target aligned with a source of the same input and output names."""
    names = aligner.source.output_names
    twins = tuple(InputTwin(n, n) for n in target.input_names)
    return aligner.align(target, twins, dict(zip(target.output_names, names, strict=True)))
