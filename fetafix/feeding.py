"""How samples are fed to a model: in which batches, from arrays or files, and how the outputs are put together again.

Pure apart from mapping a user's .npy file into memory; runs in the worker, beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fetafix.errors import InputDataError, RuntimeCrash
from fetafix.formats.base import Artifact
from fetafix.ir import Array

DEFAULT_BATCH_BYTES = 1 << 21
LARGEST_BATCH = 32
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class RowsOfFile:
    """Rows of a .npy file, in this order; the worker maps the file, so that no sample crosses between processes."""

    path: Path | str
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)


Source = Array | RowsOfFile


@dataclass(frozen=True, slots=True)
class Job:
    """One run over samples. `batch` None lets the model choose, `chunk` 0 means one piece; see `ModelProcess.run`.

    differently: otherwise optimised and threaded than usual, where the artifact offers that (`Artifact.differently`).
    """

    samples: Mapping[str, Source]
    batch: int | None = None
    batched: bool = True
    chunk: int = 0
    differently: bool = False

    @property
    def count(self) -> int:
        """The number of samples. Raises InputDataError where the inputs disagree about it."""
        counts = {name: len(source) for name, source in self.samples.items()}
        if len(set(counts.values())) > 1:
            raise InputDataError(f"every input needs the same number of samples, got {counts}")
        return next(iter(counts.values()), 0)


def _mapped(source: RowsOfFile) -> Array:
    """The user's array, mapped. Raises InputDataError where the file cannot be read or lacks rows."""
    try:
        array: Array = np.load(source.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputDataError(f"{source.path}: cannot be read as a numpy array: {error}") from error
    if not array.ndim or max(source.rows) >= len(array):
        raise InputDataError(f"{source.path}: expected a row {max(source.rows)}, the array has {len(array)} rows")
    return array


class _Rows:
    """A source of samples as something to slice."""

    def __init__(self, source: Source) -> None:
        self._order: Array | None = None
        if isinstance(source, RowsOfFile):
            self._array: Array = _mapped(source)
            self._order = np.asarray(source.rows, np.intp)
        else:
            self._array = source

    def __getitem__(self, window: slice) -> Array:
        if self._order is None:
            return self._array[window]
        return np.asarray(self._array[self._order[window]])


def run_job(artifact: Artifact, job: Job, watch: Callable[[int, int], None]) -> Iterator[tuple[int, int, Outputs]]:
    """Run the model over all samples; yields (start, stop, outputs of these samples).

    `watch(start, stop)` is called before each batch. Batches do not cross the borders of chunks. Raises RuntimeCrash,
    InputDataError.
    """
    rows = {name: _Rows(source) for name, source in job.samples.items()}
    run = _Batches(artifact, job)
    at, chunk = 0, job.chunk or job.count
    with getattr(artifact, "differently", nullcontext)() if job.differently else nullcontext():
        while at < job.count:
            border = min(job.count, at - at % chunk + chunk)
            stop = min(border, at + run.batch)
            watch(at, stop)
            outputs = run({name: r[at:stop] for name, r in rows.items()})
            if outputs is None:
                continue
            yield at, stop, outputs
            at = stop


class _Batches:
    """Runs one batch; finds out by trying whether a model takes batches at all."""

    def __init__(self, artifact: Artifact, job: Job) -> None:
        self._artifact = artifact
        self._batched = job.batched
        self._free = job.batch is None and job.batched
        self.fixed = 0
        self.batch = 1
        if job.batched:
            self.fixed = 0 if job.batch else fixed_batch(artifact, job.samples)
            self.batch = job.batch or self.fixed or chosen_batch(artifact, job.samples, job.chunk)

    def __call__(self, feeds: dict[str, Array]) -> Outputs | None:
        """The outputs with a leading axis of samples; None where to try again with a smaller batch."""
        size = len(next(iter(feeds.values())))
        if not self._batched:
            return {k: v[None] for k, v in self._artifact.run({k: v[0] for k, v in feeds.items()}).items()}
        if self.fixed > 1:
            feeds = {k: _padded(v, self.fixed) for k, v in feeds.items()}
        try:
            outputs = self._artifact.run(feeds)
        except RuntimeCrash:
            if self._again(size):
                return None
            raise
        whole = self.fixed if self.fixed > 1 else size
        odd = {k: v.shape for k, v in outputs.items() if v.shape[:1] != (whole,)}
        if odd and whole > 1:
            if self._again(size):
                return None
            name, shape = next(iter(odd.items()))
            raise RuntimeCrash(
                f"{self._artifact.info.path}: expected {whole} results for a batch of {whole}, but output {name!r} has "
                f"shape {list(shape)}; run it with a batch of 1"
            )
        return {k: v[None] if k in odd else v[:size] for k, v in outputs.items()}

    def _again(self, size: int) -> bool:
        """Whether to fall back to single samples: the batch was ours to choose and was not 1."""
        if not (self._free and size > 1 and self.fixed <= 1):
            return False
        self.batch = 1
        return True


def _padded(array: Array, size: int) -> Array:
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


def fixed_batch(artifact: Artifact, samples: Mapping[str, Source]) -> int:
    """The batch that the declared shapes demand, 1 where no shape is known, 0 where the model takes any."""
    shapes = [t.shape for t in artifact.info.inputs if t.name in samples]
    if not shapes or any(not s for s in shapes):
        return 1
    fixed = {s[0] for s in shapes if s and isinstance(s[0], int)}
    return fixed.pop() if len(fixed) == 1 else len(fixed)


def chosen_batch(artifact: Artifact, samples: Mapping[str, Source], chunk: int = 0) -> int:
    """A power of two that keeps a batch small enough to stay in the caches: large batches of images are slower.

    An artifact may set `preferred_batch_bytes` for its runtime.
    """
    room = int(getattr(artifact, "preferred_batch_bytes", DEFAULT_BATCH_BYTES))
    item = sum(_item_bytes(s) for s in samples.values())
    most = min(LARGEST_BATCH, chunk or LARGEST_BATCH, max(1, room // max(1, item)))
    return 1 << (most.bit_length() - 1)


def _item_bytes(source: Source) -> int:
    array = _mapped(source) if isinstance(source, RowsOfFile) else source
    return array.nbytes // max(1, len(array))


def stack(parts: Sequence[Outputs], path: str = "") -> Outputs:
    """Outputs of consecutive samples as one array an output. Raises RuntimeCrash where shapes vary between samples."""
    if len(parts) == 1:
        return parts[0]
    whole = Assembly(sum(len(next(iter(p.values()), ())) for p in parts), path)
    for part in parts:
        whole.add(part)
    return whole.outputs


class Assembly:
    """Puts outputs that arrive in pieces into arrays over all samples, so that no piece has to be kept."""

    def __init__(self, total: int, path: str = "") -> None:
        self.outputs: Outputs = {}
        self.done = 0
        self._total = total
        self._path = path

    def add(self, part: Outputs) -> None:
        """Append the outputs of the next samples. Raises RuntimeCrash where an output's shape or dtype changed."""
        count = len(next(iter(part.values()), ()))
        for name, piece in part.items():
            if name not in self.outputs:
                whole = count == self._total
                self.outputs[name] = piece if whole else np.empty((self._total, *piece.shape[1:]), piece.dtype)
            target = self.outputs[name]
            if target.shape[1:] != piece.shape[1:]:
                raise RuntimeCrash(
                    f"{self._path}: output {name!r} has shape {list(target.shape[1:])} for one sample and "
                    f"{list(piece.shape[1:])} for another; outputs of varying size cannot be compared"
                )
            if target is not piece:
                target[self.done : self.done + count] = piece
        self.done += count
