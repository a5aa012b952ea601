"""The journal keeps every event, whole, in order, from several processes at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import OutputError, UsageError
from fetafix.journal import Journal, plain, read
from fetafix.report import Samples, Verdict


def test_events_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, seed=3, source={"sha256": "ab"}) as journal:
        journal.write("try", code="wb-bias", before=0.5, after=1e-7)
        journal.write("keep", code="wb-bias")
    start, tried, kept = read(path)
    assert start["event"] == "start" and start["seed"] == 3 and start["source"] == {"sha256": "ab"}
    assert start["versions"]["fetafix"] and start["versions"]["numpy"] == np.__version__
    assert (tried["event"], tried["before"], tried["after"]) == ("try", 0.5, 1e-7)
    assert kept["event"] == "keep" and start["time"] <= tried["time"] <= kept["time"]
    assert kept["time"].endswith("Z")


def test_a_second_run_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for seed in (1, 2):
        Journal(path, seed=seed).close()
    assert [e["seed"] for e in read(path)] == [1, 2]


def test_what_json_cannot_hold_is_said_not_lost() -> None:
    assert plain([float("nan"), float("inf"), -float("inf"), np.float32(0.5)]) == ["NaN", "Infinity", "-Infinity", 0.5]
    assert plain(np.arange(3)) == [0, 1, 2]
    long = plain(np.zeros((10, 20), np.float16))
    assert (long["dtype"], long["shape"]) == ("float16", [10, 20]) and len(long["sha256"]) == 64
    assert plain({1: Path("a"), "v": Verdict.REPAIRED}) == {"1": "a", "v": "repaired"}
    assert plain(Samples(search=4))["search"] == 4
    assert plain("\udcff") == "\\udcff"


def test_no_path_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Journal(None, seed=1) as journal:
        journal.write("anything")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no_folder.*No such file"):
        Journal(tmp_path / "no_folder" / "run.jsonl")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"event": "start"}\n{"event": "tr')
    with pytest.raises(UsageError, match="line 2"):
        list(read(path))


def _write_many(path: Path, who: int) -> None:
    with Journal(path, who=who) as journal:
        for i in range(50):
            journal.write("tick", who=who, i=i, filler="x" * 9000)


def test_writers_do_not_interleave(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = list(read(path))
    for who in range(3):
        assert [e["i"] for e in entries if e["who"] == who and e["event"] == "tick"] == list(range(50))
