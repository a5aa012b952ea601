"""Applying what is approved: with the options of the run, once at a time, told in words; what no plan can ask for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fetafix import api, planning
from fetafix import plan as plans
from fetafix.errors import OutputError, UsageError
from fetafix.report import ModelInfo, Output, Repair, Report, Samples, Verdict
from fetafix.review import applying
from fetafix.review.decisions import revision
from fetafix.review.run import find
from tests.commands import wait_until
from tests.review.client import Client, serve
from tests.review.runs import desk, plan_in


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serve(plan_in(tmp_path / "run")) as made:
        yield made


def applied(monkeypatch: pytest.MonkeyPatch, client: Client, work: Any) -> dict[str, Any]:
    """What the page is told once applying has ended; `work` stands for the repair itself."""
    monkeypatch.setattr(api, "repair", work)
    client.post("decide", client.decision(0, True))
    client.post("decide", client.decision(1, False))
    status, told = client.post("apply", {"by": "Cleo", "revision": client.get("state")["revision"]})
    assert status == 202, told
    wait_until(lambda: client.get("state")["job"]["status"] != "running")
    job: dict[str, Any] = client.get("state")["job"]
    return job


def test_applying(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def work(source: Path, target: Path, options: api.Options, wanted: api.RepairOptions) -> Report:
        given.extend((source, target, options, wanted))
        options.progress("comparing", 1, 2)
        info = ModelInfo(path="b", format="onnx")
        return Report(verdict=Verdict.REPAIRED, reason="all agree", seed=0, samples=Samples(), source=info, target=info,
                      passed=True, output=Output(path="out.onnx", sha256="1"),
                      repairs=[Repair(code="x", id="1", status="kept"), Repair(code="x", id="2", why="no help")])

    job = applied(monkeypatch, client, work)
    assert (job["status"], job["by"], job["error"]) == ("done", "Cleo", "")
    assert job["result"]["output"].endswith("/out.onnx") and job["result"]["left"] == [{"id": "2", "why": "no help"}]
    source, target, options, wanted = given
    assert (source.name, target.name, options.trust, wanted.apply) == ("a.onnx", "b.onnx", False, True)
    assert (wanted.output.name, wanted.approved_by) == ("b.repaired.onnx", "Ada")
    assert [e.approved for e in wanted.plan.plan.entries] == [True, False, None]
    last = [json.loads(x) for x in (client.plan.with_name("journal.jsonl")).read_text().splitlines()][-1]
    assert (last["event"], last["by"], last["approved_by"], last["verdict"]) == ("applied", "Cleo", "Ada", "repaired")
    page = client.ask("GET", "")[2].decode()
    assert "Applied before by Cleo" in page and "out.<wbr>onnx" in page


@pytest.mark.parametrize(("error", "words"), [(OutputError("the disk is full"), "the disk is full"),
                                              (ZeroDivisionError("oh"), "unexpected ZeroDivisionError: oh")])
def test_failure_is_said_in_words(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def work(*_: Any) -> Report:
        raise error

    job = applied(monkeypatch, client, work)
    assert job["status"] == "failed" and words in job["error"] and job["result"] is None
    assert client.get("state")["ready"] == ""  # it may be tried again


def test_only_what_was_seen_is_applied(client: Client) -> None:
    client.post("decide", client.decision(0, True))
    seen = client.get("state")["revision"]
    client.post("decide", client.decision(1, True, by="Bob"))
    status, told = client.post("apply", {"by": "Ada", "revision": seen})
    assert status == 409 and "in the meantime" in told["error"] and told["job"]["status"] == "idle"
    assert told["revision"] == revision(plans.read(client.plan))


@pytest.mark.parametrize("by", ["", " "])
def test_nothing_is_applied_without_a_name_or_an_approval(client: Client, by: str) -> None:
    now = client.get("state")["revision"]
    assert "give a name" in client.post("apply", {"by": by, "revision": now})[1]["error"]
    status, told = client.post("apply", {"by": "Ada", "revision": now})
    assert status == 422 and "Nothing is approved" in told["error"]


def test_one_at_a_time_and_no_end_in_between(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def work(*_: Any) -> Report:
        go.wait(30)
        raise UsageError("done waiting")

    monkeypatch.setattr(api, "repair", work)
    client.post("decide", client.decision(0, True))
    wanted = {"by": "Ada", "revision": client.get("state")["revision"]}
    assert client.post("apply", wanted)[0] == 202
    status, told = client.post("apply", wanted)
    assert (status, told["error"]) == (409, "Applying is under way already.")
    assert client.post("stop", {})[0] == 409
    go.set()
    wait_until(lambda: client.get("state")["job"]["status"] == "failed")


@pytest.mark.parametrize("options", [{"trust": True}, {"source_arch": "evil:factory"}, {"target_arch": "evil:factory"},
                                     {"data": "evil:loader"}])  # fmt: skip
def test_a_plan_cannot_ask_for_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    plan = plan_in(tmp_path / "run")
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"options": options}))
    with serve(plan) as client:
        client.post("decide", client.decision(0, True))
        assert "--trust" in client.get("state")["ready"]
        status, told = client.post("apply", {"by": "Ada", "revision": client.get("state")["revision"]})
        assert status == 422 and "runs code" in told["error"]
    given: list[api.Options] = []
    monkeypatch.setattr(api, "repair", lambda *a: given.append(a[2]))
    with desk(plan) as here:
        held = here.hold()
        assert held is not None
        with pytest.raises(AttributeError):  # it stands for the report
            applying.apply(find(plan), here, held, "Ada", True, lambda *_: None)
    assert given[0].trust == (options.keys() <= {"trust", "data"})


@pytest.mark.parametrize("options", [{"evil": 1}, {"samples": "many"}, {"samples": -1}, {"gate": "none"},
                                     {"search": {}}, {"threads": []}, {"progress": 1}, {"keep_worst": "x.npz"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    plan = plans.Plan(source=plans.File(path="a"), target=plans.File(path="b"), seed=0, options=options)
    with pytest.raises(UsageError):
        planning.options_of(plan, None, False)
