"""Workers launched ahead are taken, replaced where they died, and ended where nobody wants them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fetafix import launch


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    launch.dismiss()
    yield
    launch.dismiss()


def test_a_worker_launched_ahead_is_the_one_that_is_taken() -> None:
    launch.ahead(2)
    first = launch._waiting[0]
    taken = launch.take()
    assert taken is first
    assert len(launch._waiting) == 1
    taken.dismiss()
    assert taken.process.poll() is not None


def test_a_dead_one_is_not_handed_out() -> None:
    launch.ahead(1)
    dead = launch._waiting[0]
    os.kill(dead.process.pid, signal.SIGKILL)
    dead.process.wait()
    taken = launch.take()
    assert taken is not dead
    assert taken.process.poll() is None
    taken.dismiss()


def test_a_memory_limit_needs_a_worker_of_its_own() -> None:
    launch.ahead(1)
    taken = launch.take(memory_limit=8 << 30)
    assert len(launch._waiting) == 1
    taken.dismiss()


def test_those_that_nobody_took_end() -> None:
    launch.ahead(2)
    waiting = list(launch._waiting)
    launch.dismiss()
    assert [w.process.poll() is None for w in waiting] == [False, False]
    assert launch._waiting == []
