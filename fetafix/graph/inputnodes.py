"""Preprocessing baked into a graph: the nodes at its input that reorder channels, exchange axes, scale and shift.

Each such node is a `Step`, a map y_i = gain_i · x[order_i] + bias_i of channels; the steps compose. `repairs` lists
edits of them, or before them, after which the graph does to its input what it would do to a mapped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.graph.constants import constant, held
from fetafix.graph.inputmap import InputMap
from fetafix.graph.inputplaces import New, Place, inserted
from fetafix.ir import Array, Graph, Node

_CLOSE = 2e-3
_OPS = frozenset({"Mul", "Div", "Add", "Sub", "Gather", "Transpose", "Identity", "Cast", "BatchNormalization", "Neg"})


@dataclass(frozen=True)
class Step:
    """One baked node and what it does to the channels; `axes` is the order of the input's axes behind it."""

    node: Node | None
    order: tuple[int, ...]
    gain: Array
    bias: Array
    axes: tuple[int, ...]
    relative: tuple[int, ...] = ()
    axis: int | None = None
    slot: int = 0

    @property
    def shifts(self) -> bool:
        """Whether it is an addition: its constant is to be fitted after those that scale."""
        return self.node is not None and self.node.op in ("Add", "Sub")

    def after(self, first: Step) -> Step:
        """This map applied behind another."""
        order = tuple(first.order[i] for i in self.order)
        pick = list(self.order)
        relative = tuple(first.relative[i] for i in self.relative)
        bias = self.gain * first.bias[pick] + self.bias
        return Step(None, order, self.gain * first.gain[pick], bias, self.axes, relative)

    def same(self, other: Step) -> bool:
        """Whether both do the same within the accuracy of a fit."""
        scale = np.abs(other.gain).max()
        span = _CLOSE * max(np.abs(other.bias).max(), scale)
        return (self.order == other.order and self.relative == other.relative
                and bool(np.all(np.abs(self.gain - other.gain) <= _CLOSE * np.abs(other.gain)))
                and bool(np.all(np.abs(self.bias - other.bias) <= span)))


def identity(channels: int, rank: int) -> Step:
    """The map that changes nothing."""
    axes = tuple(range(rank))
    return Step(None, tuple(range(channels)), np.ones(channels), np.zeros(channels), axes, axes)


def composed(steps: Sequence[Step], start: Step) -> Step:
    """All steps one behind the other."""
    for step in steps:
        start = step.after(start)
    return start


def baked(graph: Graph, name: str, axis: int | None, channels: int, rank: int) -> list[Step]:
    """The steps at a graph input, as far as they are read by nobody else and map channels."""
    steps: list[Step] = []
    tensor, axes = name, tuple(range(rank))
    while True:
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0][0].op not in _OPS:
            return steps
        step = _step(graph, readers[0][0], readers[0][1], axes, axis, channels)
        if step is None:
            return steps
        steps.append(step)
        tensor, axes = readers[0][0].key, step.axes


def _step(graph: Graph, node: Node, slot: int, axes: tuple[int, ...], axis: int | None, channels: int) -> Step | None:
    rank, here = len(axes), None if axis is None else axes.index(axis)
    order, one, zero, straight = tuple(range(channels)), np.ones(channels), np.zeros(channels), tuple(range(rank))
    if node.op == "Transpose":
        perm = tuple(node.attrs.get("perm", straight[::-1]))  # type: ignore[arg-type]
        return Step(node, order, one, zero, tuple(axes[p] for p in perm), perm, here) if len(perm) == rank else None
    if node.op == "Gather":
        picked = constant(graph, node, 1)
        given = int(node.attrs.get("axis", 0))  # type: ignore[arg-type]
        if picked is None or here is None or given % rank != here or sorted(picked.ravel() % channels) != list(order):
            return None
        return Step(node, tuple(int(p) % channels for p in picked.ravel()), one, zero, axes, straight, here)
    affine = _affine(graph, node, slot, here, channels, rank)
    return None if affine is None else Step(node, order, *affine, axes, straight, here, slot)


