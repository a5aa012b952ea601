"""--task on the command line, and the key task of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fetafix
from fetafix.errors import ConfigError
from fetafix.judge.tasks.choice import wishes
from fetafix.judge.tasks.registry import known
from tests.cli.test_settings import given
from tests.commands import invoke
from tests.task_models import images, write


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    images(folder / "x.npy", 12)
    write(folder / "s.onnx", "several")
    write(folder / "t.onnx", "several", drift=2e-3)
    return folder


def test_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fetafix.cli.settings import request

    monkeypatch.chdir(tmp_path)
    (tmp_path / "fetafix.yaml").write_text("source: a\ntarget: b\ntask: {y: {task: embedding, cosine: 0.9}}\n")
    assert request(given(task=())).options["task"] == {"y": {"task": "embedding", "cosine": 0.9}}
    assert request(given(task=("y=numeric",))).options["task"] == ("y=numeric",)
    assert "task" not in request(given(source="a", target="b", task=())).options


@pytest.mark.parametrize(("task", "words"), [
    ("segmentatio", "task: there is no task 'segmentatio'; did you mean 'segmentation'"),
    ("{y: {task: embedding, cosinus: 1}}", "no limit 'cosinus'; did you mean 'cosine'"),
    ("{y: {miou: 1}}", "a mapping with a key 'task'"), ("[tokens, tokens]", "2 tasks are given for the whole model"),
    ("3", "line 3: task: expected"),
])
def test_a_wrong_task_names_the_file(tmp_path: Path, task: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fetafix.cli.settings import request

    monkeypatch.chdir(tmp_path)
    (tmp_path / "fetafix.yaml").write_text(f"source: a\ntarget: b\ntask: {task}\n")
    with pytest.raises(ConfigError) as caught:
        request(given())
    assert words in str(caught.value) and "fetafix.yaml" in str(caught.value)


def test_the_report_says_who_judged_what_and_why(place: Path) -> None:
    done = invoke(place, "check", "s.onnx", "t.onnx", "--data", "x.npy", "--json", "r.json")
    report = json.loads((place / "r.json").read_text())
    assert (done.code, report["gate"], report["verdict"]) == (0, "task", "drifting")
    tasks = {t["outputs"][0]: t for t in report["agreement"]["tasks"]}
    assert (tasks["mask"]["task"], tasks["y"]["task"]) == ("segmentation", "embedding")
    assert tasks["mask"]["limits"] == {"miou": 0.9, "pixels": 0.98} and tasks["mask"]["figures"]["miou"] > 0.99
    assert "output 'mask' judged as segmentation: it has scores for every pixel and is named 'mask'" in done.text
    assert "segmentation mask: 100% of 12 samples agree" in done.text and "Spearman" in done.text


def test_tasks_and_limits_are_the_user_s(place: Path) -> None:
    args = ("check", "s.onnx", "t.onnx", "--data", "x.npy", "--json", "-")
    strict = invoke(place, *args, "--task", "y=embedding,length=0", "--task", "mask=numeric").report
    assert (strict["verdict"], strict["passed"]) == ("divergent", False)
    assert "output 'y' judged as embedding, as asked: it has one vector a sample" in strict["notes"]
    wrong = invoke(place, *args, "--task", "y=detection")
    assert wrong.code == 2 and "the task detection needs boxes" in wrong.stderr and "found 'y' float32" in wrong.stderr
    assert invoke(place, *args, "--task", "z=tokens").code == 2


def test_the_example_names_tasks_and_limits_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from fetafix.cli.settings import request

    path = Path(fetafix.__file__).parent.parent / "configs" / "tasks.yaml"
    wanted = {name: wishes(request(given(config=str(path), pair=name)).options["task"])
              for name in ("segmenter", "detector", "speech", "retrieval", "pose")}
    assert {w.task for found in wanted.values() for w in found} == set(known([])) - {"classification"}
    assert [w.output for w in wanted["detector"]] == ["boxes", "scores", "features"]
    assert wanted["detector"][0].limits == wanted["detector"][1].limits == {"iou": 0.5, "f1": 0.95}
