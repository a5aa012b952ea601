"""Activations within a memory budget: what does not fit goes to a temporary file that the system may page out."""

from __future__ import annotations

import tempfile
from types import TracebackType

import numpy as np

from fetafix.ir import Array

_SMALL = 1 << 16


class ActivationStore:
    """A dictionary of arrays that holds at most `budget` bytes in memory; larger ones are spilled first come."""

    def __init__(self, budget: int = 192 << 20) -> None:
        self._budget = budget
        self._held = 0
        self._arrays: dict[str, Array] = {}
        self._file: tempfile._TemporaryFileWrapper[bytes] | None = None
        self._end = 0

    def __enter__(self) -> ActivationStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.clear()
        if self._file is not None:
            self._file.close()

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def get(self, name: str) -> Array | None:
        """The array, or None where there is none."""
        return self._arrays.get(name)

    def put(self, name: str, value: Array) -> None:
        """Keep an array; a large one is written out once the budget is used up."""
        if value.nbytes < _SMALL or self._held + value.nbytes <= self._budget:
            self._held += value.nbytes
            self._arrays[name] = value
            return
        self._arrays[name] = self._spilled(value)

    def drop(self, name: str) -> None:
        """Forget an array (its place in the file is not used again)."""
        value = self._arrays.pop(name, None)
        if value is not None and not isinstance(value, np.memmap):
            self._held -= value.nbytes

    def _spilled(self, value: Array) -> Array:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="fetafix-", suffix=".act")  # noqa: SIM115 - closed in __exit__
        self._file.truncate(self._end + value.nbytes)
        place: Array = np.memmap(self._file.name, value.dtype, "r+", self._end, value.shape)
        place[...] = value
        self._end += -(-value.nbytes // 4096) * 4096
        return place
