"""The ONNX view of a Keras model: traced call by call, converted by tf2onnx, its tensors known by their values.

Each call of a layer is traced in a name scope of its own, which tf2onnx carries into its node names. Which ONNX tensor
holds what a layer makes is then measured: the tensor of that scope with the same values, in whatever layout tf2onnx
moved it to. Normalisations are traced so that tf2onnx keeps them apart from the layer in front of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fetafix.errors import LiftError, RuntimeCrash
from fetafix.formats.base import Lifted
from fetafix.formats.keras.graph import Flat, evaluate, flatten, functional
from fetafix.formats.keras.interface import Port
from fetafix.formats.keras.trace import trace
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.tensorflow import lift as tf_lift
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import graph_from_model, model_from_graph
from fetafix.ir import Array, Graph

SCOPE = "fetafix_call"
_SCOPE = re.compile(rf"{SCOPE}(\d+)/(?:[^/]+/)?")
_TOLERANCE, _ROUNDING = 1e-4, 1e-6
_FIRST = ((0, 2, 3, 1), (0, 2, 1), (0, 2, 3, 4, 1))
Places = dict[int, tuple[str, tuple[int, ...]]]


def lift(
    model: Any, inputs: Sequence[Port], outputs: Sequence[Port], arguments: Sequence[Array], folder: Path
) -> Lifted:
    """Write the view into `folder`. arguments: one small batch, in the order of the inputs. Raises LiftError."""
    flat = flatten(model) if functional(model) is not None else None
    function = trace(model, flat, inputs, SCOPE)
    captured = {t.name for t in function.graph.internal_captures}
    fed = [t.name for t in function.inputs if t.name not in captured]
    made = [t.name for t in function.outputs]
    proto, notes = tf_lift.convert(
        tf_lift.freeze(function),
        dict(zip((p.name for p in inputs), fed, strict=True)),
        dict(zip((p.name for p in outputs), made, strict=True)),
    )
    example = {p.name: a for p, a in zip(inputs, arguments, strict=True)}
    if flat is None:
        note = f"{type(model).__name__} is no graph of layers: only its tensors can be changed natively"
        path = onnx_view.save(proto, onnx_view.Taps({}), folder, example)
        return Lifted(path, {n.output[0]: n.name for n in proto.graph.node if n.name}, (*notes, note))
    names = _renamed(proto.graph, flat)
    graph = canonical(graph_from_model(proto), Evaluator())  # constants computed from weights become tensors
    proto = model_from_graph(graph)
    places = _places(graph, names, flat, arguments, example)
    taps = {f"{v}:{','.join(map(str, perm))}": tensor for v, (tensor, perm) in places.items()}
    path = onnx_view.save(proto, onnx_view.Taps(taps), folder, example)
    return Lifted(path, _owned(proto.graph, flat, names, places), notes)


def load_places(lifted: Path) -> Places:
    """Value of the flat model → (ONNX tensor, perm with which that tensor has the native layout)."""
    found: Places = {}
    for key, tensor in onnx_view.load_taps(lifted).tensors.items():
        value, _, perm = key.partition(":")
        found[int(value)] = tensor, tuple(int(p) for p in perm.split(",") if p)
    return found


def _renamed(graph: onnx.GraphProto, flat: Flat) -> dict[str, int]:
    """Give nodes and tensors the layers' names in place of the numbered scopes; node key → call."""
    calls: dict[str, int] = {}
    names: dict[str, str] = {}
    taken = {v.name for v in (*graph.input, *graph.output)}

    def new(name: str) -> str:
        if name in names or not _SCOPE.search(name):
            return names.get(name, name)
        number = int(_SCOPE.search(name)[1])  # type: ignore[index]
        plain = f"{flat.calls[number].name}/{_SCOPE.sub('', name, count=1)}"
        unique, i = plain, 2
        while unique in taken:
            unique, i = f"{plain}.{i}", i + 1
        names[name] = unique
        taken.add(unique)
        return names[name]

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for node in graph.node:
        found = _SCOPE.search(node.name) or next((m for o in node.output if (m := _SCOPE.search(o))), None)
        for fields in (node.input, node.output):
            for i, name in enumerate(fields):
                fields[i] = new(name)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_captures(body, new)
        node.name = new(node.name)
        if found is not None and any(node.output):
            calls[next(o for o in node.output if o)] = int(found[1])
    return calls


