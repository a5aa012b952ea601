"""What the target's first linear layer would have to be fed to do what the source's does: the preprocessing mistake.

Up to its first weighted layer a network is affine in its input x. Let y be the source's response there, T the
target's. For a channel order p, gains a and biases b, the target fed with x'ᵢ = aᵢ·x₍ₚᵢ₎ + bᵢ answers

    T(x') = T(0) + Σᵢ aᵢ (T(e_i x₍ₚᵢ₎) − T(0)) + Σᵢ bᵢ (T(e_i) − T(0))      (e_i: channel i alone, ones)

so the parts in brackets are probed on the actual batch (borders come out exactly, whatever the padding) and a, b
follow by least squares, for every channel order, with height and width as they are or exchanged. The simplest map
that explains the response is kept: a reordering before one range for all channels before one a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from fetafix.graph.pixels import Naming, name_map
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph, Node

_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul", "ConvTranspose"})
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div"})
_AFFINE = frozenset({
    "Pad", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Transpose", "Reshape", "Flatten", "Squeeze",
    "Unsqueeze", "Identity", "Cast", "Gather", "Slice", "Split", "Concat", "Neg", "BatchNormalization", "Dropout",
}) | _WEIGHTED | _ELEMENTWISE
_ENOUGH = 0.1
_GOOD = 0.05
_ABSURD = 1e30


@dataclass(frozen=True)
class InputMap:
    """x'ᵢ = gainᵢ · x[orderᵢ] + biasᵢ, after exchanging height and width where `swapped`.

    axis: the channel axis of the target's input, None where it has none (then there is one gain). before, after:
    relative L2 error of the first linear response without and with the map. naming: the ranges that it leads from and
    to.
    """

    input: str
    axis: int | None
    order: tuple[int, ...]
    gain: Array
    bias: Array
    swapped: bool
    spatial: tuple[int, int] | None
    before: float
    after: float
    naming: Naming | None = None

    @property
    def reordered(self) -> bool:
        """Whether channels change places."""
        return self.order != tuple(range(len(self.order)))

    @property
    def scaled(self) -> bool:
        """Whether values change."""
        return bool(np.any(self.gain != 1) or np.any(self.bias != 0))

    @property
    def by_channel(self) -> bool:
        """Whether channels are scaled differently, or as a mean/std normalisation does.

        One number for an image's only channel counts as such, too, unless it leads from one named range to another;
        values without channels, such as sequences of features, have a range only.
        """
        if self.naming is not None and (len(self.gain) == 1 or self.naming.by_channel):
            return self.naming.by_channel
        spread = [np.ptp(v) > 1e-3 * (1e-9 + np.abs(v).max()) for v in (self.gain, self.bias)]
        return any(spread) or (len(self.gain) == 1 and self.scaled and self.axis is not None)

    def apply(self, x: Array) -> Array:
        """The map of a batch in the target's layout; keeps dtype float32."""
        if self.swapped and self.spatial:
            x = np.swapaxes(x, *self.spatial)
        if self.axis is None:
            return np.asarray(x * self.gain[0] + self.bias[0], x.dtype)
        shape = [1] * x.ndim
        shape[self.axis] = -1
        y = np.take(x, self.order, self.axis) * self.gain.reshape(shape) + self.bias.reshape(shape)
        mapped: Array = np.ascontiguousarray(y.astype(x.dtype))
        return mapped


def frontier(graph: Graph, name: str, goal: str | None = None) -> str | None:
    """The last tensor of the affine part at an input: the first weighted layer with its bias and normalisation.

    goal: what to take where there is no weighted layer before it. None where no part of the graph is affine in the
    input.
    """
    reached: dict[str, bool] = {name: False}
    for node in graph.nodes:
        if any(t in reached for t in node.inputs) and _affine(node, graph, reached):
            weighted = node.op in _WEIGHTED
            if weighted:
                return _extended(graph, node.key, reached)
            reached |= dict.fromkeys((o for o in node.outputs if o), False)
    return goal if goal in reached and goal != name else None


def _affine(node: Node, graph: Graph, reached: dict[str, bool]) -> bool:
    data = [t for t in node.inputs if t in reached]
    rest = [t for t in node.inputs if t and t not in reached]
    if node.op not in _AFFINE or any(not graph.fixed(t) for t in rest) or node.attrs.get("training_mode"):
        return False
    return len(data) == 1 and (node.op != "Div" or node.inputs[0] == data[0])


def _extended(graph: Graph, tensor: str, reached: dict[str, bool]) -> str:
    """Through a bias and a BatchNormalization behind a weighted layer."""
    while True:
        readers = graph.consumers.get(tensor, ())
        node = readers[0][0] if len(readers) == 1 else None
        if node is None or node.op not in {*_ELEMENTWISE, "BatchNormalization"}:
            return tensor
        if not _affine(node, graph, {tensor: False}):
            return tensor
        tensor = node.key


@dataclass(frozen=True)
class Probe:
    """The target's affine part as a function of its input alone, with what it gets and what it should answer."""

    input: str
    given: Array
    wanted: Array
    respond: Callable[[Array], Array]
    axis: int | None
    spatial: tuple[int, int] | None


