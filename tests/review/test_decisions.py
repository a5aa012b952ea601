"""Decisions of many at once: none is lost, none is overwritten unseen, and the journal knows them all."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix import plan as plans
from fetafix.errors import OutputError, UsageError
from fetafix.journal import read
from fetafix.review.decisions import Decision, Outcome, revision, stamp
from tests.commands import ENV, ROOT
from tests.review.runs import decision, desk, plan_in

EVENTS = ("approved", "rejected", "withdrawn")


def decided(plan: Path) -> dict[str, tuple[bool | None, str]]:
    return {e.target_layer or "": (e.approved, e.decided_by) for e in plans.load(plan)[0].entries}


def events(plan: Path) -> list[dict[str, object]]:
    return [e for e in read(plan.with_name("journal.jsonl")) if e["event"] in EVENTS]


def test_who_when_and_why_are_kept(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    with desk(path) as here:
        first, second, _ = here.read().entries
        outcome = here.decide([decision(first, True, " Ada  Lovelace ", "looks\nright "), decision(second, False)])
    assert [e.id for e in outcome.made] == [first.id, second.id] and outcome.refused == ()
    entry = plans.load(path)[0].entries[0]
    assert (entry.approved, entry.decided_by, entry.comment) == (True, "Ada Lovelace", "looks\nright")
    assert entry.decided_at.endswith("Z") and entry.edits == first.edits
    line, other = events(path)
    assert (line["event"], line["by"], line["why"], line["entry"]) == ("approved", "Ada Lovelace", "looks\nright",
                                                                      first.id)
    assert (other["event"], other["was"]) == ("rejected", {"approved": None, "by": "", "why": ""})


def test_taking_back_says_what_was(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    with desk(path) as here:
        here.decide([decision(here.read().entries[0], True, "Ada", "yes")])
        here.decide([decision(here.read().entries[0], None, "Bob", "wait")])
    assert decided(path)["Conv_0"] == (None, "Bob")
    assert events(path)[-1]["was"] == {"approved": True, "by": "Ada", "why": "yes"}


def test_a_decision_on_what_has_changed_is_refused(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    with desk(path) as ours, desk(path) as theirs:
        seen = ours.read()
        theirs.decide([decision(seen.entries[0], False, "Bob", "no")])
        outcome = ours.decide([decision(seen.entries[0]), decision(seen.entries[1])])
    assert [(e.decided_by, e.comment) for e in outcome.refused] == [("Bob", "no")]
    assert decided(path) == {"Conv_0": (False, "Bob"), "Conv_1": (True, "Ada"), "Conv_2": (None, "")}
    assert len(events(path)) == 2


def test_an_edit_by_hand_counts_as_a_decision(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    with desk(path) as here:
        seen = here.read()
        data = json.loads(path.read_text())
        data["entries"][0]["approved"] = False
        path.write_text(json.dumps(data))
        assert len(here.decide([decision(seen.entries[0])]).refused) == 1
    assert decided(path)["Conv_0"] == (False, "")


def test_the_same_again_is_no_conflict(tmp_path: Path) -> None:
    """An answer that got lost on its way is asked for again."""
    path = plan_in(tmp_path)
    with desk(path) as here:
        wanted = decision(here.read().entries[0])
        first, again = here.decide([wanted]), here.decide([wanted])
    assert (len(first.made), len(again.made), again.refused) == (1, 0, ()) and len(events(path)) == 1


def test_one_of_many_wins_an_entry(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    seen = plans.read(path).entries[0]
    outcomes: list[Outcome] = []
    start = threading.Barrier(8)

    def work(i: int) -> None:
        with desk(path) as here:
            start.wait()
            outcomes.append(here.decide([decision(seen, bool(i % 2), f"P{i}")]))

    _together(work, 8)
    (winner,) = [o.made[0] for o in outcomes if o.made]
    assert sum(len(o.refused) for o in outcomes) == 7
    assert decided(path)["Conv_0"] == (winner.approved, winner.decided_by) and len(events(path)) == 1


@pytest.mark.parametrize("shared", [True, False], ids=["one desk", "a desk each"])
def test_threads_lose_nothing(tmp_path: Path, shared: bool) -> None:
    path = plan_in(tmp_path, 24)
    entries = plans.read(path).entries
    start = threading.Barrier(6)
    with desk(path) as ours:

        def work(i: int) -> None:
            here = ours if shared else desk(path)
            start.wait()
            for entry in entries[i::6]:
                assert len(here.decide([decision(entry, True, f"P{i}")]).made) == 1

        _together(work, 6)
    assert decided(path) == {f"Conv_{i}": (True, f"P{i % 6}") for i in range(24)}
    assert sorted(str(e["entry"]) for e in events(path)) == sorted(e.id for e in entries)


PROGRAM = """
import sys
from pathlib import Path
from tests.review.runs import decision, desk
path, start, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with desk(path) as here:
    print("ready", flush=True)
    sys.stdin.readline()
    for entry in here.read().entries[start::step]:
        assert here.decide([decision(entry, False, f"P{start}")]).made
