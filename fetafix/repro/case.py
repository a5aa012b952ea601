"""Cut a finding out of its models: the smallest pair of graphs, with inputs, that shows it.

A segment is that already: it lies between the tensors where both models agree and the one where they do not. Where
several faults share it, all but one are mended first; where one sample of the batch shows it, the others are left out.
What a case claims is measured with ONNX Runtime as the script will measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime as ort

from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import Interface, layout_blind_error
from fetafix.graph.proto import model_from_graph
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Array, Graph, Value

_LARGEST = 1 << 26  # bytes of weights that a reproduction may hold
_IR_VERSION = 10


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """What shows one finding.

    source, target: models; source is None where its tensor is an input of the segment itself. inputs: "source/NAME",
    "target/NAME". expected: in the target's layout, source.transpose(perm).reshape(shape); actual: None where the
    target cannot run, `failure` says how. output: which output of each model is compared. whole: these are the models
    as a whole, not a segment of them.
    """

    source: onnx.ModelProto | None
    target: onnx.ModelProto
    inputs: Mapping[str, Array]
    expected: Array
    actual: Array | None
    error: float
    tolerance: float
    perm: tuple[int, ...] | None = None
    failure: str = ""
    output: tuple[int, int] = (0, 0)
    whole: bool = False


def of_segment(segment: Segment, others: Sequence[Edit]) -> Case | None:
    """The case of a segment, in which edits for other faults of it are made. None where nothing differs any more."""
    alone = segment.after(others) if others else segment
    if others and alone.error <= alone.tolerance:
        alone = segment  # the faults only show together
    if _bytes(alone.target) + _bytes(alone.source) > _LARGEST:
        return None
    return _smallest([_cut(one) for one in _singles(alone)] + [_cut(alone)])


def _smallest(cases: Sequence[Case | None]) -> Case | None:
    """The first case that shows its difference; for segments that cannot run at all, the last."""
    made = [c for c in cases if c is not None]
    return next((c for c in made if c.error > c.tolerance), None)


def _singles(segment: Segment) -> list[Segment]:
    """The segment on the one sample that shows the difference best, if the batch can be taken apart."""
    tables = (segment.feeds, segment.source_feeds)
    sizes = {v.shape[:1] for t in tables for v in t.values()} | {segment.expected.shape[:1]}
    actual = segment.actual
    if len(sizes) != 1 or sizes == {()} or sizes == {(1,)} or actual is None or actual.shape != segment.expected.shape:
        return []
    differences = np.abs(np.asarray(actual, np.float64) - segment.expected).reshape(len(actual), -1).max(1, initial=0.0)
    i = int(np.nan_to_num(differences, nan=np.inf).argmax())
    one: list[dict[str, Array]] = [{n: v[i:i + 1] for n, v in t.items()} for t in tables]
    return [replace(segment, feeds=one[0], source_feeds=one[1], expected=segment.expected[i:i + 1])]


def _cut(segment: Segment) -> Case | None:
    """The case of a segment as it is; None where the source's part cannot be run alone."""
    layout, inputs = segment.goal.layout, dict[str, Array]()
    source = None
    feeds = {n: v for n, v in segment.feeds.items() if n in segment.target.input_names}
    target = _model(segment.target, feeds, (segment.goal.target, segment.expected.dtype))
    inputs |= {f"target/{n}": np.asarray(v) for n, v in feeds.items()}
    expected = np.ascontiguousarray(segment.expected)
    if segment.source.nodes:
        theirs = {n: v for n, v in segment.source_feeds.items() if n in segment.source.input_names}
        source = _model(segment.source, theirs, (segment.goal.source, segment.expected.dtype))
        inputs |= {f"source/{n}": np.asarray(v) for n, v in theirs.items()}
        value, failure = run(source, theirs)
        if value is None:
            return None
        expected = _laid(value, layout.perm, expected.shape)
        if relative_error(expected, segment.expected.astype(expected.dtype)) > max(segment.tolerance, 1e-4):
            source = None  # a part of a batch that cannot be taken apart
            return None
    actual, failure = run(target, feeds)
    error = float("inf") if actual is None else relative_error(actual, expected)
    return Case(source, target, inputs, expected, actual, error, segment.tolerance, layout.perm, failure)


