"""Two models compared by what their layers computed, where no common graph of both is to be had.

A trace (`Taps`) tells the layers in the order in which they ran, and every activation. Tensors of equal values, up to
layout, are twins. Where a tensor has none, and what is computed from it has one again, a fused or split layer lay
between and nothing is wrong. Otherwise it is *astray*. A layer whose inputs are not astray and whose output is
introduces the difference; a layer behind it only passes it on, and nothing more is known of that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.formats.base import Tap, Taps
from fetafix.graph.fingerprint import Index, compare, layouts, relate
from fetafix.graph.segment import Layout, relative_error
from fetafix.ir import Array

_SAME, _SAME_HALF = 1e-3, 1e-2
_REACH = 8
_SURE = 1.5
_FAMILIES = (
    ("conv",), ("linear", "gemm", "matmul", "dense", "fullyconnected", "addmm", "mm"), ("batchnorm", "normalization"),
    ("relu", "clip", "sigmoid", "logistic", "tanh", "elu", "gelu", "hardswish", "silu", "swish", "softplus", "mish",
     "activation"),
    ("softmax",), ("pool", "mean"), ("concat", "cat"), ("add", "sum"), ("mul", "div"), ("sub",), ("resize", "upsampl"),
    ("pad",), ("reshape", "flatten", "view", "transpose", "permute", "squeeze", "identity", "dropout", "contiguous"),
)  # fmt: skip
_PASSING = {"relu", "reshape", "pad"}


def family(op: str) -> str:
    """What kind of layer an operator's name in any framework stands for ("Conv2D", "aten.convolution" → "conv")."""
    plain = "".join(c for c in op.lower() if c.isalpha())
    return next((words[0] for words in _FAMILIES if any(w in plain for w in words)), plain)


@dataclass(frozen=True, eq=False, slots=True)
class Introduced:
    """Where the target goes astray: `layers`, in their order, are fed what the source has and make something else.

    target, source: the tensors that should be equal; layout: how the target holds the source's. error: relative L2.
    source_layers: what the source computes there. proved: with the source's value in its place what follows agrees.
    """

    layers: tuple[Tap, ...]
    source_layers: tuple[Tap, ...]
    target: str
    source: str
    layout: Layout
    error: float
    proved: bool = False


class _Flow:
    """A trace as a graph."""

    def __init__(self, taps: Taps) -> None:
        self.taps, self.values = taps, taps.values
        self.makers = {o: tap for tap in taps.layers for o in tap.outputs}
        self.order = {o: i for i, tap in enumerate(taps.layers) for o in tap.outputs}
        self.readers: dict[str, list[Tap]] = {}
        for tap in taps.layers:
            for name in dict.fromkeys(tap.inputs):
                self.readers.setdefault(name, []).append(tap)

    def astray(self, closed: Mapping[str, object]) -> dict[str, None]:
        """Tensors without a twin from which nothing with a twin is computed, in order."""
        leads: dict[str, bool] = {}
        for tap in reversed(self.taps.layers):
            for name in tap.outputs:
                made = [o for reader in self.readers.get(name, ()) for o in reader.outputs]
                leads[name] = any(o in closed or leads.get(o, False) for o in made)
        found: dict[str, None] = {}
        for tap in self.taps.layers:
            passed = any(t in found for t in tap.inputs)
            for name in (o for o in tap.outputs if o in self.values and o not in closed and not leads[o]):
                if passed or telling(self.values[name]):
                    found[name] = None
        return found

    def first(self, astray: Mapping[str, object]) -> list[Tap]:
        """The layers at which the astray tensors begin."""
        begin = [t for t in self.taps.layers if any(o in astray for o in t.outputs)]
        return [t for t in begin if not any(i in astray for i in t.inputs)]

    def behind(self, tap: Tap, astray: Mapping[str, object]) -> list[str]:
        """Astray tensors from a layer on, nearest first, a few layers deep."""
        found = [o for o in tap.outputs if o in astray]
        for name in found:
            if len(found) > _REACH:
                break
            found += [o for r in self.readers.get(name, ()) for o in r.outputs if o in astray and o not in found]
        return sorted(found, key=lambda n: self.order[n])[:_REACH]

    def between(self, tensor: str, stops: Mapping[str, object]) -> tuple[Tap, ...]:
        """The layers that compute a tensor from tensors in `stops` (and from inputs)."""
        stack, found = [tensor], dict[int, Tap]()
        while stack:
            name = stack.pop()
            tap = self.makers.get(name)
            if tap is None or (name in stops and name != tensor) or self.order[name] in found:
                continue
            found[self.order[name]] = tap
            stack += tap.inputs
        return tuple(found[i] for i in sorted(found))

    def read_by(self, tensor: str) -> list[str]:
        """What kinds of layers read a tensor."""
        return sorted(family(tap.op) for tap in self.readers.get(tensor, ()))

    def roots(self, tap: Tap, closed: Mapping[str, str]) -> set[str]:
        """The twins that a layer's inputs are, or are made from; names of the source."""
        stack, found, seen = list(tap.inputs), set[str](), set[str]()
        while stack:
            name = stack.pop()
            if name in closed:
                found.add(closed[name])
            elif name not in seen and name in self.makers:
                seen.add(name)
                stack += self.makers[name].inputs
        return found