def infer(probe: Probe) -> InputMap | None:
    """The map that makes the target's response the source's; None where the response is right or no map explains it."""
    x, channels = probe.given, 1 if probe.axis is None else probe.given.shape[probe.axis]
    zero = probe.respond(np.zeros_like(x))
    if zero.shape != probe.wanted.shape or channels > 4:
        return None
    before = relative_error(probe.respond(x), probe.wanted)
    wanted = (probe.wanted.astype(np.float64) - zero).ravel()
    best: list[tuple[float, float, InputMap]] = []
    for swapped in (False, True):
        if swapped and (probe.spatial is None or x.shape[probe.spatial[0]] != x.shape[probe.spatial[1]]):
            continue
        base = np.swapaxes(x, *probe.spatial) if swapped and probe.spatial else x
        rows = _rows(probe, base, zero, channels)
        if not max(np.abs(rows).max(initial=0.0), np.abs(wanted).max(initial=0.0)) < _ABSURD:
            return None  # damaged weights, or NaN: no preparation of inputs makes such numbers
        norm = float(np.linalg.norm(probe.wanted.astype(np.float64))) or 1.0
        for penalty, order, gain, bias, error in _fits(rows, wanted, channels, norm):
            found = InputMap(probe.input, probe.axis, order, gain, bias, swapped, probe.spatial, before, error)
            best.append((penalty + swapped, error, found))
    least = min((error for _, error, _ in best), default=np.inf)
    if least > _ENOUGH * before or least > _GOOD:
        return None
    _, _, chosen = min((b for b in best if b[1] <= max(3 * least, 3e-6)), key=lambda b: (b[0], b[1]))
    return _confirmed(probe, chosen)


def _rows(probe: Probe, x: Array, zero: Array, channels: int) -> Array:
    """Responses to (channel j of x placed in channel i) for all i, j, then to ones in channel i; float64 rows."""
    def place(i: int, value: Array) -> Array:
        made = np.zeros_like(probe.given)
        np.moveaxis(made, probe.axis or 0, 0)[i] = value
        return made

    if probe.axis is None:
        inputs: Sequence[Array] = [x, np.ones_like(x)]
    else:
        parts = np.moveaxis(x, probe.axis, 0)
        inputs = [place(i, parts[j]) for i in range(channels) for j in range(channels)]
        inputs += [place(i, np.ones_like(parts[0])) for i in range(channels)]
    return np.stack([(probe.respond(i).astype(np.float64) - zero).ravel() for i in inputs])


def _fits(
    rows: Array, wanted: Array, channels: int, norm: float
) -> Iterator[tuple[float, tuple[int, ...], Array, Array, float]]:
    """(penalty, order, gain, bias, relative error) for every channel order: no scaling, one for all, one a channel."""
    gram, right = rows @ rows.T, rows @ wanted
    square = float(wanted @ wanted)
    identity = tuple(range(channels))
    one = np.ones(channels)
    for order in permutations(identity):
        moved = 0.0 if order == identity else 1.0 if order == identity[::-1] else 1.5
        picks = [i * channels + j for i, j in enumerate(order)]
        biases = list(range(channels * channels, channels * channels + channels))
        each = np.eye(len(rows))[[*picks, *biases]]
        forms = {0.0: _spread([picks], rows), 1.0: _spread([picks, biases], rows), 2.0: each}
        for penalty, mix in forms.items():
            small, side = mix @ gram @ mix.T, mix @ right
            answer = np.ones(1) if penalty == 0 else _solved(small, side)
            rest = square - 2 * float(answer @ side) + float(answer @ small @ answer)
            error = float(np.sqrt(max(rest, 0.0))) / norm
            gain, bias = (one, 0 * one) if penalty == 0 else (
                (one * answer[0], one * answer[1]) if penalty == 1 else (answer[:channels], answer[channels:]))
            yield penalty + moved, order, gain, bias, error


def _spread(groups: Sequence[Sequence[int]], rows: Array) -> Array:
    mix = np.zeros((len(groups), len(rows)))
    for k, group in enumerate(groups):
        mix[k, list(group)] = 1
    return mix


def _solved(gram: Array, right: Array) -> Array:
    """Least squares by normal equations, scaled to unit diagonal; float64 is ample for float32 responses."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    answer: Array = np.linalg.lstsq(gram / np.outer(scale, scale), right / scale, rcond=1e-13)[0] / scale
    return answer


def _confirmed(probe: Probe, found: InputMap) -> InputMap | None:
    """The map with gains and biases snapped to named ones where that explains as well; measured, not computed."""
    low, high = float(probe.given.min()), float(probe.given.max())
    naming = name_map(found.gain, found.bias, low, high) if found.scaled else None
    unit = float(np.abs(found.gain).max()) * max(-low, high)
    plain = replace(found, gain=_rounded(found.gain), bias=_rounded(found.bias, unit))
    tries = [plain, found]
    exact = name_map(found.gain, found.bias, -np.inf, np.inf) if found.scaled and naming is None else None
    if exact is not None:
        tries.insert(0, replace(found, gain=exact.gain, bias=exact.bias))
    if naming is not None:
        tries.insert(0, replace(found, gain=naming.gain, bias=naming.bias, naming=naming))
    errors = [relative_error(probe.respond(t.apply(probe.given)), probe.wanted) for t in tries]
    for candidate, error in zip(tries, errors, strict=True):
        if error <= max(2 * min(errors), 3e-6) and error <= _ENOUGH * found.before:
            return replace(candidate, after=error)
    return None


def _rounded(values: Array, unit: float = 0.0) -> Array:
    """Gains of 1 and biases of 0 made exact (within 1e-5 of the unit), the rest as fitted."""
    target = 0.0 if unit else 1.0
    return np.where(np.abs(values - target) <= 1e-5 * (unit or 1.0), target, values)
