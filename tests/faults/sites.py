"""Interfaces and segments over whole small image models, and image-like inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.errors import FetafixError
from fetafix.faults import FaultType, Suspicion
from fetafix.faults.base import Interface, Site
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.segment import Anchor, Layout, Segment, relative_error
from fetafix.ir import Array, Graph
from tests.faults.support import NCHW, NHWC, Builder, with_shapes

EVALUATOR = Evaluator()


def images(shape: Sequence[int], seed: int = 0) -> Array:
    """Smooth random colour fields in 0…1, NCHW float32: strong colours, no symmetry."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    coarse = rng.random((n, c, 4, 4))
    rows, columns = (np.linspace(0, 3, k) for k in (h, w))
    i, j = np.minimum(rows.astype(int), 2), np.minimum(columns.astype(int), 2)
    u, v = (rows - i)[:, None], (columns - j)[None, :]
    def at(a: Array, b: Array) -> Array:
        return coarse[:, :, a][:, :, :, b]
    field = (at(i, j) * (1 - u) + at(i + 1, j) * u) * (1 - v) + (at(i, j + 1) * (1 - u) + at(i + 1, j + 1) * u) * v
    return np.clip(0.9 * field + 0.1 * rng.random(shape), 0, 1).astype(np.float32)


def cnn(seed: int = 0, *, nhwc: bool = False, normalised: bool = False, batch: int | str = "N", size: int = 16,
        flatten: str = "Flatten", outputs: int = 1) -> Graph:
    """A small image classifier, optionally with an NHWC input or baked ImageNet normalisation."""
    b = Builder(seed)
    x = b.input((2, size, size, 3) if nhwc else (2, 3, size, size), "image")
    if normalised:
        form = (3,) if nhwc else (1, 3, 1, 1)
        x = b.op("Sub", x, np.array([0.485, 0.456, 0.406], np.float32).reshape(form))
        x = b.op("Div", x, np.array([0.229, 0.224, 0.225], np.float32).reshape(form))
    if nhwc:
        x = b.op("Transpose", x, perm=NCHW)
    x = b.op("Conv", x, b.weight(8, 3, 3, 3), b.normal(8), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    x = b.op("Relu", b.batchnorm(x, 8))
    x = b.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    y = b.op("Relu", b.op("Conv", x, b.weight(8, 8, 3, 3), b.normal(8), kernel_shape=(3, 3), pads=(1, 1, 1, 1)))
    x = b.op("GlobalAveragePool", b.op("Add", x, y))
    x = b.op("Flatten", x, axis=1) if flatten == "Flatten" else b.op("Reshape", x, np.array([0, -1], np.int64))
    logits = b.op("Gemm", x, b.weight(10, 8), b.normal(10), transB=1)
    made = [logits, b.op("Gemm", x, b.weight(10, 8), b.normal(10), transB=1)][:outputs]
    graph = b.build(*made)
    return replace(graph, inputs=tuple(replace(v, shape=(batch, *(v.shape or ())[1:])) for v in graph.inputs))


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a graph by name."""
    return dict(zip(graph.output_names, EVALUATOR.run(graph, feeds, graph.output_names), strict=True))


def feeds_of(graph: Graph, seed: int = 1, count: int = 3) -> dict[str, Array]:
    """Image-like feeds in the layout that the graph declares."""
    made = {}
    for i, value in enumerate(graph.inputs):
        dims = [d if isinstance(d, int) else count for d in value.shape or ()]
        last = dims[3] in (1, 3, 4) and dims[1] not in (1, 3, 4)
        shape = (dims[0], dims[3], dims[1], dims[2]) if last else dims
        x = images(shape, seed + i)
        made[value.name] = np.ascontiguousarray(x.transpose(NHWC)) if last else x
    return made


def interface(
    source: Graph, target: Graph, feeds: Mapping[str, Array] | None = None,
    target_feeds: Mapping[str, Array] | None = None, **more: Any,
) -> Interface:
    """Both models bound by position; the target gets the source's feeds in its declared layout by default."""
    feeds = dict(feeds or feeds_of(source))
    inputs = dict(zip(target.input_names, source.input_names, strict=True))
    own = {t: _laid(feeds[s], next(v.shape for v in target.inputs if v.name == t)) for t, s in inputs.items()}
    expected = run(source, feeds)
    outputs = more.pop("outputs", None) or dict(zip(target.output_names, source.output_names, strict=False))
    return Interface(source, target, inputs, outputs, feeds, dict(target_feeds or own), expected, run, images=True,
                     extra_outputs=tuple(o for o in target.output_names if o not in outputs), **more)


def _laid(x: Array, declared: Sequence[Any] | None) -> Array:
    if declared is None or x.ndim != 4:
        return x
    if all(not isinstance(d, int) or d == n for d, n in zip(declared, x.shape, strict=True)):
        return x
    perm = NHWC if declared[3] == x.shape[1] else NCHW
    return np.ascontiguousarray(x.transpose(perm))


def segment(
    source: Graph, target: Graph, ends: tuple[str, str] | None = None, perm: tuple[int, ...] | None = None,
    feeds: Mapping[str, Array] | None = None, starts: Mapping[str, str] | None = None, tolerance: float = 5e-6,
    goal_perm: tuple[int, ...] | None = None, pairs: Mapping[str, str] | None = None,
) -> Segment:
    """A segment of two whole models: from their inputs (or from `starts`, target tensor → source tensor) to `ends`.

    perm: how the target's inputs lie. Feeds are the source's inputs.
    """
    feeds = dict(feeds or feeds_of(source))
    source = with_shapes(source, feeds)
    laid = {t: np.ascontiguousarray(feeds[s].transpose(perm)) if perm else feeds[s]
            for t, s in zip(target.input_names, source.input_names, strict=True)}
    target = with_shapes(target, laid)
    end = ends or (target.output_names[0], source.output_names[0])
    starts = dict(starts or dict(zip(target.input_names, source.input_names, strict=True)))
    at_input = set(starts) <= set(target.input_names)
    values = dict(zip(starts.values(), EVALUATOR.run(source, feeds, list(starts.values())), strict=True))
    own = {t: values[s].transpose(perm) if perm and at_input else values[s] for t, s in starts.items()}
    (expected,) = EVALUATOR.run(source, feeds, [end[1]])
    expected = expected if goal_perm is None else expected.transpose(goal_perm)
    ours, theirs = target.between(own, [end[0]]), source.between(values, [end[1]])
    try:
        (actual,) = EVALUATOR.run(ours, own, [end[0]])
        error, failure = relative_error(actual, expected), ""
    except FetafixError as problem:
        actual, error, failure = None, float("inf"), str(problem)
    return Segment(
        ours, theirs, tuple(Anchor(t, s, Layout(perm if at_input else None)) for t, s in starts.items()),
        Anchor(*end, Layout(goal_perm)), own, values, expected, actual, error, tolerance, target, EVALUATOR.run,
        failure, at_input, end[0] in target.output_names, dict(pairs or starts),
    )


def broken(fault: FaultType, graph: Graph, seed: int) -> tuple[Graph, Sequence[Edit]] | None:
    """The graph with the fault injected, and the edits; None where it has no place for it."""
    edits = fault.inject(graph, np.random.default_rng(seed))
    return None if edits is None else (apply(graph, edits), edits)


def claims(site: Site, faults: Sequence[FaultType]) -> list[tuple[FaultType, Suspicion]]:
    """All suspicions about a site, the most confident first."""
    scope = "segment" if isinstance(site, Segment) else "interface"
    found = [(f, s) for f in faults if f.scope in (scope, "both") for s in f.detect(site)]
    return sorted(found, key=lambda c: -c[1].confidence)


def best_trial(site: Site, fault: FaultType, suspicion: Suspicion,
               trial: Callable[[Sequence[Edit]], float] | None = None) -> tuple[float, Sequence[Edit]]:
    """(error, edits) of the first proposal that heals, else of the best one."""
    tried = []
    for edits in fault.propose(site, suspicion):
        error = (trial or site.trial)(edits)
        tried.append((error, edits))
        if site.healed(error):
            return tried[-1]
    return min(tried, key=lambda t: t[0], default=(float("inf"), ()))
