"""`fetafix review` and `repair --save-run` as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest

from fetafix.journal import read
from tests.commands import COMMAND, ENV, Done, invoke, run, start, state
from tests.review.runs import BIAS, copied, entries, holds_only_the_bias, pair, plan_in, tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broken pair and the run of a dry repair, in `run`."""
    folder = pair(tmp_path_factory.mktemp("made") / "pair")
    done = run(folder, "repair", "source.onnx", "broken.onnx", "--data", "x.npy", "--save-run", "run")
    assert done.code == 0 and "run kept in run: read it and decide with fetafix review run" in done.text
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, where nothing is decided."""
    return copied(made, tmp_path / "pair")


def ask(place: Path, text: str, *args: object) -> Done:
    """With answers from a pipe."""
    done = subprocess.run([*COMMAND, "review", *map(str, args)], cwd=place, env=ENV, input=text, capture_output=True,
                          text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def dilations(path: Path) -> list[list[int]]:
    nodes = (n for n in onnx.load(path).graph.node if n.op_type == "Conv")
    return [list(a.ints) for n in nodes for a in n.attribute if a.name == "dilations"]


def test_what_a_run_keeps(made: Path) -> None:
    assert {p.name for p in (made / "run").iterdir()} == {"journal.jsonl", "plan.json", "report.json"}
    report = json.loads((made / "run" / "report.json").read_text())
    assert report["exhibits"]["layers"] and len(report["exhibits"]["neighbourhoods"]) == len(report["findings"]) == 2
    assert all(f["advice"] for f in report["findings"])
    plan = json.loads((made / "run" / "plan.json").read_text())
    assert plan["folder"] == str(made) and {e["id"] for e in plan["entries"]} <= {r["id"] for r in report["repairs"]}


def test_a_run_that_nobody_decided_gives_way(place: Path) -> None:
    again = ["repair", "source.onnx", "broken.onnx", "--data", "x.npy", "--save-run", "run"]
    assert invoke(place, *again).code == 0
    assert invoke(place, "review", "run", "--reject", "all", "--by", "Ada").code == 0
    before = state(place)
    done = invoke(place, *again)
    assert done.code == 2 and "a plan with decisions in it, which is kept; give another --save-run" in done.text
    assert state(place) == before


def test_an_equal_pair_leaves_a_run_without_entries(place: Path) -> None:
    assert invoke(place, "repair", "source.onnx", "source.onnx", "--data", "x.npy", "--save-run", "same").code == 0
    done = invoke(place, "review", "same", "--list")
    assert done.code == 0 and "0 of 0 edits decided" in done.text


@pytest.mark.parametrize(("args", "message"), [
    (["--save-run", "r", "--journal", "j"], "leave out --journal"), (["--save-run", "r", "--no-plan"], "--no-plan"),
    (["--save-run", "r", "--save-plan", "p"], "--save-plan"), (["--save-run", "x.npy"], "that is the data"),
    (["--save-run", "source.onnx"], "that is the source"),
])
def test_runs_that_cannot_be_kept(place: Path, args: list[str], message: str) -> None:
    before = state(place)
    done = invoke(place, "repair", "source.onnx", "broken.onnx", "--data", "x.npy", *args)
    assert done.code == 2 and message in done.text and state(place) == before


def test_decided_in_a_pipe_and_applied(place: Path) -> None:
    done = ask(place, "Ada\nr\nthat is meant\na\nmeasured it myself\ny\n", "run", "--terminal", "-o", "out.onnx")
    assert done.code == 1 and "PARTLY REPAIRED" in done.stdout, done.text
    holds_only_the_bias(place)
    told = entries(place)
    assert (told["wb-bias"].approved, told["wb-bias"].comment) == (True, "measured it myself")
    assert (told["lh-dilation"].approved, told["lh-dilation"].decided_by) == (False, "Ada")
    journal = list(read(place / "run" / "journal.jsonl"))
    why = [(e["event"], e["by"], e["why"]) for e in journal if e["event"] in ("approved", "rejected")]
    assert why == [("rejected", "Ada", "that is meant"), ("approved", "Ada", "measured it myself")]
    applied = journal[-1]
    assert applied["event"] == "applied" and applied["entries"] == [told["wb-bias"].id]
    assert applied["output"]["path"] == "out.onnx"


def test_decided_by_ids_then_applied_by_repair(place: Path) -> None:
    ids = {code: e.id for code, e in entries(place).items()}
    done = invoke(place, "review", "run", "--approve", ids["wb-bias"][:5], "--reject", ids["lh-dilation"], "--comment",
                  "as agreed", "--by", "Ada", "--list")  # fmt: skip
    assert done.code == 0 and "2 of 2 edits decided: 1 approved, 1 rejected." in done.text
    assert "approved by Ada" in done.text and "as agreed" in done.text
    done = invoke(place, "repair", "source.onnx", "broken.onnx", "--data", "x.npy", "--apply", "--plan",
                  "run/plan.json", "-o", "out.onnx", "--approved-by", "Ada")  # fmt: skip
    assert done.code == 1, done.text
    holds_only_the_bias(place)


def test_what_does_not_help_alone_is_not_written(place: Path) -> None:
    """The wrong bias hides that the dilation is right: approval does not stand for proof."""
    ids = {code: e.id for code, e in entries(place).items()}
    done = invoke(place, "review", "run", "--approve", ids["lh-dilation"], "--by", "Ada", "--apply", "-o", "out.onnx")
    assert done.code == 1 and "rolled back" in done.text and not (place / "out.onnx").exists()


def test_everything_approved_from_another_folder(place: Path, tmp_path: Path) -> None:
    done = invoke(tmp_path, "review", place / "run", "--approve", "all", "--by", "Ada", "--apply")
    assert done.code == 0 and "REPAIRED" in done.text
    out = place / "broken.repaired.onnx"
    ours, source = tensors(out), tensors(place / "source.onnx")
    assert np.array_equal(ours[BIAS[0]], source[BIAS[0]]) and dilations(out) == dilations(place / "source.onnx")
    started = next(e for e in read(place / "run" / "journal.jsonl") if e["event"] == "written")
    assert started["approved_by"] == "Ada"


def test_a_plain_plan_will_do(place: Path) -> None:
    assert invoke(place, "repair", "source.onnx", "broken.onnx", "--data", "x.npy").code == 0
    done = invoke(place, "review", "broken.plan.json", "--approve", "all", "--by", "Ada", "--apply", "-o", "o.onnx")
    assert done.code == 0 and (place / "o.onnx").is_file()
    events = [e["event"] for e in read(place / "broken.plan.json.journal.jsonl")]
    assert events.count("approved") == 2 and events[-1] == "applied"


def test_the_options_of_the_run_are_those_of_applying(place: Path) -> None:
    (place / "p.npy").write_bytes((place / "x.npy").read_bytes())
    wanted = ["--data", "p.npy", "--samples", 30, "--seed", 3, "--gate", "numeric", "--target-preprocess",
              "raw,mean=[0,0,0]", "--task", "scores=classification", "--batch", 7]  # fmt: skip
    assert invoke(place, "repair", "source.onnx", "broken.onnx", *wanted, "--save-run", "other").code == 0
    done = invoke(place, "review", "other", "--approve", "all", "--by", "Ada", "--apply", "-o", "o.onnx")
    assert done.code == 0, done.text
    first, last = (e["options"] for e in read(place / "other" / "journal.jsonl") if e["event"] == "repair")
    assert last == first | {"apply": True, "data": str(place / "p.npy")}


@pytest.mark.parametrize(("args", "message"), [
    (["nowhere"], "expected a run folder or a plan file"), (["x.npy"], "expected a run folder or a plan file"),
    (["."], "expected a plan.json in it"), (["run/report.json"], "is a report"),
    (["run", "--approve", "all"], "say who decides with --by"),
    (["run", "--apply", "--by", "Ada"], "Nothing is approved"), (["run", "--comment", "x"], "--comment goes with"),
    (["run", "--terminal", "--list"], "choose"), (["run", "--approve", "zz", "--by", "A"], "'zz' is no entry's"),
    (["run", "--list", "-o", "source.onnx"], "that is the source"),
])  # fmt: skip
def test_what_does_not_go(place: Path, args: list[str], message: str) -> None:
    before = {k: v for k, v in state(place).items() if "journal" not in k}
    done = invoke(place, "review", *args)
    assert done.code == 2 and message in done.text
    assert {k: v for k, v in state(place).items() if "journal" not in k and not k.endswith(".lock")} == before


def test_the_page_is_served_until_ctrl_c(tmp_path: Path) -> None:
    plan_in(tmp_path / "run")
    process = start(tmp_path, "review", "run", "--no-open", "--by", "Ada")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert b'value="Ada"' in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.rsplit("/", 2)[0] + "/", timeout=20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out == "" and "decisions are kept" in err and "Traceback" not in err
