"""One lane: a worker that opens one file after the other, and files that break, kill or stall it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import FetafixError, UnreadableModel
from fetafix.feeding import RowsOfFile
from fetafix.formats.base import OpenOptions
from fetafix.parallel import ModelProcess
from fetafix.stress.exam import Exam
from fetafix.stress.hosts import Host
from fetafix.stress.lane import Lane, Paper, untouched
from fetafix.stress.medium import Target, target
from tests.formats import onnx_zoo

COUNT = 80


@pytest.fixture
def wanted(tmp_path: Path) -> Target:
    folder = tmp_path / "copy"
    folder.mkdir()
    return target(onnx_zoo.save(onnx_zoo.classifier(), folder / "net.onnx"))


@pytest.fixture
def paper(tmp_path: Path, wanted: Target) -> Paper:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(COUNT, *onnx_zoo.ITEM)).astype(np.float32))
    exam = Exam({"image": RowsOfFile(path, range(COUNT))}, True, range(COUNT), "x.npy", "digest")
    with ModelProcess(wanted.path) as process:
        truth = process.run(exam.feeds)["logits"].argmax(1)
    return Paper("subject", exam, "logits", truth, COUNT, COUNT - 1, 0.1, 0)


@pytest.fixture
def host(wanted: Target, tmp_path: Path) -> Iterator[Host]:
    made = Host(Path(shutil.copyfile(wanted.path, tmp_path / "whole.onnx")), OpenOptions(threads=1))
    yield made
    made.close()


def test_one_process_opens_one_file_after_the_other(wanted: Target, paper: Paper, host: Host) -> None:
    host.open(wanted.path)
    first = host.pid
    with Lane(wanted, Path("unused"), host, own=False) as lane:
        rows = [lane.trial(paper, ber, 0, whole=True) for ber in (1e-12, 1e-2, 1e-12)]
    assert [r.outcome for r in rows] == ["survived", "degraded", "survived"] and host.pid == first
    assert [r.flips > 0 for r in rows] == [False, True, False]
    assert rows[0].correct == rows[2].correct == COUNT and rows[1].seen == COUNT
    assert rows[0].correct == untouched(paper, 1e-12, 0).correct


def test_a_trial_ends_once_its_drop_is_certain(wanted: Target, paper: Paper, host: Host) -> None:
    with Lane(wanted, Path("unused"), host, own=False) as lane:
        early, whole = (lane.trial(paper, 1e-2, 0, whole) for whole in (False, True))
        again = lane.trial(paper, 1e-12, 0, whole=False)
    assert early.outcome == whole.outcome == "degraded" and early.seen < COUNT == whole.seen
    assert early.correct <= whole.correct and again.seen == COUNT, "what was cut short leaves nothing behind"


def test_a_file_that_does_not_load_leaves_the_process_alive(wanted: Target, host: Host, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(wanted.path.read_bytes()[:300])
    host.open(wanted.path)
    first = host.pid
    with pytest.raises(UnreadableModel):
        host.open(broken)
    assert not host.settle() and host.pid == first
    assert host.open(wanted.path).path == str(wanted.path)


def test_a_process_that_dies_is_a_crash_and_is_replaced(
    wanted: Target, paper: Paper, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Host.open

    def deadly(self: Host, path: Path) -> object:
        info = opened(self, path)
        os.kill(self.pid, signal.SIGKILL)
        return info

    with Lane(wanted, Path("unused"), host, own=False) as lane:
        with monkeypatch.context() as patched:
            patched.setattr(Host, "open", deadly)
            row = lane.trial(paper, 1e-2, 0, whole=True)
        assert (row.outcome, row.correct, row.seen) == ("crashed", 0, 0)
        assert lane.trial(paper, 1e-12, 0, whole=True).outcome == "survived"


def test_a_process_that_stalls_is_hung_and_is_replaced(
    wanted: Target, paper: Paper, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Host.open

    def stalled(self: Host, path: Path) -> object:
        info = opened(self, path)
        os.kill(self.pid, signal.SIGSTOP)
        return info

    with Lane(wanted, Path("unused"), host, own=False) as lane:
        lane.trial(paper, 1e-12, 0, whole=True)
        with monkeypatch.context() as patched:
            patched.setattr(Host, "open", stalled)
            patched.setattr(Paper, "patience", 0.5)
            row = lane.trial(paper, 1e-2, 0, whole=True)
        assert row.outcome == "hung"
        assert lane.trial(paper, 1e-12, 0, whole=True).outcome == "survived"


def test_a_process_starts_with_the_file_without_a_fault(wanted: Target, host: Host, tmp_path: Path) -> None:
    wanted.path.write_bytes(b"struck")
    assert host.ready().info().path == str(tmp_path / "whole.onnx") and host.pid
    with pytest.raises(FetafixError):
        host.open(wanted.path)
