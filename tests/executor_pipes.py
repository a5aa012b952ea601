"""The other end of the tasks that tell who works on them and wait: nobody sleeps, nobody polls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self


class Pipes:
    """Two named pipes in a folder, "who" and "go", as `executor_tasks.told_who` uses them."""

    def __init__(self, folder: Path) -> None:
        self._go = folder / "go"
        for name in ("who", "go"):
            os.mkfifo(folder / name)
        self._open = [os.open(folder / "who", os.O_RDWR)]  # so that no writer ever waits for a reader
        self._lines = os.fdopen(os.dup(self._open[0]), "r")

    def who(self) -> tuple[int, int, int]:
        """(number of the task, process, its parent) of the next task that began."""
        number, pid, parent = map(int, self._lines.readline().split())
        return number, pid, parent

    def go(self) -> None:
        """All tasks go on, those that come later as well."""
        self._open.append(os.open(self._go, os.O_RDWR))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.close()
        for descriptor in self._open:
            os.close(descriptor)
