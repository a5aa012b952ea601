"""Which input and output of the target belongs to which of the source, and in which layout.

Inputs and outputs are bound by equal name, then by name without decoration (case, ":0", "serving_default_", "module."),
then by the only shape that fits, then by order. Outputs that no name binds are bound by what they hold, once both
models ran on the same samples: `by_content`. A binding by name stands even where the content speaks for another: that
is what swapped outputs look like, and it is reported (`crossed`), not silently put right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np

from fetafix.errors import InputDataError
from fetafix.ir import Array
from fetafix.judge import layouts
from fetafix.report import ModelInfo, TensorInfo

_ALIKE, _UNLIKE = 0.9, 0.5
Found = tuple[float, tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class Binding:
    """A pair of inputs or of outputs: target = source.transpose(perm), reshaped where `reshaped`.

    how: "by name", "by similar name", "by shape", "by order" or "by content". comparable: False where no layout makes
    the shapes equal (another number of classes, another resolution).
    """

    source: str
    target: str
    how: str
    perm: tuple[int, ...] | None = None
    reshaped: bool = False
    comparable: bool = True

    def to_target(self, array: Array) -> Array:
        """A source tensor in the target's axis order."""
        return array if self.perm is None else array.transpose(self.perm)

    def to_source(self, array: Array, shape: Sequence[int] | None = None) -> Array:
        """A target tensor in the source's axis order, and in `shape` where only ones or flattening tell them apart.

        Comes back unchanged where it does not fit.
        """
        if self.perm is not None and array.ndim == len(self.perm):
            array = array.transpose(layouts.inverse(self.perm))
        if shape is not None and array.shape != tuple(shape) and array.size == int(np.prod(shape)):
            array = array.reshape(shape)
        return array


@dataclass(frozen=True, slots=True)
class Bindings:
    """How two models fit together. Outputs are in the source's order.

    unused: source inputs the target has no use for. extra, missing: outputs only the target or only the source has.
    crossed: (source output, target output it is bound to by name, target output that holds its values).
    """

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    unused: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    crossed: tuple[tuple[str, str, str], ...] = ()

    @property
    def input_names(self) -> dict[str, str]:
        """Target input name → source input name."""
        return {b.target: b.source for b in self.inputs}

    @property
    def output_names(self) -> dict[str, str]:
        """Target output name → source output name."""
        return {b.target: b.source for b in self.outputs}


def normalise(name: str) -> str:
    """A name without what converters add: case, ":0", prefixes of serving, wrapping and scopes, punctuation."""
    name = re.sub(r":\d+$", "", name.lower())
    name = re.sub(r"^(serving_default_|statefulpartitionedcall[_/.]?|module\.|model[/.]|onnx::|args_)", "", name)
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


Accept = Callable[[TensorInfo, TensorInfo], bool]


def bind(source: ModelInfo, target: ModelInfo) -> Bindings:
    """Bind two interfaces by what they declare. Raises InputDataError where a target input has no counterpart."""
    inputs = _pair(source.inputs, target.inputs, _input_fits)
    bound = {t for _, t, _ in inputs}
    lacking = [t.name for t in target.inputs if t.name not in bound]
    if lacking or not target.inputs:
        raise InputDataError(_mismatch(source, target, lacking))
    outputs = _pair(source.outputs, target.outputs, _output_fits)
    pairs_in = _bindings(inputs, source.inputs, target.inputs)
    pairs_out = _bindings(outputs, source.outputs, target.outputs, any_axes=False)
    return Bindings(
        pairs_in, pairs_out,
        unused=_left([t.name for t in source.inputs], [b.source for b in pairs_in]),
        extra=_left([t.name for t in target.outputs], [b.target for b in pairs_out]),
        missing=_left([t.name for t in source.outputs], [b.source for b in pairs_out]),
    )


