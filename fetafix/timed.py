"""Seconds by what they were spent on."""

from __future__ import annotations

import time


class Timed:
    """Adds the seconds of a `with` block to an entry of a table."""

    def __init__(self, table: dict[str, float], what: str) -> None:
        self._table, self._what = table, what

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._table[self._what] = self._table.get(self._what, 0.0) + time.perf_counter() - self._start
