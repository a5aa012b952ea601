from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fetafix.errors import LostTask, UsageError
from fetafix.executor import default_jobs, executor, processors
from fetafix.executor.local import Local
from tests import executor_tasks as tasks
from tests.executor_pipes import Pipes


def test_every_task_is_done_once() -> None:
    with Local(2) as crew:
        found = list(crew.run(tasks.squared, range(9)))
    assert sorted((o.index, o.result()) for o in found) == [(i, i * i) for i in range(9)]


def test_processes_stay_for_further_tasks() -> None:
    with Local(1) as crew:
        first = [o.result() for o in crew.run(tasks.squared, [3])]
        (child,) = crew._idle
        second = [o.result() for o in crew.run(tasks.squared, [4])]
        assert crew._idle == [child] and (first, second) == ([9], [16])
        assert child._process.poll() is None
    assert child._process.poll() is not None


def test_a_task_runs_in_a_main_thread_in_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Local(1) as crew:
        assert [o.result() for o in crew.run(tasks.place, [0])] == [str(tmp_path)]
        assert [o.result() for o in crew.run(tasks.interrupted_by_alarm, [0])] == ["set"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with Local(1) as crew:
        (outcome,) = crew.run(tasks.place, [0], folder=str(tmp_path / "gone"))
    with pytest.raises(RuntimeError, match="need the same files under the same names"):
        outcome.result()


def test_errors_come_back_and_hold_up_nobody() -> None:
    with Local(2) as crew:
        found = {o.index: o for o in crew.run(tasks.refusing, range(4))}
    assert (found[0].result(), found[3].result()) == (0, 3)
    with pytest.raises(UsageError, match="one is refused"):
        found[1].result()
    with pytest.raises(RuntimeError, match="KeyError: 'two'"):
        found[2].result()
    assert "refusing" in "".join(found[2].error.__notes__)  # type: ignore[union-attr]


def test_a_killed_process_loses_no_task(tmp_path: Path) -> None:
    work = [tasks.Deadly(n, str(tmp_path), n in (0, 2)) for n in range(5)]
    with Local(2) as crew:
        found = {o.index: o for o in crew.run(tasks.killed_once, work)}
    assert [found[n].result() for n in range(5)] == [0, 10, 20, 30, 40]
    assert [found[n].tries for n in range(5)] == [2, 1, 2, 1, 1]


def test_a_task_that_kills_every_process_is_told_as_lost() -> None:
    with Local(2) as crew:
        found = {o.index: o for o in crew.run(tasks.saying_goodbye, range(3))}
    assert (found[0].result(), found[2].result()) == (0, 2)
    with pytest.raises(LostTask, match=r"(?s)3 processes .* exit code 7.*the last words"):
        found[1].result()


def test_leaving_early_ends_what_runs(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    with pipes, Local(2) as crew:
        running = crew.run(tasks.told_who, [tasks.Waiting(n, str(tmp_path)) for n in range(2)])
        assert next(running).result() == 0
        (child,) = crew.busy
        running.close()
        assert crew.busy == {} and child._process.poll() is not None


def test_a_process_killed_from_outside_loses_no_task(tmp_path: Path) -> None:
    with Pipes(tmp_path) as pipes, Local(2) as crew, ThreadPoolExecutor(1) as pool:
        work = [tasks.Waiting(n, str(tmp_path)) for n in range(1, 5)]
        running = pool.submit(lambda: list(crew.run(tasks.told_who, work)))
        number, pid, parent = pipes.who()
        assert parent == os.getpid()
        os.kill(pid, signal.SIGKILL)
        pipes.go()
        found = {o.index: o for o in running.result()}
    assert [found[i].result() for i in range(4)] == [10, 20, 30, 40]
    assert [found[i].tries for i in range(4)] == [2 if i == number - 1 else 1 for i in range(4)]


def test_a_task_that_takes_too_long_is_ended_and_holds_up_nobody() -> None:
    with executor(jobs=2, limit=8) as crew:
        found = {o.index: o for o in crew.run(tasks.sleeping, [0, 1, 2])}
        assert [found[i].value for i in (0, 2)] == [0, 2]
        assert isinstance(found[1].error, LostTask) and "longer than 8 s" in str(found[1].error)


def test_what_cannot_be_sent_is_the_callers_mistake() -> None:
    with Local(1) as crew, pytest.raises(Exception, match=r"[Pp]ickle|local object"):
        list(crew.run(lambda n: n, [1]))


def test_the_default_is_processes_here() -> None:
    with executor() as crew:
        assert isinstance(crew, Local) and crew.jobs == default_jobs() == max(1, processors() // 2)
