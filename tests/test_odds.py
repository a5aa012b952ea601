"""Counts of what was suspected and what it was, and the odds that come of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fetafix import odds
from fetafix.cli import cli
from fetafix.errors import UsageError
from fetafix.faults import catalogue
from fetafix.journal import Journal
from fetafix.odds import Count, Counts, Odds

PAIR = ("onnx", "tflite")


def count(code: str = "lh-dilation", suspected: int = 1, kept: int = 1, evidence: str = "Conv",
          pair: tuple[str, str] = PAIR) -> Count:
    return Count(code=code, source=pair[0], target=pair[1], evidence=evidence, suspected=suspected, kept=kept)


def known(*counts: Count) -> Odds:
    return Odds((Counts(origin="test").plus(counts),))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the user's, switched on; with nothing counted before."""
    monkeypatch.delenv(odds.OFF)
    monkeypatch.setattr(odds, "_PACKAGED", tmp_path / "packaged.json")
    (tmp_path / "packaged.json").write_text('{"origin": "nothing that was counted"}')
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "fetafix" / "odds.json"


def test_without_counts_all_odds_are_even() -> None:
    assert {known().probability(c, "Conv", PAIR) for c in catalogue()} == {0.5}


def test_the_formula_of_the_docstring() -> None:
    found = known(count(suspected=4, kept=3), count(suspected=2, kept=0, pair=("onnx", "keras")),
                  count(suspected=3, kept=3, evidence="MaxPool"))
    overall = (6 + 2 * 0.5) / (9 + 2)
    at_conv = (3 + 2 * overall) / (6 + 2)
    assert found.probability("lh-dilation") == overall
    assert found.probability("lh-dilation", "Conv") == at_conv
    assert found.probability("lh-dilation", "Conv", PAIR) == (3 + 2 * at_conv) / (4 + 2)
    assert found.probability("lh-dilation", "Gemm", PAIR) == pytest.approx(overall)
    assert found.probability("wb-bias", "Conv", PAIR) == 0.5


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["Conv", "Gemm"]), st.integers(0, 9),
                          st.integers(0, 9)), max_size=8))
def test_probabilities_are_never_certain_and_never_fall_by_a_success(rows: list[tuple[str, str, int, int]]) -> None:
    counts = [count(c, max(n, k), min(n, k), e) for c, e, n, k in rows]
    before, after = known(*counts), known(*counts, count("a"))
    for code in ("a", "b"):
        assert 0 < before.probability(code, "Conv", PAIR) < 1
    assert after.probability("a", "Conv", PAIR) > before.probability("a", "Conv", PAIR)
    assert after.probability("b", "Conv", PAIR) == before.probability("b", "Conv", PAIR)
    assert known(*counts).digest == known(*reversed(counts)).digest


def test_what_comes_with_fetafix_says_where_it_is_from() -> None:
    found = odds.packaged()
    assert found.origin and (found.runs > 0 or (found.counts == [] and "no benchmark" in found.origin))
    assert {c.code for c in found.counts} <= set(catalogue())


def test_counts_add_up_on_the_disk(state: Path) -> None:
    assert odds.own().counts == []
    assert odds.add([count(), count("wb-bias", 2, 0)]) == state
    odds.add([count(suspected=2, kept=1)])
    assert odds.own().runs == 2
    assert odds.own().counts == [count(suspected=3, kept=2), count("wb-bias", 2, 0)]
    assert odds.known().counted("lh-dilation") == (3, 2)
    assert sorted(p.name for p in state.parent.iterdir()) == [".odds.json.lock", "odds.json"]


def test_nothing_but_counts_is_stored(state: Path) -> None:
    odds.add([count()])
    assert set(json.loads(state.read_text())) == {"version", "origin", "runs", "counts"}
    assert json.loads(state.read_text())["counts"] == [
        {"code": "lh-dilation", "source": "onnx", "target": "tflite", "evidence": "Conv", "suspected": 1, "kept": 1}]


def test_processes_may_add_at_once(state: Path) -> None:
    code = ("from fetafix import odds\nfor _ in range(20):\n odds.add([odds.Count(code='x', source='a', target='b', "
            "evidence='Conv', suspected=1, kept=1)])")
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]
    assert odds.own().runs == 60 and odds.known().counted("x") == (60, 60)


def test_switched_off_nothing_is_read_or_written(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odds.add([count(suspected=9, kept=9)])
    before = state.read_bytes()
    monkeypatch.setenv(odds.OFF, "1")
    assert odds.add([count()]) is None and state.read_bytes() == before
    assert odds.known().probability("lh-dilation", "Conv", PAIR) == Odds((odds.packaged(),)).probability(
        "lh-dilation", "Conv", PAIR)
    with pytest.raises(UsageError, match=odds.OFF):
        odds.learn([_journal(state.parent / "j.jsonl")])


@pytest.mark.parametrize("content", ["", "{", '{"version": 9, "origin": ""}', '{"origin": "x", "more": 1}',
                                     '{"origin": "x", "counts": [{"code": "a", "source": "b", "target": "c", '
                                     '"evidence": "d", "suspected": 1, "kept": 2}]}'])
def test_a_damaged_file_is_left_out_and_named(state: Path, content: str) -> None:
    state.parent.mkdir(parents=True)
    state.write_text(content)
    found = odds.known()
    assert str(state) in found.problem and len(found.origins) == 1
    with pytest.raises(UsageError, match=r"cannot be read|of version 9"):
        odds.add([count()])
    assert state.read_text() == content


def _journal(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Journal(path) as journal:
        journal.write("judged", verdict="divergent")
        journal.write(odds.EVENT, counts=[count(suspected=2)], added_to=None)
        journal.write(odds.EVENT, counts=[count()], added_to="/home/ada/.local/state/fetafix/odds.json")
    return path


def test_journals_from_elsewhere_teach_what_was_not_counted_yet(state: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["faults", "--learn", str(_journal(tmp_path / "j.jsonl"))])
    assert done.exit_code == 0 and "1 counts of 1 repairs" in done.stderr
    assert odds.own().runs == 1 and odds.known().counted("lh-dilation") == (2, 1)
    (tmp_path / "bad.jsonl").write_text('{"event": "counted", "counts": [{"code": 3}]}\n')
    with pytest.raises(UsageError, match="cannot be read"):
        odds.learn([tmp_path / "bad.jsonl"])


def test_the_statistics_are_shown(state: Path) -> None:
    odds.add([count(suspected=4, kept=3), count("wb-bias", 2, 0)])
    text = CliRunner().invoke(cli, ["faults", "--stats"]).output
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line and line.split()[0] in catalogue()}
    assert list(rows) == list(catalogue())
    assert rows["lh-dilation"][:2] == ["4", "3"] and rows["wb-bias"][:2] == ["2", "0"]
    assert odds.packaged().origin in text and str(state) in text
    data = json.loads(CliRunner().invoke(cli, ["faults", "lh-dilation", "--stats", "--json", "-"]).stdout)
    (row,) = [r for r in data["statistics"] if r["target"] == "tflite"]
    assert (row["evidence"], row["suspected"], row["kept"]) == ("Conv", 4, 3)
    assert row["odds"] == pytest.approx(row["probability"] / (1 - row["probability"]), rel=1e-4)
    assert CliRunner().invoke(cli, ["faults", "lh-dilatoin", "--stats"]).exit_code == 2