def _laid(value: Array, perm: tuple[int, ...] | None, shape: tuple[int, ...]) -> Array:
    if perm is not None:
        value = value.transpose(perm)
    return np.ascontiguousarray(value.reshape(shape) if value.size == np.prod(shape, dtype=np.int64) else value)


def of_interface(site: Interface) -> Case | None:
    """The models as a whole, on the few samples that were looked at; None where they are too large to copy.

    The output that differs most is compared.
    """
    if _bytes(site.source) + _bytes(site.target) > _LARGEST:
        return None
    inputs = {f"source/{n}": np.asarray(v) for n, v in site.source_feeds.items()}
    inputs |= {f"target/{n}": np.asarray(v) for n, v in site.target_feeds.items()}
    source, target = _model(site.source, site.source_feeds), _model(site.target, site.target_feeds)
    try:
        values = site.run_target(site.target, site.target_feeds)
    except FetafixError:
        values = {}
    bound = [(t, s) for t, s in site.outputs.items() if s in site.expected]
    if not bound:
        return None
    worst = max(bound, key=lambda b: layout_blind_error(values.get(b[0]), site.expected[b[1]]))
    at = site.source.output_names.index(worst[1]), site.target.output_names.index(worst[0])
    ours, _ = run(source, site.source_feeds, at[0])
    actual, failure = run(target, site.target_feeds, at[1])
    if ours is None:
        return None
    perm = _permutation(ours, actual)
    expected = ours if perm is None else np.ascontiguousarray(ours.transpose(perm))
    error = float("inf") if actual is None else relative_error(actual, expected)
    return Case(source, target, inputs, expected, actual, error, site.tolerance, perm, failure, at, True)


def _permutation(ours: Array, actual: Array | None) -> tuple[int, ...] | None:
    """Between channels first and last, where that makes shapes equal."""
    if actual is None or ours.shape == actual.shape or ours.ndim != actual.ndim or ours.ndim < 3:
        return None
    last = (0, *range(2, ours.ndim), 1)
    first = (0, ours.ndim - 1, *range(1, ours.ndim - 1))
    return next((p for p in (last, first) if tuple(ours.shape[i] for i in p) == actual.shape), None)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], output: int = 0) -> tuple[Array | None, str]:
    """(an output, "") as a plain script gets it, or (None, what ONNX Runtime says)."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = session.get_outputs()[output].name
        return np.asarray(session.run([wanted], {k: np.ascontiguousarray(v) for k, v in feeds.items()})[0]), ""
    except Exception as error:  # onnxruntime raises a class of its own per status code, all directly below Exception
        return None, str(error).splitlines()[0][:300]


def _model(
    graph: Graph, feeds: Mapping[str, Array], goal: tuple[str, np.dtype[Any]] | None = None
) -> onnx.ModelProto:
    """A graph as a model of its own; what it declares about inputs is what they are fed with. goal: its only output."""
    inputs = tuple(Value(n, np.asarray(v).dtype, tuple(v.shape)) for n, v in feeds.items())
    outputs = graph.outputs if goal is None else (Value(*goal),)
    opset = {d: v for d, v in graph.opset.items() if not d or any(n.domain == d for n in graph.nodes)}
    used = {t for n in graph.nodes for t in n.reads} | {o.name for o in outputs}
    tensors = {k: v for k, v in graph.initializers.items() if k in used}
    outputs = tuple(replace(o, shape=None) for o in outputs)
    made = replace(graph, inputs=inputs, outputs=outputs, initializers=tensors, opset=opset)
    model = model_from_graph(made, _IR_VERSION)
    for proto, value in zip(model.graph.output, outputs, strict=True):
        proto.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.shape_inference.infer_shapes(model)


def _bytes(graph: Graph) -> int:
    used = {t for n in graph.nodes for t in n.reads}
    return sum(v.nbytes for k, v in graph.initializers.items() if k in used)
