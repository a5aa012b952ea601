"""A progress bar on stderr: only on terminals, and only for work that takes more than a second.

It shows after a second by itself, whether or not the work tells how far it is, since loading a framework or writing a
model may take several without a word.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from fetafix.cli import terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import Task, TaskID
    from rich.text import Text

_PATIENCE_S = 1.0


class Progress:
    """What the API calls as `progress(stage, done, total)`; rich is imported once there is something to show.

    A stage takes the place of those before it that are done or cannot tell how far they are. wanted: whether the user
    has nothing against it. doing: what is said as long as nobody said anything.
    """

    def __init__(self, wanted: bool, doing: str = "working") -> None:
        self._wanted = wanted and terminal.moving(sys.stderr)
        self._start = time.monotonic()
        self._lock = threading.RLock()
        self._stages: dict[str, tuple[int, int | None]] = {doing: (0, None)}
        self._tasks: dict[str, TaskID] = {}
        self._bar: Bar | None = None
        self._timer = threading.Timer(_PATIENCE_S, self._draw)
        self._timer.daemon = True

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """Show how far a stage is; `total` None where that is not known."""
        if not self._wanted:
            return
        with self._lock:
            self._stages = {s: (d, t) for s, (d, t) in self._stages.items() if s == stage or (t is not None and d < t)}
            self._stages[stage] = done, total
            if time.monotonic() - self._start >= _PATIENCE_S:
                self._draw()

    def __enter__(self) -> Progress:
        if self._wanted:
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            self._wanted = False
            if self._bar is not None:
                self._bar.stop()

    def _draw(self) -> None:
        """Bring the bar up to date; the first time, open it. Called by the work and by the timer."""
        with self._lock:
            if not self._wanted:
                return
            bar = self._bar = self._bar or _opened()
            bar.start()
            for stage in [s for s in self._tasks if s not in self._stages]:
                bar.remove_task(self._tasks.pop(stage))
            for stage, (done, total) in self._stages.items():
                if stage not in self._tasks:
                    self._tasks[stage] = bar.add_task(stage, total=total)
                bar.update(self._tasks[stage], completed=done, total=total, refresh=done == total)


def _opened() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Count(ProgressColumn):
        """3/12, or nothing where nobody knows of how many."""

        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), Count(),
               TimeElapsedColumn())
    return Bar(*columns, console=Console(stderr=True), transient=True)
