"""The records between a data source and a model: `Source`, what it draws, and the `SampleSet` that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from fetafix.inputs.decoding import USUAL, Decoding
from fetafix.inputs.recipe import Preprocess
from fetafix.ir import Array
from fetafix.report import TensorInfo

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """Rows of a .npy file. Small and picklable: another process opens the file itself."""

    path: Path
    rows: tuple[int, ...]

    def load(self) -> Array:
        """The rows, memory-mapped without a copy where they follow each other, else copied."""
        mapped: Array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        rows = self.rows
        if rows and rows == tuple(range(rows[0], rows[0] + len(rows))):
            return mapped[rows[0] : rows[0] + len(rows)]
        return np.asarray(mapped[list(rows)])


@dataclass(frozen=True, eq=False, slots=True)
class Pixels:
    """Images for one input, before any preprocessing: uint8 RGB (h, w, 3), or 1 or 4 channels; sizes may differ.

    again: the same images from their files, decoded otherwise; None where there are no files.
    """

    images: tuple[Array, ...]
    names: tuple[str, ...]
    again: Callable[[Decoding], tuple[Array, ...]] | None = None

    def decoded(self, how: Decoding) -> tuple[Array, ...]:
        """The images as a loader makes them that decodes so."""
        return self.images if how == USUAL or self.again is None else self.again(how)


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Values for one input as the user gave them: (N, *row), not yet fitted to a model.

    For messages: `origin`, which of the user's samples these are, and how many there are in all.
    """

    data: Array | ArrayFile
    origin: str
    indices: tuple[int, ...] = ()
    total: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Drawn:
    """What a source holds for some indices, by input name; `indices` lacks those that could not be read."""

    indices: tuple[int, ...]
    parts: Mapping[str, Pixels | Rows]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Where samples come from. `origin` describes it for the report, `len` counts the samples it can give.

    sizes: numbers for symbolic dimensions of the models, by symbol.
    """

    @property
    def kind(self) -> str:
        """One of "images", "array", "arrays", "loader", "synthetic"."""
        ...

    @property
    def origin(self) -> str:
        """Text for the report, such as "200 images in DIR"; says so where the samples are synthetic."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Numbers for symbolic dimensions, by symbol."""
        ...

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files found unusable so far, with reasons."""
        ...

    def __len__(self) -> int: ...

    def usable(self, indices: Sequence[int], progress: Progress | None = None) -> list[int]:
        """Those of the indices that can be read."""
        ...

    def draw(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], pixels: bool = False,
        progress: Progress | None = None, aliases: Mapping[str, str] | None = None,
    ) -> Drawn:  # fmt: skip
        """What there is for these inputs.

        pixels: uint8 arrays in the shape of images are images, for preprocessing was given for them. aliases: other
        names (the target's) under which the data may name an input. Raises InputDataError where the data does not suit.
        """
        ...

    def feeds(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], preprocess: Preprocess | None = None,
        progress: Progress | None = None,
    ) -> SampleSet:  # fmt: skip
        """The samples as one model with these inputs takes them. Raises InputDataError where they do not suit it."""
        ...


class Arrays(Mapping[str, Array]):
    """Arrays by input name; those that are rows of a file are read when asked for, and then kept."""

    def __init__(self, parts: Mapping[str, Array | ArrayFile]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> Array:
        part = self._parts[name]
        if isinstance(part, ArrayFile):
            part = self._parts[name] = part.load()
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples as one model takes them.

    arrays: input name → array (N, *item).
    batched: input name → whether items may be stacked along a batch axis (see `fetafix.inputs.signature`); where one of
      them may not, every sample is a run of its own.
    indices: the indices of the source that became samples, in order; those of unreadable images are missing.
    files, rows: inputs that are exactly rows `rows` of a .npy file, for processes that map the file themselves;
      `arrays` holds them too, but reads them only when asked.
    preprocess: what was done to pixels, None where there were none. assumed: nobody had said that it should be.
    images: name of the input that images went to, "" where there is none.
    notes: what the report should say about these samples.
    """

    arrays: Mapping[str, Array]
    batched: Mapping[str, bool]
    indices: tuple[int, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    preprocess: Preprocess | None = None
    assumed: bool = False
    images: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def stackable(self) -> bool:
        """Whether several samples may go into one run."""
        return all(self.batched.values())

    def feed(self, start: int, stop: int | None = None) -> dict[str, Array]:
        """What a run gets for samples start … stop−1 (default: one): (count, *item), or the item where not batched.

        Raises ValueError for several samples where an input cannot be stacked.
        """
        stop = start + 1 if stop is None else stop
        if stop - start != 1 and not self.stackable:
            alone = [n for n, b in self.batched.items() if not b]
            raise ValueError(f"inputs {alone} have no batch axis: one sample a run, not {stop - start}")
        return {n: a[start:stop] if self.batched[n] else a[start] for n, a in self.arrays.items()}

    def take(self, positions: Sequence[int]) -> SampleSet:
        """The samples at these positions (not source indices)."""
        rows = tuple(self.rows[p] for p in positions) if self.rows else ()
        parts: dict[str, Array | ArrayFile] = {
            n: ArrayFile(self.files[n], rows) if n in self.files else a[list(positions)] for n, a in self._loaded()
        }
        return replace(self, arrays=Arrays(parts), indices=tuple(self.indices[p] for p in positions), rows=rows)

    def joined(self, other: SampleSet, most: int) -> SampleSet:
        """These samples, in memory, and then up to `most` of another set for the same model."""
        count = min(most, len(other))
        more = other.take(range(count))
        arrays = {n: np.concatenate([np.asarray(a), np.asarray(more.arrays[n])]) for n, a in self.arrays.items()}
        return replace(other, arrays=arrays, indices=(*self.indices, *more.indices), files={}, rows=())

    def _loaded(self) -> Iterator[tuple[str, Array]]:
        empty = np.empty(0)
        return ((n, empty if n in self.files else self.arrays[n]) for n in self.arrays)
