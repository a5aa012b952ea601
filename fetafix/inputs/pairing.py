"""The same underlying samples for both models: `pair_feeds`.

Images are decoded once and go through each model's own preprocessing. Arrays are fitted to the source's inputs and
carried over to the target's through the binding of inputs: transposed where the declared layouts differ, reshaped where
only the number of elements is the same, cast to the target's dtype. What one model leaves undeclared (no shape at all,
symbolic dimensions) is taken from the other, so that both always get the same sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs.preprocess import ASSUMED, apply
from fetafix.inputs.recipe import Preprocess, nearest
from fetafix.inputs.resample import stretched
from fetafix.inputs.rows import Perm, cast, compatible, fit, permutations, permuted
from fetafix.inputs.samples import ArrayFile, Arrays, Drawn, Pixels, Progress, SampleSet, Source
from fetafix.inputs.signature import concrete, describe_shape, dims_of, dtype_of, image_input, is_batched, item_dims
from fetafix.ir import Array
from fetafix.report import TensorInfo


@dataclass(frozen=True, eq=False)
class Side:
    """One model's inputs and preprocessing. binding: target input → source input, on the target's side only.

    Without a binding inputs are bound by name, the others in order. assumed: what the model itself tells about its
    images, used for both sides where no preprocessing is given for either; the source's word comes first.
    """

    specs: Sequence[TensorInfo]
    preprocess: Preprocess | None = None
    binding: Mapping[str, str] | None = None
    assumed: Preprocess | None = None


def pair_feeds(
    source: Source, indices: Sequence[int], source_side: Side, target_side: Side, progress: Progress | None = None
) -> tuple[SampleSet, SampleSet]:
    """(source's, target's) sample sets for these indices of a data source; both have the same `indices`.

    A side without preprocessing takes the other's (layout and dtype aside, which are its own model's). Raises
    InputDataError where the data does not suit a model, where inputs are unbound or shapes cannot be reconciled.
    """
    binding = bind(source_side.specs, target_side.specs, target_side.binding)
    specs, target_specs = reconcile(source_side.specs, target_side.specs, binding, source.sizes)
    given = (source_side.preprocess, target_side.preprocess)
    aliases = {s: t for t, s in binding.items()}
    drawn = source.draw(indices, specs, any(given), progress, aliases)
    usual = source_side.assumed or target_side.assumed or ASSUMED
    first = finish(drawn, specs, given[0] or _borrowed(given[1]), usual)
    second = _carried(drawn, first, specs, target_specs, binding, given[1] or _borrowed(given[0]), usual)
    return first, second


def single_feeds(
    source: Source, indices: Sequence[int], specs: Sequence[TensorInfo], preprocess: Preprocess | None,
    progress: Progress | None = None,
) -> SampleSet:  # fmt: skip
    """The sample set of one model alone. Raises InputDataError where the data does not suit it."""
    filled, _ = reconcile(specs, [], {}, source.sizes)
    return finish(source.draw(indices, filled, preprocess is not None, progress), filled, preprocess)


def finish(
    drawn: Drawn, specs: Sequence[TensorInfo], preprocess: Preprocess | None, usual: Preprocess = ASSUMED
) -> SampleSet:
    """What was drawn, as the model with these inputs takes it; without preprocessing `usual` is used for images."""
    parts: dict[str, Array | ArrayFile] = {}
    notes = list(drawn.notes)
    for spec in specs:
        part = drawn.parts[spec.name]
        if isinstance(part, Pixels):
            wanted = preprocess or usual
            parts[spec.name] = apply(wanted, part.decoded(wanted.decoding), spec, part.names)
        else:
            parts[spec.name], more = fit(part, spec)
            notes += more
    return _sample_set(drawn, parts, specs, preprocess, usual, notes)


def bind(
    source: Sequence[TensorInfo], target: Sequence[TensorInfo], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Target input → source input. Raises InputDataError for unknown names and for inputs left without a partner."""
    names = [s.name for s in source]
    bound = dict(given or {t.name: t.name for t in target if t.name in names})
    for wrong in (s for s in bound.values() if s not in names):
        raise InputDataError(f"binding: the source has no input {wrong!r}{nearest(wrong, names)}")
    free = [n for n in names if n not in bound.values()]
    for t in target:
        if t.name not in bound:
            if given is not None or not free:
                raise InputDataError(
                    f"target input {t.name!r} is bound to no input of the source ({', '.join(names)}), so there "
                    "is nothing to feed it with"
                )
            bound[t.name] = free.pop(0)
    return {t.name: bound[t.name] for t in target}


