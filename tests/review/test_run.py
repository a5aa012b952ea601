"""What is taken for a run, and how its models are found again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fetafix import plan as plans
from fetafix.errors import OutputError, UsageError
from fetafix.formats import sha256
from fetafix.report import ModelInfo, Repair, Report, Samples, Verdict, to_json
from fetafix.review.run import Places, find
from tests.review.runs import plan_in


def change(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))


def report_of(path: Path, **changes: Any) -> Report:
    plan = plans.read(path)
    source, target = (ModelInfo(path=f.path, format="onnx", sha256=f.sha256) for f in (plan.source, plan.target))
    known = {"source": source, "target": target, "repairs": [Repair(code=e.code, id=e.id) for e in plan.entries]}
    return Report(verdict=Verdict.DIVERGENT, reason="they differ", seed=0, samples=Samples(), **{**known, **changes})


def test_a_folder_and_its_plan_are_the_same_run(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    found = find(tmp_path / "run")
    assert found == find(path) and found.missing == ""
    assert (found.source, found.target) == (tmp_path / "run" / "a.onnx", tmp_path / "run" / "b.onnx")
    assert found.journal == tmp_path / "run" / "journal.jsonl"
    assert found.output == tmp_path / "run" / "b.repaired.onnx"


def test_a_plain_plan_has_a_journal_of_its_own(tmp_path: Path) -> None:
    found = find(plan_in(tmp_path, name="b.plan.json"))
    assert found.journal.name == "b.plan.json.journal.jsonl" and found.report is None


@pytest.mark.parametrize(("name", "content", "message"), [
    ("nowhere", None, "there is no"), ("folder", "folder", "expected a plan.json in it"),
    ("x.json", "{}", "is no repair plan"), ("x.bin", "\x00", "is no repair plan"),
    ("report.json", "{}", "is a report"), ("r.json", '{"verdict": "divergent", "schema_version": 1}', "is a report"),
    ("deep.json", "[" * 100_000, "is no repair plan"),
])
def test_what_is_no_run(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        find(path)
    assert "fetafix repair SRC DST --save-run DIR" in str(error.value)


def test_models_are_found_from_elsewhere(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    (tmp_path / "other").mkdir()
    with contextlib.chdir(tmp_path / "other"):
        assert find(os.path.relpath(path)).target == tmp_path / "run" / "b.onnx"


def test_models_that_moved_along_are_found_beside_the_plan(tmp_path: Path) -> None:
    plan_in(tmp_path / "run")
    moved = shutil.move(tmp_path / "run", tmp_path / "moved")
    assert find(moved).source == Path(moved) / "a.onnx"


def test_moved_models_are_asked_for(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    moved = Path(shutil.move(tmp_path / "run" / "b.onnx", tmp_path / "elsewhere.onnx"))
    found = find(path)
    assert found.target is None and "there is no" in found.missing and "--target" in found.missing
    found = find(path, Places(target=moved))
    assert found.target == moved and found.missing == "" and found.output == tmp_path / "elsewhere.repaired.onnx"


def test_other_content_is_not_the_model(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    (tmp_path / "run" / "b.onnx").write_bytes(b"of next week")
    assert "b.onnx is another file" in find(path).missing
    with pytest.raises(UsageError, match=r"b\.onnx is not the model that the plan was made for"):
        find(path, Places(target=tmp_path / "run" / "b.onnx"))


def test_a_model_that_is_a_folder(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    model = tmp_path / "run" / "saved"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "weights").write_bytes(b"1")
    change(path, target={"path": "saved", "sha256": sha256(model)})
    assert find(path).target == model and find(path).missing == ""
    with pytest.raises(OutputError, match="lies in the model"):
        find(path, Places(output=model / "out"))
    (model / "weights").write_bytes(b"2")
    assert "saved is another file" in find(path).missing


@pytest.mark.parametrize("name", ["/", "/dev/zero", "a\0b", "x" * 5000, "..", ""])
def test_hostile_paths_are_no_models(tmp_path: Path, name: str) -> None:
    path = plan_in(tmp_path / "run")
    change(path, target={"path": name, "sha256": "0" * 64}, options={"data": name})
    found = find(path)
    assert found.target is None and found.output is None and "not here" in found.missing


def test_samples_are_found_and_asked_for(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    change(path, options={"data": "x.npy"})
    assert "The samples x.npy" in find(path).missing
    assert find(path, Places(data="y.npy")).data == "y.npy"
    (tmp_path / "run" / "x.npy").touch()
    assert find(path).data == str(tmp_path / "run" / "x.npy")
    change(path, options={"data": "loaders:digits"})
    assert (find(path).data, find(path).missing) == ("loaders:digits", "")


def test_only_the_report_of_this_run_counts(tmp_path: Path) -> None:
    path = plan_in(tmp_path / "run")
    file = tmp_path / "run" / "report.json"
    file.write_text(to_json(report_of(path)))
    found = find(path).report
    assert found is not None and found.reason == "they differ"
    for other in ({"repairs": []}, {"target": ModelInfo(path="b.onnx", format="onnx", sha256="1")}):
        file.write_text(to_json(report_of(path, **other)))
        assert find(path).report is None
    file.write_text("{")
    assert find(path).report is None


def test_the_report_of_a_plain_plan_lies_beside_it(tmp_path: Path) -> None:
    path = plan_in(tmp_path, name="b.plan.json")
    (tmp_path / "b.report.json").write_text(to_json(report_of(path)))
    assert find(path).report is not None


@pytest.mark.parametrize(("places", "message"), [
    ({"output": "a.onnx"}, "that is the source"), ({"output": "b.onnx"}, "that is the target"),
    ({"output": "plan.json"}, "that is the plan"), ({"journal": "b.onnx"}, "that is the target"),
    ({"journal": "plan.json"}, "that is the plan"), ({"output": "nowhere/x.onnx"}, "there is no folder"),
    ({"output": "journal.jsonl"}, "that is the output"),
])
def test_nothing_is_written_over_what_is_read(tmp_path: Path, places: dict[str, str], message: str) -> None:
    path = plan_in(tmp_path / "run")
    with pytest.raises(OutputError, match=message):
        find(path, Places(**{k: tmp_path / "run" / v for k, v in places.items()}))
