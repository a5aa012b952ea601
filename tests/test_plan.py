"""Plans are saved whole, read back strictly, and apply nothing that nobody approved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.edits import RemoveNode, SetAttribute, SetInput
from fetafix.errors import OutputError, UsageError

WEIGHT = np.arange(2048, dtype=np.float32)


def make() -> tuple[plans.Plan, ArrayStore]:
    store = ArrayStore()
    entries = [
        plans.entry("lh-dilation", [SetAttribute("Conv_1", "dilations", (2, 2))], store, target_layer="Conv_1",
                    source_layer="/features/3", before=0.5, after=1e-7, why="heals the segment"),
        plans.entry("wb-bias", [SetInput("Conv_2", 2, WEIGHT)], store, target_layer="Conv_2"),
    ]
    return plans.Plan(source=plans.File(path="a.onnx"), target=plans.File(path="b.pt"), seed=7, entries=entries), store


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    plans.save(*make_for_save(path))
    return path


def make_for_save(path: Path) -> tuple[plans.Plan, Path, ArrayStore]:
    plan, store = make()
    return plan, path, store


def edit_file(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    data["entries"][0].update(changes)
    path.write_text(json.dumps(data))


def test_a_plan_comes_back(tmp_path: Path) -> None:
    plan, store = plans.load(saved(tmp_path))
    assert plan.seed == 7 and [e.code for e in plan.entries] == ["lh-dilation", "wb-bias"]
    assert plan.entries[0].description == ["Conv_1: set dilations = (2, 2)"]
    (attribute,), (tensor,) = (plans.edits_of(e, store) for e in plan.entries)
    assert isinstance(attribute, SetAttribute) and attribute.value == (2, 2)
    assert isinstance(tensor, SetInput) and tensor.value is not None and np.array_equal(tensor.value, WEIGHT)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        plan, store = make()
        plans.save(plan, folder / "plan.json", store)
    assert [p.name for p in sorted(first.iterdir())] == ["plan.arrays.zip", "plan.json"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_only_approved_entries_apply(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(UsageError, match=r'none of them approved \(2 undecided\).*"approved": true'):
        plans.load(path)[0].approved()
    edit_file(path, approved=True, decided_by="Ada", comment="seen")
    (chosen,) = plans.load(path)[0].approved()
    assert (chosen.code, chosen.decided_by) == ("lh-dilation", "Ada")


def test_ids_hash_the_content() -> None:
    ids = [e.id for e in make()[0].entries]
    assert ids == [e.id for e in make()[0].entries] and len(set(ids)) == 2
    other = plans.entry("lh-dilation", [SetAttribute("Conv_1", "dilations", (3, 3))], ArrayStore(),
                        target_layer="Conv_1", source_layer="/features/3")
    assert other.id != ids[0]


def test_edits_changed_after_approval_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    edit_file(path, approved=True, edits=[{"kind": "remove_node", "node": "Conv_1", "slot": 0}])
    with pytest.raises(UsageError, match="does not match its id"):
        plans.load(path)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "no repair plan"),
    ('{"seed": 1}', "missing required field `source`"),
    ('{"seed": "x", "source": {"path": "a"}, "target": {"path": "b"}}', "Expected `int`"),
    ('{"seed": 1, "source": {"path": "a"}, "target": {"path": "b"}, "entrys": []}', "entrys"),
    ('{"seed": 1, "source": {"path": "a"}, "target": {"path": "b"}, "plan_version": 9}', "version 9"),
    ('{"seed": 1, "source": {"path": "a"}, "target": {"path": "b"}, "arrays": "../../x"}', "beside the plan"),
    ('{"seed": 1, "source": {"path": "a"}, "target": {"path": "b"}, "arrays": "gone.zip"}', "gone.zip"),
])
def test_a_bad_plan_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        plans.load(path)


def test_decisions_are_not_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path)
    plan, store = plans.load(path)
    decided = plans.decide(plan, plan.entries[0].id, True, by="Ada", at="2026-01-01T00:00:00Z")
    plans.save(decided, path, store)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="decisions"):
        plans.save(*make_for_save(path))
    assert path.read_bytes() == before and plans.load(path)[0].entries[0].approved is True


def test_deciding_an_unknown_entry_names_the_known() -> None:
    with pytest.raises(UsageError, match="no entry 'zzz'; it has"):
        plans.decide(make()[0], "zzz", True)


def test_another_model_is_refused() -> None:
    source, target = (plans.File(path=name, sha256=digest * 64) for name, digest in (("a.onnx", "a"), ("b.pt", "b")))
    plan = plans.Plan(source=source, target=target, seed=0)
    plan.check_models(source, plans.File(path="moved.pt", sha256=target.sha256))
    with pytest.raises(UsageError, match=r"another target: b\.pt with SHA-256 b+…, but c\.pt differs"):
        plan.check_models(source, plans.File(path="c.pt", sha256="c" * 64))


def test_an_unwritable_place_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    plan, store = make()
    with pytest.raises(OutputError, match=r"plan\.json cannot be written"):
        plans.save(plan, tmp_path / "missing" / "plan.json", store)
    assert not list(tmp_path.iterdir())


def test_a_plan_without_arrays_is_one_file(tmp_path: Path) -> None:
    plan = plans.Plan(source=plans.File(path="a"), target=plans.File(path="b"), seed=0,
                      entries=[plans.entry("cg-extra", [RemoveNode("Relu_1")], ArrayStore())])
    plans.save(plan, tmp_path / "plan.json", ArrayStore())
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
