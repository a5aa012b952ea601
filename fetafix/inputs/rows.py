"""The user's arrays as a model's input: axes where the model has them, its dtype, nothing changed that fits already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs.samples import ArrayFile, Rows
from fetafix.inputs.signature import ImageInput, describe_shape, dtype_of, image_input, is_batched, item_dims
from fetafix.ir import Array, Dim
from fetafix.report import TensorInfo

Perm = tuple[int, ...]


def permutations(rank: int) -> list[Perm]:
    """The layouts of an item that converters write: as it is, channels moved last, channels moved first."""
    axes = tuple(range(rank))
    return list(dict.fromkeys([axes, (*axes[1:], 0), (rank - 1, *axes[:-1])])) if rank else [()]


def compatible(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes may be the same: equal where both are numbers."""
    return len(a) == len(b) and all(
        x == y or not isinstance(x, int) or not isinstance(y, int) for x, y in zip(a, b, strict=True)
    )


def permuted(dims: Sequence[Dim], perm: Perm) -> tuple[Dim, ...]:
    """The shape after a transposition."""
    return tuple(dims[p] for p in perm)


def fit(rows: Rows, spec: TensorInfo) -> tuple[Array | ArrayFile, list[str]]:
    """The rows as the input takes them, (N, *item), and what the report should say about it.

    Rows that suit stay where they are (a file stays a file). A leading 1 that is the declared batch axis is dropped;
    NHWC rows for an NCHW input (or the other way round) are transposed where only that fits; an item is repeated where
    the declared batch is fixed. NaN and infinities are allowed, for masks are made of them, and noted. Raises
    InputDataError, with expected and found, for anything else.
    """
    shape, dtype = _shape_dtype(rows.data)
    plan = _plan(shape[1:], spec)
    if plan is None:
        raise InputDataError(_mismatch(rows, spec, (rows.total or shape[0], *shape[1:])))
    perm, squeeze, repeat = plan
    notes = _not_finite(rows, spec) if dtype.kind == "f" else []
    moved = perm is not None and perm != tuple(range(len(perm)))
    if not (moved or squeeze or repeat) and dtype == dtype_of(spec):
        return rows.data, notes
    array = rows.data.load() if isinstance(rows.data, ArrayFile) else rows.data
    array = array[:, 0] if squeeze else array
    if moved and perm is not None:
        array = np.ascontiguousarray(array.transpose(0, *(p + 1 for p in perm)))
        found, wanted = describe_shape(shape[1:]), describe_shape(item_dims(spec))
        notes.append(f"{rows.origin}: rows {found} transposed to {wanted} for input {spec.name!r}")
    array = np.repeat(array[:, None], repeat, axis=1) if repeat else array
    return cast(array, spec, rows.origin, rows.indices), notes


def cast(array: Array, spec: TensorInfo, origin: str, samples: Sequence[int] = ()) -> Array:
    """The array in the input's dtype. Raises InputDataError where values would change beyond rounding to a float."""
    dtype = dtype_of(spec)
    if array.dtype == dtype:
        return array
    where = f"{origin}: input {spec.name!r} takes {spec.dtype}"
    if array.dtype.name.startswith(("bfloat", "float")):
        array = array.astype(np.result_type(array.dtype, np.float32))  # bfloat16 is no float to numpy itself
    if array.dtype.kind not in "fiub":
        raise InputDataError(f"{where}, but the data is {array.dtype}; convert it to numbers of that type")
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        wrong = ~((array >= low) & (array <= high))
        if array.dtype.kind == "f":
            wrong |= np.rint(array) != array
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            sample = samples[at[0]] if samples else at[0]
            hint = "; whatever feeds it cuts such numbers off (`fetafix faults id-wrapper-dtype`)"
            raise InputDataError(
                f"{where}, but sample {sample} holds {array[at]} at {list(at[1:])}{hint if dtype.kind in 'iu' else ''}"
            )
        return array.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        done: Array = array.astype(dtype)
    if array.dtype.kind == "f" and np.isinf(done).any() and np.isfinite(array[np.isinf(done)]).any():
        raise InputDataError(f"{where}, but the data exceeds its range (largest {np.nanmax(np.abs(array)):.4g})")
    return done


def as_images(rows: Rows, spec: TensorInfo, image: ImageInput) -> tuple[Array, ...] | None:
    """uint8 rows in the shape of images, as (h, w, c) each; None where they are something else."""
    shape, dtype = _shape_dtype(rows.data)
    if dtype != np.uint8 or len(shape) not in (3, 4):
        return None
    last, first = shape[-1] in (1, 3, 4), shape[1] in (1, 3, 4)
    if len(shape) == 4 and not (last or first):
        return None
    array = rows.data.load() if isinstance(rows.data, ArrayFile) else rows.data
    if len(shape) == 4 and first and (not last or image.layout == "nchw"):
        array = array.transpose(0, 2, 3, 1)
    return tuple(array)


def _shape_dtype(data: Array | ArrayFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if not isinstance(data, ArrayFile):
        return data.shape, data.dtype
    mapped = np.load(data.path, mmap_mode="r", allow_pickle=False)
    return (len(data.rows), *mapped.shape[1:]), mapped.dtype


def _plan(row: tuple[int, ...], spec: TensorInfo) -> tuple[Perm | None, bool, int] | None:
    """(transposition, drop a leading 1, repetitions) that make a row an item; None where nothing fits."""
    item = item_dims(spec)
    if item is None or compatible(row, item):
        return None, False, 0
    if is_batched(spec):
        if row[:1] == (1,) and compatible(row[1:], item):
            return None, True, 0
        return _turned(row, item, 0)
    lead = item[0] if item else None
    if len(item) >= 2 and isinstance(lead, int):
        return (None, False, lead) if compatible(row, item[1:]) else _turned(row, item[1:], lead)
    return None


def _turned(row: tuple[int, ...], item: tuple[Dim, ...], repeat: int) -> tuple[Perm, bool, int] | None:
    """The one transposition that fits, for items of rank 3 and more; None where there is none, or two."""
    if len(row) != len(item) or len(row) < 3:
        return None
    fits = [p for p in permutations(len(row))[1:] if compatible(permuted(row, p), item)]
    return (fits[0], False, repeat) if len(fits) == 1 else None


def _mismatch(rows: Rows, spec: TensorInfo, shape: tuple[int, ...]) -> str:
    expected = describe_shape(("samples", *(item_dims(spec) or ())))
    hint = "axis 0 counts the samples"
    if compatible(shape, item_dims(spec) or ()):
        hint = "this looks like a single sample: save it as array[None]"
    elif image_input(spec) and len(shape) == 4:
        hint = "height and width must be the model's: resize the data, or give a folder of images"
    return f"{rows.origin}: expected {expected} for input {spec.name!r}, found {describe_shape(shape)}; {hint}"


def _not_finite(rows: Rows, spec: TensorInfo) -> list[str]:
    """A note where values are NaN or infinite; looked at row by row, to hold no copy of the data."""
    if isinstance(rows.data, ArrayFile):
        array, picked = np.load(rows.data.path, mmap_mode="r", allow_pickle=False), rows.data.rows
    else:
        array, picked = rows.data, tuple(range(len(rows.data)))
    bad = sum(not np.isfinite(array[i]).all() for i in picked)
    note = f"{rows.origin}: {bad} of {len(picked)} samples for input {spec.name!r} hold NaN or infinity"
    return [note] if bad else []