def reconcile(
    source: Sequence[TensorInfo], target: Sequence[TensorInfo], binding: Mapping[str, str], sizes: Mapping[str, int]
) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Both sides' inputs with undeclared shapes and dimensions filled from `sizes`, then from the bound partner."""
    ours = {s.name: concrete(s, sizes) for s in source}
    theirs = {t.name: concrete(t, sizes) for t in target}
    for name, partner in binding.items():
        a, b = ours[partner], theirs[name]
        ours[partner], theirs[name] = _filled(a, b), _filled(b, a)
    return _propagated(source, ours), _propagated(target, theirs)


def relation(source: TensorInfo, target: TensorInfo) -> Perm | None:
    """The transposition of whole declared tensors that turns a source input into a target input; None where none does.

    The batch axis stays in front, and its size is no obstacle where one side can take single items.
    """
    a, b = dims_of(source), dims_of(target)
    if a is None or b is None:
        return tuple(range(len(a or b or ())))
    if len(a) != len(b):
        return None
    single = is_batched(source) or is_batched(target)
    choices = [(0, *(p + 1 for p in perm)) for perm in permutations(len(a) - 1)] if len(a) > 1 else permutations(len(a))
    choices += [] if single else permutations(len(a))
    skip = 1 if single else 0
    return next((p for p in choices if compatible(permuted(a, p)[skip:], b[skip:])), None)


def _filled(spec: TensorInfo, other: TensorInfo) -> TensorInfo:
    """`spec` with what it leaves open taken from its partner, through the layout that relates them."""
    a, b, perm = dims_of(spec), dims_of(other), relation(other, spec)
    if a is None or b is None or perm is None:
        return spec if b is None or perm is None else msgspec.structs.replace(spec, shape=list(b))
    pairs = zip(a, permuted(b, perm), strict=True)
    shape = [y if not isinstance(x, int) and isinstance(y, int) else x for x, y in pairs]
    if is_batched(spec) and shape[0] == 1:  # a batch of 1 is what a trace declares, not a limit for the partner
        shape[0] = a[0]
    return msgspec.structs.replace(spec, shape=shape)


def _propagated(before: Sequence[TensorInfo], after: Mapping[str, TensorInfo]) -> list[TensorInfo]:
    """Give a symbol that was filled in one input the same number in all inputs of its model."""
    sizes = {
        old: new
        for spec in before
        for old, new in zip(spec.shape or (), after[spec.name].shape or (), strict=False)
        if isinstance(old, str) and isinstance(new, int)
    }
    return [concrete(after[spec.name], sizes, batch=True) for spec in before]


def _carried(
    drawn: Drawn, first: SampleSet, specs: Sequence[TensorInfo], target: Sequence[TensorInfo],
    binding: Mapping[str, str], preprocess: Preprocess | None, usual: Preprocess,
) -> SampleSet:  # fmt: skip
    """The target's sample set, from the pixels or from what the source's inputs get."""
    by_name = {s.name: s for s in specs}
    parts: dict[str, Array | ArrayFile] = {}
    notes: list[str] = []
    for spec in target:
        name = binding[spec.name]
        part = drawn.parts[name]
        if isinstance(part, Pixels) and image_input(spec, preprocess):
            wanted = preprocess or usual
            parts[spec.name] = apply(wanted, part.decoded(wanted.decoding), spec, part.names)
        else:
            parts[spec.name] = _transported(first, by_name[name], spec, notes)
    renamed = {t: drawn.parts[s] for t, s in binding.items()}
    return _sample_set(Drawn(drawn.indices, renamed), parts, target, preprocess, usual, notes)