def _left(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    return tuple(n for n in names if n not in set(taken))


def _mismatch(source: ModelInfo, target: ModelInfo, lacking: Sequence[str]) -> str:
    what = f"nothing in the source fits the target's input {lacking[0]!r}" if lacking else "the target has no inputs"
    return (
        f"the models' inputs do not match: {what}. Expected (source {source.path}): {signature(source.inputs)}; "
        f"found (target {target.path}): {signature(target.inputs)}. Are these a model and its conversion?"
    )


def signature(tensors: Sequence[TensorInfo]) -> str:
    """One line for people: name dtype[shape], …"""
    return ", ".join(f"{t.name} {t.dtype}{_shape(t.shape)}" for t in tensors) or "(none)"


def _shape(shape: Sequence[int | str | None] | None) -> str:
    return "[unknown]" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


Pair = tuple[str, str, str]


def _pair(sources: Sequence[TensorInfo], targets: Sequence[TensorInfo], accept: Accept) -> list[Pair]:
    """(source, target, how) in passes from the surest to the least sure; nothing is bound twice."""
    free_s, free_t = list(sources), list(targets)
    found: list[Pair] = []

    def take(s: TensorInfo, t: TensorInfo, how: str) -> None:
        found.append((s.name, t.name, how))
        free_s.remove(s)
        free_t.remove(t)

    for how, key in (("by name", str), ("by similar name", normalise)):
        for t in list(free_t):
            twins = [s for s in free_s if key(s.name) == key(t.name) and accept(s, t)]
            if len(twins) == 1:
                take(twins[0], t, how)
    for t in list(free_t):
        fitting = [s for s in free_s if _same_shape(s, t)]
        rivals = [o for o in free_t if fitting and _same_shape(fitting[0], o)]
        if len(fitting) == 1 and len(rivals) == 1:
            take(fitting[0], t, "by shape")
    for t in list(free_t):
        following = [s for s in free_s if _same_shape(s, t)] or [s for s in free_s if accept(s, t)]
        if following:
            take(following[0], t, "by order")
    return found


def _same_shape(s: TensorInfo, t: TensorInfo) -> bool:
    return _kind(s) == _kind(t) and layouts.by_shape(s.shape, t.shape) is not None


def _kind(tensor: TensorInfo) -> str:
    """Coarse kinds that converters do not cross: pixels and activations may be float or 8 bit, ids stay integers."""
    name = tensor.dtype.lower()
    if "float" in name or name in ("uint8", "int8", "double", "half"):
        return "number"
    return "integer" if "int" in name else name


def _input_fits(s: TensorInfo, t: TensorInfo) -> bool:
    """Equal rank, and equal channels; other sizes (a resolution changed in conversion) are for each model's own data.

    Numbers may be ids, and the other way round: a wrapper's silent cast is a fault to find, not a reason to give up.
    """
    if "str" in {_kind(s)[:3], _kind(t)[:3]} and _kind(s) != _kind(t):
        return False
    if s.shape is None or t.shape is None or layouts.by_shape(s.shape, t.shape) is not None:
        return True
    if len(s.shape) != len(t.shape) or len(s.shape) != 4:
        return False
    channels = [{d for d in (v.shape[1], v.shape[3]) if d in (1, 3, 4)} for v in (s, t) if v.shape]
    return bool(channels[0] & channels[1])


def _output_fits(s: TensorInfo, t: TensorInfo) -> bool:
    """Anything goes by name or order: an output of another shape is still the one to compare, and to complain about."""
    return _kind(s) == _kind(t)


Tensors = Sequence[TensorInfo]


def _bindings(pairs: Sequence[Pair], sources: Tensors, targets: Tensors, any_axes: bool = True) -> tuple[Binding, ...]:
    by_source, by_target = {s.name: s for s in sources}, {t.name: t for t in targets}
    order = {s.name: i for i, s in enumerate(sources)}
    made = [_binding(by_source[s], by_target[t], how, any_axes) for s, t, how in pairs]
    return tuple(sorted(made, key=lambda b: order[b.source]))


def _binding(s: TensorInfo, t: TensorInfo, how: str, any_axes: bool) -> Binding:
    perm = layouts.by_shape(s.shape, t.shape, any_axes)
    if perm is not None:
        return Binding(s.name, t.name, how, None if perm == tuple(range(len(perm))) else perm)
    assert s.shape is not None and t.shape is not None  # else by_shape is the identity
    if layouts.squeezed(s.shape) == layouts.squeezed(t.shape):
        return Binding(s.name, t.name, how, reshaped=True)
    return Binding(s.name, t.name, how, _sized(s, t), comparable=False)


def _sized(s: TensorInfo, t: TensorInfo) -> tuple[int, ...] | None:
    """The layout of two image tensors that differ in resolution, told by where the channels are."""
    if s.shape is None or t.shape is None or len(s.shape) != 4 or len(t.shape) != 4:
        return None
    first_s, first_t = s.shape[1] in (1, 3, 4), t.shape[1] in (1, 3, 4)
    return None if first_s == first_t else (0, 2, 3, 1) if first_s else (0, 3, 1, 2)


def by_content(bindings: Bindings, source: Mapping[str, Array], target: Mapping[str, Array]) -> Bindings:
    """Bindings after a look at both models' outputs on the same few samples, by source and by target output name.

    Layouts come from the values; outputs that no name binds go where they look most alike; named ones stay, and are
    listed as crossed where another output clearly holds their values.
    """
    @cache
    def alike(s: str, t: str) -> Found:
        return layouts.by_content(source[s], target[t])

    there = [b for b in bindings.outputs if b.source in source and b.target in target]
    made = [b for b in there if b.how in ("by name", "by similar name")]
    free_s, free_t = _left(list(source), [b.source for b in made]), _left(list(target), [b.target for b in made])
    declared = {(b.source, b.target): b for b in there}
    pairs = sorted(product(free_s, free_t), key=lambda p: (-round(alike(*p)[0], 6), p not in declared))
    taken: set[tuple[str, str]] = set()
    for s, t in pairs:
        known, score = declared.get((s, t)), alike(s, t)[0]
        if {(s, ""), ("", t)} & taken or (known is None and score <= _UNLIKE):
            continue
        taken |= {(s, ""), ("", t)}
        sure = score > _ALIKE and (known is None or known.how == "by order")
        made.append(Binding(s, t, "by content" if sure or known is None else known.how))
    order = list(source)
    settled = [_settle(b, alike(b.source, b.target), declared, source, target) for b in made]
    settled.sort(key=lambda b: order.index(b.source))
    return replace(
        bindings, outputs=tuple(settled), extra=_left(list(target), [b.target for b in settled]),
        missing=_left(order, [b.source for b in settled]), crossed=_crossed(settled, target, alike),
    )


def _settle(
    b: Binding, found: Found, declared: Mapping[tuple[str, str], Binding],
    source: Mapping[str, Array], target: Mapping[str, Array],
) -> Binding:
    """A binding with its layout taken from the values where they are clear, else from the declared shapes."""
    s, t = source[b.source].shape, target[b.target].shape
    known = declared.get((b.source, b.target), b)
    identity = tuple(range(len(s)))
    perm = found[1] if found[0] > _UNLIKE else known.perm or identity
    if perm is None or len(perm) != len(t) or tuple(s[p] for p in perm) != t:
        perm = layouts.by_shape(s, t, any_axes=False)
    same_size = s[:1] == t[:1] and int(np.prod(s)) == int(np.prod(t))
    reshaped = perm is None and same_size and (layouts.squeezed(s) == layouts.squeezed(t) or found[0] > _UNLIKE)
    perm, fits = (None if perm == identity else perm), perm is not None or reshaped
    return replace(b, perm=perm, reshaped=reshaped, comparable=fits)


def _crossed(
    settled: Sequence[Binding], targets: Iterable[str], alike: Callable[[str, str], Found]
) -> tuple[tuple[str, str, str], ...]:
    found = []
    for b in settled:
        if alike(b.source, b.target)[0] < _UNLIKE:
            best = max(((alike(b.source, t)[0], t) for t in targets if t != b.target), default=(0.0, ""))
            if best[0] > _ALIKE:
                found.append((b.source, b.target, best[1]))
    return tuple(found)
