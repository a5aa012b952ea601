"""Tasks on a real Dask scheduler with two real worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix import config
from fetafix.errors import LostCluster, LostTask, UsageError
from fetafix.executor import cluster, executor
from fetafix.executor.cluster import Cluster, perform
from fetafix.executor.local import Local
from fetafix.gate import run
from fetafix.gate.record import PairResult, Status
from fetafix.gate.run import GateOptions, gate
from tests import executor_tasks as tasks
from tests.executor_pipes import Pipes
from tests.small_models import cnn, weights
from tests.test_check import images

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parent.parent


class Machines:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(self.file), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "60s"}
        with (self.folder / f"{module}-{len(self.processes)}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder))
        return self.processes[-1]

    def work(self, count: int) -> list[subprocess.Popen[bytes]]:
        """Start workers, and wait until the scheduler knows them."""
        made = [self.start("dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(count)]
        with distributed.Client(scheduler_file=str(self.file), set_as_default=False, timeout=60) as client:
            client.wait_for_workers(count, timeout=120)
            self.address = str(client.scheduler.address)
        return made

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_what_comes_out_is_what_comes_out_here(machines: Machines) -> None:
    machines.work(2)
    with executor(cluster=machines.address) as far, Local(2) as near:
        assert isinstance(far, Cluster)
        there, here = ({o.index: o for o in crew.run(tasks.refusing, range(4))} for crew in (far, near))
        for i in range(4):
            assert (there[i].value, str(there[i].error)) == (here[i].value, str(here[i].error))
            assert type(there[i].error) is type(here[i].error)
        assert [o.result() for o in far.run(tasks.place, [0])] == [os.getcwd()]
        assert [o.result() for o in far.run(tasks.interrupted_by_alarm, [0])] == ["set"]
        (lost,) = far.run(tasks.saying_goodbye, [1])
        assert isinstance(lost.error, LostTask) and "exit code 7" in str(lost.error)


def test_a_killed_worker_loses_no_task(machines: Machines, tmp_path: Path) -> None:
    workers = machines.work(2)
    pids = {w.pid for w in workers}
    with Pipes(tmp_path) as pipes, Cluster(machines.address) as crew, ThreadPoolExecutor(1) as pool:
        work = [tasks.Waiting(n, str(tmp_path)) for n in range(1, 6)]
        running = pool.submit(lambda: list(crew.run(tasks.told_who, work)))
        _, _, worker = pipes.who()
        assert worker in pids
        os.kill(worker, signal.SIGKILL)
        pipes.go()
        found = {o.index: o for o in running.result()}
    assert [found[i].result() for i in range(5)] == [10, 20, 30, 40, 50]


def test_tasks_without_a_worker_are_given_up(machines: Machines, tmp_path: Path) -> None:
    (worker,) = machines.work(1)
    with Pipes(tmp_path) as pipes, Cluster(machines.address, patience=1.0) as crew, ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: list(crew.run(tasks.told_who, [tasks.Waiting(1, str(tmp_path))])))
        pipes.who()
        os.kill(worker.pid, signal.SIGKILL)
        (outcome,) = running.result()
    assert isinstance(outcome.error, LostCluster) and "has had no worker for" in str(outcome.error)


def test_tasks_of_a_scheduler_that_ends_are_given_up(machines: Machines, tmp_path: Path) -> None:
    machines.work(1)
    with Pipes(tmp_path) as pipes, Cluster(machines.address, patience=1.0) as crew, ThreadPoolExecutor(1) as pool:
        work = [tasks.Waiting(n, str(tmp_path)) for n in (1, 2)]
        running = pool.submit(lambda: list(crew.run(tasks.told_who, work)))
        pipes.who()
        machines.processes[0].kill()
        found = running.result()
    assert len(found) == 2 and all(isinstance(o.error, LostCluster) for o in found)


def test_a_gate_on_it_says_what_it_says_here_though_a_worker_is_killed(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = machines.work(2)
    images(tmp_path / "data.npy")
    cnn(tmp_path / "a.onnx")
    cnn(tmp_path / "bias.onnx", change={"b1": weights()["b1"] + np.float32(1)})
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07 no model" * 9)
    pairs = [f"  - {{name: {t}, source: a.onnx, target: {t}.onnx, data: data.npy}}\n" for t in ("a", "bias", "broken")]
    (tmp_path / "fetafix.yaml").write_text("pairs:\n" + "".join(pairs), "utf-8")
    found = config.load(tmp_path / "fetafix.yaml")
    here = gate(found, GateOptions(jobs=1, threads=1))
    monkeypatch.setattr(run, "examine", tasks.examined_by_another_worker)
    there = gate(found, GateOptions(threads=1, cluster=machines.address))
    assert sorted(w.poll() is None for w in workers) == [False, True]
    assert [p.status for p in here.pairs] == [Status.PASSED, Status.FAILED, Status.UNDECIDED]
    assert [_plain(p) for p in there.pairs] == [_plain(p) for p in here.pairs]


def _plain(found: PairResult) -> PairResult:
    report = msgspec.structs.replace(found.report, timings={})
    return msgspec.structs.replace(found, report=report, seconds=0.0)


def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.5)
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9; expected"):
        executor(cluster="tcp://127.0.0.1:9")


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'fetafix\[cluster\]'"):
        executor(cluster="tcp://127.0.0.1:8786")


def test_another_version_refuses(tmp_path: Path) -> None:
    from fetafix.executor import Call

    outcome = perform(Call(tasks.squared, 3, str(tmp_path)), "0.0.0")
    with pytest.raises(UsageError, match=r"this worker has fetafix .*, the caller 0\.0\.0"):
        outcome.result()
    assert replace(outcome, error=None).value is None