def _affine(
    graph: Graph, node: Node, slot: int, here: int | None, channels: int, rank: int
) -> tuple[Array, Array] | None:
    """(gain, bias) by channel of an elementwise node or BatchNormalization; None where it varies along another axis."""
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op in ("Identity", "Cast"):
        return one, zero
    if node.op == "Neg":
        return -one, zero
    if node.op == "BatchNormalization":
        parts = [constant(graph, node, i) for i in range(1, 5)]
        if here != 1 or any(p is None or p.size != channels for p in parts):
            return None
        scale, shift, mean, var = (np.asarray(p, np.float64) for p in parts)
        gain = scale / np.sqrt(var + float(node.attrs.get("epsilon", 1e-5)))  # type: ignore[arg-type]
        return gain, shift - gain * mean
    value = constant(graph, node, 1 - slot)
    if value is None or value.ndim > rank or not np.issubdtype(value.dtype, np.floating):
        return None
    full = value.reshape((1,) * (rank - value.ndim) + value.shape).astype(np.float64)
    if any(d != 1 and i != here for i, d in enumerate(full.shape)) or full.size not in (1, channels):
        return None
    c = np.broadcast_to(full.ravel(), channels)
    if node.op == "Mul":
        return c, zero
    if node.op == "Add":
        return one, c
    if node.op == "Sub":
        return (one, -c) if slot == 0 else (-one, c)
    return (1 / c, zero) if slot == 0 and np.all(c != 0) else None


def repairs(graph: Graph, found: InputMap, shape: Sequence[int], source: Graph) -> list[list[Edit]]:
    """Edits after which the graph treats its input as it now treats a mapped one, the smallest first.

    Where the first weights, reordered, are those of the source, the weights are at fault and nothing is inserted.
    """
    channels, rank = len(found.gain), len(shape)
    steps = baked(graph, found.input, found.axis, channels, rank)
    fix = identity(channels, rank)
    fix = Step(None, found.order, found.gain, found.bias, fix.axes, _swapped(fix.relative, found))
    wanted = composed(steps, fix)
    made = [*_without(steps, wanted), *_changed(graph, steps, wanted)]
    weights = list(_weights(graph, found, steps))
    if not any(isinstance(e, ed.SetInput) and held(source, e.value) for group in weights for e in group):
        made.extend(_inserted(graph, found, shape))
    made.extend(weights)
    return sorted(made, key=lambda e: ed.cost(graph, e))


def _swapped(axes: tuple[int, ...], found: InputMap) -> tuple[int, ...]:
    if not found.swapped or found.spatial is None:
        return axes
    a, b = found.spatial
    return tuple(b if i == a else a if i == b else i for i in axes)


def _without(steps: Sequence[Step], wanted: Step) -> Iterator[list[Edit]]:
    start = identity(len(wanted.gain), len(wanted.relative))
    for size in range(1, min(len(steps), 3) + 1):
        for some in combinations(range(len(steps)), size):
            rest = [s for i, s in enumerate(steps) if i not in some]
            if composed(rest, start).same(wanted):
                yield [ed.RemoveNode(n.key, steps[i].slot) for i in some if (n := steps[i].node) is not None]


def _changed(graph: Graph, steps: Sequence[Step], wanted: Step) -> Iterator[list[Edit]]:
    """One step's constant, indices or permutation changed, or those of a scaling and a shifting step together."""
    start = identity(len(wanted.gain), len(wanted.relative))
    pairs = [(i,) for i in range(len(steps))] + list(combinations(range(len(steps)), 2))
    for chosen in pairs:
        trial, edits = list(steps), []
        for i in sorted(chosen, key=lambda i: steps[i].shifts):
            new, edit = _retuned(graph, trial, i, wanted, start)
            if new is None or edit is None or _idle(new):
                break  # a step that would do nothing had better be removed
            trial[i] = new
            edits.append(edit)
        if len(edits) == len(chosen) and composed(trial, start).same(wanted):
            yield edits


def _idle(step: Step) -> bool:
    """Whether a step does nothing to the channels nor to the axes."""
    start = identity(len(step.gain), len(step.relative))
    return step.same(start) and step.relative == start.relative