def _transported(first: SampleSet, source: TensorInfo, target: TensorInfo, notes: list[str]) -> Array | ArrayFile:
    """The source's rows as the target's input; the very same rows of a file where nothing has to change."""
    perm, stacked, stacks = relation(source, target), is_batched(source), is_batched(target)
    straight = perm is not None and perm == tuple(range(len(perm))) and stacked == stacks
    if straight and source.name in first.files and dtype_of(source) == dtype_of(target):
        return ArrayFile(first.files[source.name], first.rows)
    array = first.arrays[source.name]
    between = f"source input {source.name!r} → target input {target.name!r}"
    sized = resized(array, source, target) if perm is None and stacked and stacks else None
    if sized is not None:
        notes.append(f"{between}: items {describe_shape(item_dims(source))} were resized to "
                     f"{describe_shape(item_dims(target))}, as the target's inputs would have to be")  # fmt: skip
        return cast(sized, target, between)
    if perm is None:
        notes.append(f"{between}: {describe_shape(item_dims(source))} reshaped to {describe_shape(item_dims(target))}")
        return cast(_reshaped(array, target, between), target, between)
    if stacks and not stacked:
        notes.append(f"{between}: the target takes one item a run, it gets the first of each batch of {array.shape[1]}")
        array = array[:, 0]
    if not straight:
        moves = perm if not (stacked or stacks) else tuple(p - 1 for p in perm[1:])
        array = np.ascontiguousarray(array.transpose(0, *(p + 1 for p in moves)))
    if stacked and not stacks:
        lead = (dims_of(target) or (1,))[0]
        array = np.repeat(array[:, None], lead if isinstance(lead, int) else 1, axis=1)
    return cast(array, target, between)


def resized(array: Array, source: TensorInfo, target: TensorInfo) -> Array | None:
    """Rows of images for an input of another height or width, bilinearly; None where they are no images of both.

    Arrays (N, *item) that were prepared for the source; channels are kept, and moved where the layouts differ.
    """
    ours, theirs = image_input(source), image_input(target)
    if ours is None or theirs is None or ours.channels != theirs.channels or array.dtype.kind != "f":
        return None
    if theirs.height is None or theirs.width is None or array.ndim != 4:
        return None
    rows = array if ours.layout == "nchw" else array.transpose(0, 3, 1, 2)
    for axis, size in ((2, theirs.height), (3, theirs.width)):
        rows = stretched(rows, axis, size)
    return np.ascontiguousarray(rows if theirs.layout == "nchw" else rows.transpose(0, 2, 3, 1), array.dtype)


def _reshaped(array: Array, target: TensorInfo, between: str) -> Array:
    dims = item_dims(target) or ()
    numbers = [d for d in dims if isinstance(d, int)]
    if len(numbers) != len(dims) or math.prod(numbers) != array[0].size:
        raise InputDataError(
            f"{between}: items of shape {list(array.shape[1:])} cannot become {describe_shape(dims)}; arrays cannot be "
            "resized, so give a folder of images, or models with the same input size"
        )
    return array.reshape(len(array), *numbers)


def _borrowed(other: Preprocess | None) -> Preprocess | None:
    """The other model's preprocessing without what belongs to that model."""
    return msgspec.structs.replace(other, layout="auto", dtype="auto") if other else None


def _sample_set(
    drawn: Drawn, parts: Mapping[str, Array | ArrayFile], specs: Iterable[TensorInfo],
    preprocess: Preprocess | None, usual: Preprocess, notes: Sequence[str],
) -> SampleSet:  # fmt: skip
    files: dict[str, Path] = {n: p.path for n, p in parts.items() if isinstance(p, ArrayFile)}
    rows = next((p.rows for p in parts.values() if isinstance(p, ArrayFile)), ())
    images = next((n for n, p in drawn.parts.items() if isinstance(p, Pixels)), "")
    assumed = bool(images) and preprocess is None
    why = "" if usual == ASSUMED else ", the real numbers that the codes of a quantised input stand for"
    more = [f"no preprocessing was given for input {images!r}: assumed {usual.describe()}{why}"] if assumed else []
    return SampleSet(
        arrays=Arrays(parts), batched={s.name: is_batched(s) for s in specs}, indices=drawn.indices, files=files,
        rows=rows, preprocess=(preprocess or usual) if images else None, assumed=assumed, images=images,
        notes=(*notes, *more),
    )  # fmt: skip