"""


def test_processes_lose_nothing(tmp_path: Path) -> None:
    path = plan_in(tmp_path, 30)
    pipe = subprocess.PIPE
    running = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), str(i), "3"], cwd=ROOT, env=ENV, stdin=pipe,
                                stdout=pipe, text=True) for i in range(3)]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert decided(path) == {f"Conv_{i}": (False, f"P{i % 3}") for i in range(30)} and len(events(path)) == 30


STEPS = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 2), st.sampled_from([True, False, None]),
                           st.booleans()), max_size=10)  # fmt: skip


@settings(max_examples=15)
@given(STEPS)
def test_whoever_has_not_seen_the_last_word_is_refused(steps: list[tuple[str, int, bool | None, bool]]) -> None:
    """People who look now and then, and decide: a decision stands exactly if its person saw the last one."""
    with tempfile.TemporaryDirectory() as folder:
        path = plan_in(Path(folder) / "run")
        with desk(path) as here:
            views = dict.fromkeys("ABC", here.read())
            made = 0
            for number, (who, at, approved, looks) in enumerate(steps):
                if looks:
                    views[who] = here.read()
                seen, now = views[who].entries[at], here.read().entries[at]
                wanted = decision(seen, approved, who, str(number))
                outcome = here.decide([wanted])
                fresh = stamp(seen) == stamp(now)
                made += fresh
                assert (len(outcome.made), len(outcome.refused)) == ((1, 0) if fresh else (0, 1))
                after = here.read()
                assert after.entries[at].comment == (str(number) if fresh else now.comment)
                views[who] = after if fresh else views[who]
        assert made == (len(events(path)) if steps else 0)


def test_no_decision_without_a_line_in_the_journal(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    (tmp_path / "run" / "journal.jsonl").mkdir()
    before = path.read_bytes()
    with desk(path) as here, pytest.raises(OutputError, match=r"journal .* cannot be written"):
        here.decide([decision(here.read().entries[0])])
    assert path.read_bytes() == before


@pytest.mark.parametrize(("by", "entry", "message"), [
    (" \n", "", "needs a name"), ("Ada", "zzz", "no entry 'zzz'; it has"),
])
def test_what_is_no_decision(tmp_path: Path, by: str, entry: str, message: str) -> None:
    path = plan_in(tmp_path)
    before = path.read_bytes()
    with desk(path) as here, pytest.raises(UsageError, match=message):
        good, other, _ = here.read().entries
        bad = Decision(entry=entry or other.id, approved=True, by=by, state=stamp(other))
        here.decide([decision(good), bad])
    assert path.read_bytes() == before and not path.with_name("journal.jsonl").exists()


def test_a_plan_is_held_as_it_was_seen(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    with desk(path) as here:
        seen = revision(here.read())
        held = here.hold(seen)
        here.decide([decision(here.read().entries[0])])
        assert held is not None and all(e.approved is None for e in held.plan.entries) and str(held) == str(path)
        assert here.hold(seen) is None and here.hold() is not None


def test_stamps_tell_everything_of_a_decision(tmp_path: Path) -> None:
    entry = plans.read(plan_in(tmp_path)).entries[0]
    changes = ({"approved": False}, {"approved": True}, {"comment": "x"}, {"decided_by": "x"}, {"decided_at": "x"})
    others = {stamp(msgspec.structs.replace(entry, **c)) for c in changes}
    assert len(others | {stamp(entry)}) == 6


def _together(work: object, count: int) -> None:
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
