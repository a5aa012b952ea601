"""Ctrl-C at a good moment: as a KeyboardInterrupt, but not in the middle of an import.

An exception that is raised while an extension module initialises comes out as an ImportError that hides it, or ends
the whole process (C++ calls std::terminate). So a signal that arrives during an import is sent again a little later,
for a few seconds at most: a loader of the user's may take its time to import.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

_LATER_S, _PATIENCE_S = 0.05, 3.0
_IMPORTING = "<frozen importlib._bootstrap>"


def install() -> None:
    """Handle SIGINT this way, where Python would raise KeyboardInterrupt (not where it is ignored, or in a thread)."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Handler())


class _Handler:
    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if not _importing(frame) or now - self._since > _PATIENCE_S:
            self._since = None
            raise KeyboardInterrupt
        again = threading.Timer(_LATER_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