def _retuned(graph: Graph, steps: list[Step], i: int, wanted: Step, start: Step) -> tuple[Step | None, Edit | None]:
    """Step i such that the whole comes as near to `wanted` as it can, and the edit that makes it so."""
    step, node = steps[i], steps[i].node
    before, behind = composed(steps[:i], start), composed(steps[i + 1:], identity(len(wanted.gain), len(start.axes)))
    if node is None:
        return None, None
    back = np.argsort(behind.order)
    if node.op == "Gather":
        order = tuple(list(before.order).index(wanted.order[k]) for k in back)
        indices = constant(graph, node, 1)
        shape = () if indices is None else indices.shape
        return (Step(node, order, step.gain, step.bias, step.axes, step.relative, step.axis),
                ed.SetInput(node.key, 1, np.array(order, np.int64).reshape(shape)))
    if node.op == "Transpose":
        undo = np.argsort(behind.relative)
        mid = [wanted.relative[k] for k in undo]
        perm = tuple(list(before.relative).index(m) for m in mid)
        turned = Step(node, step.order, step.gain, step.bias, step.axes, perm, step.axis)
        return turned, ed.SetAttribute(node.key, "perm", perm)
    scales = node.op in ("Mul", "Div", "Add") or (node.op == "Sub" and step.slot == 0)
    old = graph.constant(node, 1 - step.slot)
    if not scales or old is None:
        return None, None
    # in the channels of step i: wanted.gain = behind.gain · g · before.gain,
    # wanted.bias = behind.gain · (g · before.bias + b) + behind.bias
    total_gain, total_bias = wanted.gain[back], wanted.bias[back]
    tail_gain, tail_bias = behind.gain[back], behind.bias[back]
    if node.op in ("Mul", "Div"):
        gain, bias = total_gain / (tail_gain * before.gain), step.bias
        value = gain if node.op == "Mul" else 1 / gain
    else:
        gain, bias = step.gain, (total_bias - tail_bias) / tail_gain - step.gain * before.bias
        value = bias if node.op == "Add" else -bias
    new = Step(node, step.order, gain, bias, step.axes, step.relative, step.axis, step.slot)
    return new, ed.SetInput(node.key, 1 - step.slot, _shaped(value, old, step.axis, len(step.axes)))


def _shaped(value: Array, old: Array, axis: int | None, rank: int) -> Array:
    """A constant by channel in the shape of the old one where that can hold it."""
    if old.size == value.size and old.size > 1:
        return value.reshape(old.shape).astype(old.dtype)
    if np.ptp(value) <= 1e-6 * np.abs(value).max():
        return np.full(old.shape, value[0], old.dtype)
    return value.reshape(by_channel(len(value), axis, rank)).astype(old.dtype)


def by_channel(channels: int, axis: int | None, rank: int) -> tuple[int, ...]:
    """The shape of a constant that varies along the channel axis only."""
    return () if axis is None or channels == 1 else (channels, *(1,) * (rank - 1 - axis))


def _inserted(graph: Graph, found: InputMap, shape: Sequence[int]) -> Iterator[list[Edit]]:
    """New nodes right behind the graph input, or behind the Cast that makes floats of it."""
    rank, dtype = len(shape), next((v.dtype for v in graph.inputs if v.name == found.input), np.dtype(np.float32))
    tensor = found.input
    if dtype.kind in "iu":
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0][0].op != "Cast":
            return
        tensor, dtype = readers[0][0].key, np.dtype(np.float32)
    plan: list[New] = []
    if found.swapped and found.spatial:
        plan.append(("Transpose", {"perm": _swapped(tuple(range(rank)), found)}, None))
    if found.reordered and found.axis is not None:
        plan.append(("Gather", {"axis": found.axis}, np.array(found.order, np.int64)))
    for op, values, idle in (("Mul", found.gain, 1.0), ("Add", found.bias, 0.0)):
        if np.any(values != idle):
            even = np.ptp(values) <= 1e-6 * np.abs(values).max()
            form = () if even else by_channel(len(values), found.axis, rank)
            plan.append((op, {}, (values[0] if even else values.reshape(form)).astype(dtype)))
    if plan:
        spatial = found.spatial
        yield inserted(graph, Place(tensor, rank, found.axis, len(found.order), spatial, dtype), plan)


def _weights(graph: Graph, found: InputMap, steps: Sequence[Step]) -> Iterator[list[Edit]]:
    """The first convolution's input channels reordered (and scaled): exact where nothing is shifted."""
    if found.swapped or steps or found.axis is None or np.any(found.bias != 0):
        return
    readers = [(n, s) for n, s in graph.consumers.get(found.input, ())]
    if len(readers) != 1 or readers[0][0].op != "Conv" or readers[0][0].attrs.get("group", 1) != 1:
        return
    weight = constant(graph, readers[0][0], 1)
    if weight is not None and weight.shape[1] == len(found.order):
        moved = np.empty_like(weight)
        gain = found.gain.reshape(1, -1, *(1,) * (weight.ndim - 2))
        moved[:, list(found.order)] = (weight * gain).astype(weight.dtype)
        yield [ed.SetInput(readers[0][0].key, 1, moved)]