def telling(value: Array) -> bool:
    """Whether equality with this tensor means something."""
    return value.dtype.kind in "fV" and value.size > 1 and not (value == value.flat[0]).all()


class Traces:
    """A source's and a target's trace on the same samples.

    outputs: bound outputs, target name → source name; they are twins where their values agree, and never elsewhere.
    """

    def __init__(self, source: Taps, target: Taps, outputs: Mapping[str, str]) -> None:
        self.source, self.target, self._outputs = _Flow(source), _Flow(target), outputs
        self._index = Index()
        for name, value in source.values.items():
            if telling(value):
                self._index.add(name, value)
        self.twins: dict[str, tuple[str, Layout]] = {}
        self._matched: dict[str, str] = {}
        for name, value in target.values.items():
            for other, layout in self._matches(name, value):
                self.twins.setdefault(name, (other, layout))
                self._matched.setdefault(other, other)
        self.astray = self.target.astray(self.twins)
        self._missed = self.source.astray(self._matched)

    def _matches(self, name: str, value: Array) -> Iterator[tuple[str, Layout]]:
        loose = _SAME_HALF if value.dtype.itemsize < 4 else _SAME
        bound = self._outputs.get(name)
        if bound is not None:
            near: Sequence[str] = [bound] if bound in self.source.values else []
        else:
            near = list(self._index.near(value, 20 * loose)) if telling(value) else []
        for other in near:
            match = next(compare(value, self.source.values[other], loose), None)
            if match is not None:
                yield other, match[0]

    def introduced(self) -> list[Introduced]:
        """Every place where the target goes astray, the most likely pair of tensors for each."""
        found: list[Introduced] = []
        for tap in self.target.first(self.astray):
            best = next(self.suppositions(tap), None)
            if best is not None and best.target not in {f.target for f in found}:
                found.append(best)
        return found

    def passed_on(self, found: Sequence[Introduced]) -> int:
        """How many layers are astray that no finding names: they are behind it."""
        named = {id(t) for f in found for t in f.layers}
        return sum(any(o in self.astray for o in t.outputs) and id(t) not in named for t in self.target.taps.layers)

    def suppositions(self, tap: Tap) -> Iterator[Introduced]:
        """Pairs of tensors that should be equal from an introducing layer on, likely ones first."""
        closed = {t: s for t, (s, _) in self.twins.items()}
        roots = self.target.roots(tap, closed)
        starts = [s for s in self.source.first(self._missed)
                  if self.source.roots(s, self._matched) & roots or not roots]
        theirs = list(dict.fromkeys(n for s in starts for n in self.source.behind(s, self._missed)))
        pairs: list[tuple[bool, float, str, str, Layout, float]] = []
        for i, mine in enumerate(self.target.behind(tap, self.astray)):
            for j, other in enumerate(theirs):
                for score, layout, error in self._pair(mine, other):
                    sure = score >= _SURE  # of these the nearest counts, else a region would be larger than it is
                    place = (i + j) - 0.1 * score if sure else 0.1 * (i + j) - score
                    pairs.append((not sure, place, mine, other, layout, error))
        for _, _, mine, other, layout, error in sorted(pairs, key=lambda p: p[:2]):
            layers = self.target.between(mine, self._known(self.target, self.twins, self.astray))
            there = self.source.between(other, self._known(self.source, self._matched, self._missed))
            yield Introduced(layers, there, mine, other, layout, error)

    def _pair(self, mine: str, other: str) -> Iterator[tuple[float, Layout, float]]:
        """How well two tensors go together: made alike, read alike (1 each), alike in value (up to 1)."""
        bound = self._outputs.get(mine, other)
        if bound != other or (other in self._outputs.values() and mine not in self._outputs):
            return
        value, source = self.target.values[mine], self.source.values[other]
        same = family(self.target.makers[mine].op) == family(self.source.makers[other].op)
        read = self.target.read_by(mine) == self.source.read_by(other)
        for layout, error in likeness(value, source):
            alike = 1.0 - min(error, 1.0)
            yield 1.0 * same + 1.0 * read + alike, layout, error

    @staticmethod
    def _known(flow: _Flow, closed: Mapping[str, object], astray: Mapping[str, object]) -> dict[str, None]:
        """Tensors at which a region begins: those that are not astray."""
        return {n: None for n in flow.values if n in closed or n not in astray}

    def agrees_behind(self, tensor: str) -> bool:
        """Whether a layer that computes from a tensor, and does not only pass values on, has a twin."""
        reached, stack = {tensor}, [tensor]
        while stack:
            for tap in self.target.readers.get(stack.pop(), ()):
                if any(o in self.twins for o in tap.outputs) and family(tap.op) not in _PASSING:
                    return True
                fresh = [o for o in tap.outputs if o not in reached]
                reached.update(fresh)
                stack += fresh
        return False


def likeness(value: Array, source: Array) -> list[tuple[Layout, float]]:
    """The layouts in which a tensor may hold another, with the relative L2 error; the nearest first."""
    if value.size != source.size or value.size == 0:
        return []
    with np.errstate(all="ignore"):
        found = [(layout, relative_error(value.astype(np.float32), relate(source, layout, value.shape)))
                 for layout in layouts(source.shape, value.shape)]
    return sorted(found, key=lambda f: f[1])[:2]
