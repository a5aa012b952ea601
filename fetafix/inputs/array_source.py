"""Arrays as a data source: a .npy file, a .npz with an array per input, what a loader gave. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs import rows
from fetafix.inputs.pairing import single_feeds
from fetafix.inputs.recipe import Preprocess, nearest
from fetafix.inputs.samples import ArrayFile, Drawn, Pixels, Progress, Rows, SampleSet
from fetafix.inputs.signature import image_input
from fetafix.ir import Array
from fetafix.report import TensorInfo


@dataclass(frozen=True, eq=False)
class ArraySource:
    """One array an input, axis 0 counting the samples; a path stands for a .npy file that stays on disk.

    Under the name "" an array serves whatever single input a model has.
    """

    arrays: Mapping[str, Array | Path]
    origin: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    kind: str = "arrays"
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays without samples, and arrays that disagree in their number."""
        counts = {name: _count(array) for name, array in self.arrays.items()}
        for name, count in counts.items():
            if not count:
                what = "is a single number" if count is None else "holds no samples"
                which = f"array {name!r}" if name else "the array"
                raise InputDataError(f"{self.origin}: {which} {what}; expected [samples, …], axis 0 counts the samples")
        if len(set(counts.values())) > 1:
            raise InputDataError(f"{self.origin}: all arrays need the same number of samples (axis 0), found {counts}")

    def __len__(self) -> int:
        return next((n for n in map(_count, self.arrays.values()) if n), 0)

    def named(self, origin: str) -> ArraySource:
        """The same source under another text for the report."""
        return replace(self, origin=origin)

    def usable(self, indices: Sequence[int], progress: Progress | None = None) -> list[int]:
        """All of them."""
        return list(indices)

    def draw(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], pixels: bool = False,
        progress: Progress | None = None, aliases: Mapping[str, str] | None = None,
    ) -> Drawn:  # fmt: skip
        """The rows, by the inputs' names or `aliases`; what is left over is noted."""
        parts: dict[str, Pixels | Rows] = {}
        named = {s.name: self._name_for(s.name, specs, aliases or {}) for s in specs}
        for spec in specs:
            array = self.arrays[named[spec.name]]
            data = ArrayFile(array, tuple(indices)) if isinstance(array, Path) else array[list(indices)]
            origin = self.origin + (f", array {named[spec.name]!r}" if named[spec.name] else "")
            part = Rows(data, origin, tuple(indices), len(self))
            image = image_input(spec) if pixels else None
            images = rows.as_images(part, spec, image) if image else None
            parts[spec.name] = Pixels(images, tuple(f"sample {i}" for i in indices)) if images else part
        extra = sorted(set(self.arrays) - set(named.values()))
        return Drawn(tuple(indices), parts, (f"{self.origin}: unused array(s) {', '.join(extra)}",) if extra else ())

    def feeds(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], preprocess: Preprocess | None = None,
        progress: Progress | None = None,
    ) -> SampleSet:  # fmt: skip
        """The rows as one model takes them."""
        return single_feeds(self, indices, specs, preprocess, progress)

    def _name_for(self, name: str, specs: Sequence[TensorInfo], aliases: Mapping[str, str]) -> str:
        if len(specs) == 1 and len(self.arrays) == 1:
            return next(iter(self.arrays))
        found = next((n for n in (name, aliases.get(name, name)) if n in self.arrays), None)
        if found is not None:
            return found
        if set(self.arrays) == {""}:
            inputs = ", ".join(s.name for s in specs)
            raise InputDataError(f"{self.origin}: one array for {len(specs)} inputs ({inputs}); give them as .npz")
        raise InputDataError(f"{self.origin}: no array for input {name!r}{nearest(name, self.arrays)}")


def open_npy(path: Path, sizes: Mapping[str, int]) -> ArraySource:
    """A .npy file, memory-mapped when used. Raises InputDataError where it is damaged or holds no numbers."""
    try:
        dtype = np.load(path, mmap_mode="r", allow_pickle=False).dtype
    except (ValueError, OSError) as error:
        raise InputDataError(f"{path}: {_reason(error)}") from error
    _check_numbers(dtype, str(path))
    source = ArraySource({"": path}, str(path), sizes, kind="array")
    return source.named(f"{path} ({len(source)} samples)")


def open_npz(path: Path, sizes: Mapping[str, int]) -> ArraySource:
    """A .npz file, read into memory. Raises InputDataError where it is damaged or holds no arrays of numbers."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            strange = [n for n in archive.zip.namelist() if not n.endswith(".npy")]
            if strange or not archive.files:
                found = f"found {strange[0]!r} in it" if strange else "it holds none"
                raise InputDataError(f"{path}: expected a zip archive of .npy arrays, one per input; {found}")
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputDataError(f"{path}: {_reason(error)}") from error
    for name, array in arrays.items():
        _check_numbers(array.dtype, f"{path}, array {name!r}")
    source = ArraySource(arrays, str(path), sizes)
    return source.named(f"{path} ({len(source)} samples of {', '.join(arrays)})")


def _check_numbers(dtype: np.dtype[Any], origin: str) -> None:
    if dtype.kind not in "fiub":
        raise InputDataError(f"{origin}: expected real numbers, integers or booleans, found {dtype}")


def _reason(error: Exception) -> str:
    """What numpy's message means to the user."""
    text = str(error)
    if "object" in text.lower() or "pickle" in text.lower():
        return "it holds Python objects, and unpickling them would run code; save plain arrays of numbers"
    return f"damaged or truncated ({text})"


def _count(array: Array | Path) -> int | None:
    shape = np.load(array, mmap_mode="r").shape if isinstance(array, Path) else array.shape
    return int(shape[0]) if shape else None
