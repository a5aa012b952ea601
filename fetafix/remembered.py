"""A model whose runs are remembered from one session to the next, so that an unchanged source is not run again.

    with closing(opened("a.onnx", OpenOptions(), "~/.cache/fetafix")) as source: ...

A run is found again by what determines it: the model's bytes (SHA-256; of a folder, all its files), how its runtime was
told to run, the versions of the runtimes, of Python and of fetafix, the hardware's models, and the very arrays it was
fed, batch by batch: so the data, its preprocessing, the samples drawn and the seed are all in it. Everything is
remembered that a session asks of a source's runtime, the runs that measure the noise floor and those beside the data
among it; asked twice for the same, as a test of repetition does, it gives the two answers of then. So a report is the
same with and without.

The process of the model starts only where something is not known, or where somebody wants to look inside. Nothing is
remembered of a failure, nor of a model whose code lies outside its file (`--arch`; a pickle that may run code).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from fetafix import formats
from fetafix.errors import ModelError
from fetafix.feeding import Outputs, RowsOfFile, Source
from fetafix.formats.base import OpenOptions
from fetafix.ir import Array
from fetafix.parallel import ModelProcess
from fetafix.pending import Chunk, Chunks, Pending
from fetafix.report import ModelInfo
from fetafix.run_store import Run, RunStore
from fetafix.surroundings import surroundings

T = TypeVar("T")
_PLAIN = ("onnx", "tflite", "saved_model", "graphdef")  # formats whose files hold the whole model


def opened(path: Path, options: OpenOptions, folder: str | Path) -> ModelProcess:
    """The model, with a memory in `folder` where its file tells all about it."""
    try:
        kind = formats.recognise(path)
        if options.arch or (options.trust and kind not in _PLAIN):
            return ModelProcess(path, options)
        origin = f"{formats.sha256(path)} {options!r} {surroundings()}"
    except ModelError:
        return ModelProcess(path, options)  # which tells what is wrong
    return Remembering(path, options, RunStore(folder), origin)


class Remembering(ModelProcess):
    """A `ModelProcess` that starts when it is needed.

    ran: something had to be run. recalled: how many runs were known.
    """

    def __init__(self, path: Path, options: OpenOptions, store: RunStore, origin: str) -> None:
        self.path, self._options, self._store, self._origin = path, options, store, origin
        self.ran, self.recalled = False, 0
        self._begun = False
        self._asked: Counter[str] = Counter()
        self._info_key = hashlib.sha256(f"info {origin}".encode()).hexdigest()
        known = store.get(self._info_key)
        self._told = known.info if known is not None else None
        if self._told is None:
            self.begin()

    def begin(self) -> None:
        """Start the process, unless it runs."""
        if not self._begun:
            self._begun = True
            super().__init__(self.path, self._options)

    @property
    def alive(self) -> bool:
        """Whether the worker serves requests, or would."""
        return not self._begun or super().alive

    def info(self) -> ModelInfo:
        """As `ModelProcess.info`: of the last run that told it, remembered or not."""
        if self._told is None:
            self._told = super().info()
            self._store.put(self._info_key, Run({}, msgspec.structs.replace(self._told, path="")))
        return msgspec.structs.replace(self._told, path=str(self.path))

    def start_run(
        self, samples: Mapping[str, Source], batch: int | None = None, batched: bool = True, differently: bool = False
    ) -> Pending[Outputs]:
        """Begin to run, or recall it."""
        key = self.key(samples, batch, batched, f"run {differently}")
        known = self.recall(key)
        if known is not None:
            done: Pending[Outputs] = Pending("run", lambda outputs: outputs)
            done.deliver("result", dict(known.outputs))
            return done
        self.ran = True

        def keep(outputs: Outputs) -> Outputs:
            self._told = super(Remembering, self).info()
            self.keep(key, outputs, self._told)
            return outputs

        return super().start_run(samples, batch, batched, differently).then(keep)

    def run_chunks(
        self, samples: Mapping[str, Source], batch: int | None = None, batched: bool = True, chunk: int = 16,
        ahead: int = 2,
    ) -> Chunks:  # fmt: skip
        """As `ModelProcess.run_chunks`; chunks that are known come first, the model starts at the first that is not."""
        return _Chunks(self, samples, batch, batched, chunk, ahead)

    def run_rest(
        self, samples: Mapping[str, Source], batch: int | None, batched: bool, chunk: int, ahead: int
    ) -> Chunks:
        """Run, whatever is known."""
        self.ran = True
        return super().run_chunks(samples, batch, batched, chunk, ahead)

    def reopen(self, path: Path | str) -> ModelInfo:
        """Open another file; nothing is remembered of that. Raises what opening it raises."""
        raise NotImplementedError("a model with a memory stays what it is")

    def close(self) -> None:
        """End the process, where there is one."""
        if self._begun:
            super().close()
        self._store.trim()

    def key(self, samples: Mapping[str, Source], batch: int | None, batched: bool, how: str) -> str:
        """The key of a run over samples; another one each time that the same is asked for again."""
        digest = hashlib.sha256(f"{how} {batch} {batched} {self._origin}".encode())
        for name, source in sorted(samples.items()):
            _feed(digest, name, source)
        text = digest.hexdigest()
        self._asked[text] += 1
        return text if self._asked[text] == 1 else hashlib.sha256(f"{text} {self._asked[text]}".encode()).hexdigest()

    def recall(self, key: str) -> Run | None:
        """What is known under a key."""
        known = self._store.get(key)
        if known is not None:
            self.recalled += 1
            self._told = known.info or self._told
        return known

    def keep(self, key: str, outputs: Outputs, info: ModelInfo | None = None) -> None:
        """Remember a run."""
        plain = None if info is None else msgspec.structs.replace(info, path="")
        self._store.put(key, Run(outputs, plain))

    def _ask(self, pending: Pending[T], **arguments: Any) -> Pending[T]:
        self.begin()
        return super()._ask(pending, **arguments)


class _Chunks(Chunks):
    """Chunks that are known, then those of a run over the rest."""

    def __init__(
        self, process: Remembering, samples: Mapping[str, Source], batch: int | None, batched: bool, chunk: int,
        ahead: int,
    ) -> None:  # fmt: skip
        self._process, self._samples, self._how = process, samples, (batch, batched, chunk, ahead)
        self._count = len(next(iter(samples.values()), ()))
        self._at = self._from = 0
        self._rest: Chunks | None = None
        self._key, self._known = self._look()
        if self._known is None:
            self._run()  # at once: the other model runs meanwhile

    def __next__(self) -> Chunk:
        """The next chunk. Raises what the worker raised."""
        if self._at >= self._count:
            if self._rest is not None:
                next(self._rest)  # which ends it, or raises what went wrong at last
            raise StopIteration
        if not self._key:
            self._key, self._known = self._look()
        if self._known is None:
            self._run()
        start, key, known = self._at, self._key, self._known
        self._key, self._known = "", None
        if self._rest is None and known is not None:
            self._at = self._stop()
            return Chunk(start, self._at, dict(known.outputs))
        assert self._rest is not None
        _, stop, outputs = next(self._rest)
        whole = self._from + stop == self._stop()
        self._at = self._from + stop
        if whole:
            self._process.keep(key, outputs)
        return Chunk(start, self._at, outputs)

    def close(self) -> None:
        """Want no more."""
        self._at = self._count
        if self._rest is not None:
            self._rest.close()

    def _stop(self) -> int:
        return min(self._count, self._at + self._how[2])

    def _look(self) -> tuple[str, Run | None]:
        """The key of the next chunk, and what is known of it, unless the model runs already."""
        batch, batched, chunk, _ = self._how
        part = {n: _rows(s, self._at, self._stop()) for n, s in self._samples.items()}
        key = self._process.key(part, batch, batched, f"chunk {chunk}")
        return key, self._process.recall(key) if self._rest is None else None

    def _run(self) -> None:
        if self._rest is None:
            self._from = self._at
            rest = {n: _rows(s, self._at, self._count) for n, s in self._samples.items()}
            self._rest = self._process.run_rest(rest, *self._how)


def _rows(source: Source, start: int, stop: int) -> Source:
    if isinstance(source, RowsOfFile):
        return RowsOfFile(source.path, source.rows[start:stop])
    return source[start:stop]


def _feed(digest: hashlib._Hash, name: str, source: Source) -> None:
    """Add an input's values to a digest."""
    value: Array
    if isinstance(source, RowsOfFile):
        value = np.load(source.path, mmap_mode="r", allow_pickle=False)[list(source.rows)]
    else:
        value = np.asarray(source)
    digest.update(f"\n{name} {value.dtype.name} {value.shape}\n".encode())
    if value.dtype.hasobject:
        digest.update(repr(value.tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