def _rename_captures(graph: onnx.GraphProto, new: Any) -> None:
    own = {o for n in graph.node for o in n.output} | {i.name for i in (*graph.input, *graph.initializer)}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name not in own:
                node.input[i] = new(name)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_captures(body, new)
    for output in graph.output:
        if output.name not in own:
            output.name = new(output.name)


def _places(
    graph: Graph, calls: Mapping[str, int], flat: Flat, arguments: Sequence[Array], example: Mapping[str, Array]
) -> Places:
    """Where each native value is found in the view."""
    native = [None if v is None else np.asarray(v) for v in evaluate(flat, arguments)]
    made = _computed(graph, example)
    places: Places = {}
    for v, name in zip(flat.inputs, example, strict=True):
        places[v] = name, tuple(range(np.ndim(example[name])))
    free = [n for n in graph.nodes if n.key not in calls]
    for i, call in enumerate(flat.calls):
        own = [o for n in graph.nodes if calls.get(n.key) == i for o in n.outputs if o in made]
        passed = [places[v][0] for v in call.reads if v in places]
        loose = [o for n in free for o in n.outputs if o in made]
        for v in call.outputs:
            value = native[v]
            if value is None:
                continue
            for group in (own, passed, loose):
                place = _nearest(value, {t: made[t] for t in group})
                if place is not None:
                    places[v] = place
                    break
    return places


def _nearest(native: Array, tensors: Mapping[str, Array]) -> tuple[str, tuple[int, ...]] | None:
    """The tensor that holds a native value, and how it is laid out; None where none does.

    The first of those that are as near as the nearest: beside huge values what a bias adds lies within any tolerance.
    """
    found = [(t, perm, _off(native, v, perm)) for t, v in tensors.items() if (perm := _layout(native, v)) is not None]
    if not found:
        return None
    limit = 4.0 * min(off for _, _, off in found) + _ROUNDING * _scale(native)
    return next((t, perm) for t, perm, off in found if off <= limit)


def _off(native: Array, tensor: Array, perm: tuple[int, ...]) -> float:
    """The largest finite difference."""
    with np.errstate(invalid="ignore"):
        off = np.abs(np.transpose(tensor, perm).astype(np.float64) - native)
    return float(np.max(off[np.isfinite(off)], initial=0.0))


def _computed(graph: Graph, example: Mapping[str, Array]) -> dict[str, Array]:
    tensors = [o for n in graph.nodes for o in n.outputs if o]
    evaluator = Evaluator()
    try:
        values = evaluator.run(graph, example, tensors)
    except RuntimeCrash as error:
        raise LiftError(f"the ONNX view does not run: {error}") from error
    return {**dict(zip(tensors, values, strict=True)), **example}


def _scale(native: Array) -> float:
    return max(float(np.max(np.abs(native), initial=0.0)), 1e-6) if native.dtype.kind == "f" else 0.0


def _layout(native: Array, tensor: Array) -> tuple[int, ...] | None:
    """The perm with which the ONNX tensor equals the native value; the usual ones first."""
    if sorted(native.shape) != sorted(tensor.shape) or native.dtype.kind != tensor.dtype.kind:
        return None
    scale = _scale(native)
    same = tuple(range(native.ndim))
    for perm in dict.fromkeys((same, *_FIRST, *itertools.permutations(same))):
        if len(perm) != native.ndim or tuple(tensor.shape[p] for p in perm) != native.shape:
            continue
        if np.allclose(np.transpose(tensor, perm), native, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True):
            return perm
    return None


def _owned(graph: onnx.GraphProto, flat: Flat, calls: Mapping[str, int], places: Places) -> dict[str, str]:
    """Node key → layer: that of its scope, of the value it makes or, failing those, of the next node downstream."""
    makers = {v: call.name for call in flat.calls for v in call.outputs}
    makes = {tensor: makers[v] for v, (tensor, _) in reversed(places.items()) if v in makers}
    names: dict[str, str] = {}
    readers: dict[str, str] = {}
    for node in reversed(graph.node):
        key = next((o for o in node.output if o), "")
        name = flat.calls[calls[key]].name if key in calls else makes.get(key) or readers.get(key, "")
        if key and name:
            names[key] = name
            readers.update(dict.fromkeys(node.input, name))
    return names

