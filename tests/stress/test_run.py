"""The stress test as a whole, on small models: counted right, the same again, gone on with, replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from fetafix.errors import ModelError, OutputError, UsageError
from fetafix.storage import sweep
from fetafix.stress.journal import FILE, Trial
from fetafix.stress.options import StressOptions
from fetafix.stress.record import StressReport, from_json, to_json
from fetafix.stress.run import replay, stress
from tests.formats import onnx_zoo

COUNT = 60
RATES = "1e-7,1e-4,1e-2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("stress")
    rng = np.random.default_rng(1)
    np.save(made / "x.npy", rng.normal(size=(COUNT, *onnx_zoo.ITEM)).astype(np.float32))
    onnx_zoo.save(onnx_zoo.classifier(), made / "net.onnx")
    answers = ask(made / "net.onnx", np.load(made / "x.npy"))
    np.save(made / "labels.npy", np.where(rng.random(COUNT) < 0.1, (answers + 1) % onnx_zoo.CLASSES, answers))
    return made


def ask(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scores = session.run(None, {"image": x})[0]
    return np.where(np.isnan(scores).any(1), -1, scores.argmax(1))


def options(folder: Path, **more: object) -> StressOptions:
    wanted: dict[str, object] = {"ber": RATES, "data": folder / "x.npy", "trials": "12", "jobs": 1, "full": 12}
    return StressOptions(**{**wanted, **more})  # type: ignore[arg-type]


def plain(report: StressReport) -> dict[str, object]:
    """The report without times."""
    data = msgspec.to_builtins(replace_times(report))
    return data  # type: ignore[no-any-return]


def replace_times(report: StressReport) -> StressReport:
    subjects = [msgspec.structs.replace(s, cells=[msgspec.structs.replace(c, seconds=0.0) for c in s.cells])
                for s in report.subjects]
    return msgspec.structs.replace(report, subjects=subjects, timings={})


def test_every_trial_is_what_the_struck_file_answers(folder: Path, tmp_path: Path) -> None:
    """Counted by hand: each trial's file is written by replay and asked in the stock runtime."""
    x, labels = np.load(folder / "x.npy"), np.load(folder / "labels.npy")
    wanted = options(folder, labels=folder / "labels.npy", max_drop=0.05)
    report = stress([folder / "net.onnx"], wanted)
    subject = report.subjects[0]
    clean = float(np.mean(ask(folder / "net.onnx", x) == labels))
    assert subject.clean == subject.original == pytest.approx(clean) and 0.8 < clean < 1.0
    assert report.samples == COUNT and report.labels.endswith("labels.npy")
    for cell in subject.cells:
        found = []
        for trial in range(cell.trials):
            flips = replay(folder / "net.onnx", wanted, cell.ber, trial, tmp_path / "struck.onnx")
            assert flips == sweep.flips_of(0, cell.ber, trial, subject.storage.bits).size
            found.append(float(np.mean(ask(tmp_path / "struck.onnx", x) == labels)))
        assert cell.accuracies == pytest.approx(found)
        survived = [f >= clean - 0.05 - 1e-9 for f in found]
        assert cell.outcomes["survived"] == sum(survived)
        assert cell.failed == [i for i, fine in enumerate(survived) if not fine]
        assert cell.worst == pytest.approx(min(found)) and cell.median == pytest.approx(float(np.median(found)))
    assert subject.cells[0].ran < subject.cells[0].trials, "a trial without a flip need not run"
    assert subject.cells[-1].outcomes["degraded"] == 12


def test_without_labels_answers_are_those_of_the_fault_free_run(folder: Path) -> None:
    report = stress([folder / "net.onnx"], options(folder, ber="1e-3", dtypes=("q2.1",)))
    subject = report.subjects[0]
    assert subject.clean == 1.0 and 0.5 < subject.original < 1.0, "rounding to q2.1 alone changes answers"
    assert subject.storage.bits == 4 * subject.storage.values and report.labels == ""


def test_the_same_again_however_many_at_a_time(folder: Path) -> None:
    wanted = options(folder, trials="auto:30", ber="1e-5,1e-4", full=3)
    first, second = (stress([folder / "net.onnx"], replace(wanted, jobs=jobs)) for jobs in (1, 3))
    assert plain(first) == plain(second)
    other = stress([folder / "net.onnx"], replace(wanted, seed=7))
    assert plain(other)["subjects"] != plain(first)["subjects"]


def test_ending_trials_early_changes_no_outcome(folder: Path) -> None:
    early, whole = (stress([folder / "net.onnx"], options(folder, ber="1e-4,1e-3", trials="15", full=full))
                    for full in (0, 15))
    for one, other in zip(early.subjects[0].cells, whole.subjects[0].cells, strict=True):
        assert one.outcomes == other.outcomes and one.bounds == other.bounds
        assert one.median is None and one.full == 0 and other.full == 15
    assert whole.subjects[0].cells[1].outcomes["degraded"] > 0


def test_an_interrupted_test_goes_on(folder: Path, tmp_path: Path) -> None:
    wanted = options(folder, keep=tmp_path / "kept", ber="1e-4,1e-3", full=4)
    first = stress([folder / "net.onnx"], wanted)
    path = tmp_path / "kept" / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:10]) + lines[10][:20])  # cut off in the middle of a line
    assert plain(stress([folder / "net.onnx"], wanted)) == plain(first)
    rows = [msgspec.json.decode(line, type=Trial) for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    assert {(r.ber, r.trial) for r in rows} >= {(c.ber, t) for c in first.subjects[0].cells for t in range(c.trials)}
    turned = [msgspec.structs.replace(r, outcome="hung", correct=0, seen=0) for r in rows]
    path.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in turned))
    again = stress([folder / "net.onnx"], wanted)
    assert all(c.outcomes["hung"] == c.trials for c in again.subjects[0].cells), "what is known is not run again"
    others = stress([folder / "net.onnx"], replace(wanted, seed=1))
    assert all(c.outcomes["hung"] == 0 for c in others.subjects[0].cells), "but only for the same question"


def test_models_are_paired(folder: Path) -> None:
    onnx.save(onnx.load(str(folder / "net.onnx")), str(folder / "twin.onnx"), save_as_external_data=True,
              location="twin.bin", size_threshold=0)
    report = stress([folder / "net.onnx", folder / "twin.onnx"], options(folder, ber="1e-4"))
    first, second = report.subjects
    assert first.cells[0].accuracies == second.cells[0].accuracies, "the same flips of the same weights"
    pair, = report.pairs
    assert (pair.first, pair.second) == ("net.onnx", "twin.onnx") and pair.first_only == pair.second_only == 0
    assert pair.both + pair.neither == 12 and pair.p == 1.0


def test_protection_pays_and_is_told_from_quantisation(folder: Path) -> None:
    wanted = options(folder, ber="1e-3", dtypes=("fp32",), schemes=("none", "guard", "secded"), granularity="channel",
                     max_drop=0.05)
    report = stress([folder / "net.onnx"], wanted)
    names = [s.name for s in report.subjects]
    assert names == ["net.onnx fp32 none", "net.onnx fp32 guard", "net.onnx fp32 secded"]
    none, guard, secded = (s.cells[0].outcomes["survived"] for s in report.subjects)
    assert secded >= guard > none
    assert report.pairs[0].second_only > report.pairs[0].first_only == 0


def test_any_byte_of_the_file(folder: Path) -> None:
    report = stress([folder / "net.onnx"], options(folder, scope="file", ber="3e-4,3e-3"))
    subject = report.subjects[0]
    assert subject.storage.bits == 8 * (folder / "net.onnx").stat().st_size
    for cell in subject.cells:
        assert sum(cell.outcomes.values()) == 12
    assert sum(c.outcomes["unloadable"] for c in subject.cells) > 0
    assert subject.cells[1].worst == 0.0


def test_constants(folder: Path) -> None:
    report = stress([folder / "net.onnx"], options(folder, scope="constants", ber="1e-2"))
    assert report.subjects[0].storage.bits == 32 * 10


def test_what_is_tolerated_and_required(folder: Path) -> None:
    wanted = options(folder, ber="1e-9,1e-8,1e-2", trials="auto:20")
    report = stress([folder / "net.onnx"], wanted)
    subject = report.subjects[0]
    assert [c.decided for c in subject.cells] == ["yes", "yes", "no"] and subject.tolerated == 1e-8
    assert subject.open == 1e-2 and subject.cells[0].kind == "certain" and report.exit_code == 0
    assert "net.onnx tolerates 1e-08" in report.verdict and "0.01 is too much" in report.verdict
    assert stress([folder / "net.onnx"], replace(wanted, require=1e-8)).exit_code == 0
    failed = stress([folder / "net.onnx"], replace(wanted, require=1e-3))
    assert failed.exit_code == 1 and failed.verdict.startswith("Not reached: 0.001 is required")


def test_the_report_survives_json(folder: Path) -> None:
    report = stress([folder / "net.onnx"], options(folder, ber="1e-4"))
    assert from_json(to_json(report)) == report


def test_a_model_that_does_not_run_is_no_measurement(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes((folder / "net.onnx").read_bytes()[:500])
    with pytest.raises(ModelError):
        stress([tmp_path / "broken.onnx"], options(folder))
    with pytest.raises(UsageError, match="class scores"):
        relu = onnx_zoo.single([onnx.helper.make_node("Conv", ["image", "w"], ["y"])], {"image": (1, ["N", 3, 8, 8])},
                               {"y": (1, None)}, {"w": np.ones((4, 3, 3, 3), np.float32)})
        stress([onnx_zoo.save(relu, tmp_path / "relu.onnx")], options(folder))


def test_a_model_that_runs_but_cannot_be_struck_says_how(folder: Path, tmp_path: Path) -> None:
    codes = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT16, [192, 5], np.ones(960, np.float16).tolist())
    nodes = [onnx.helper.make_node("Cast", ["w"], ["v"], to=1), onnx.helper.make_node("Flatten", ["image"], ["f"]),
             onnx.helper.make_node("MatMul", ["f", "v"], ["y"])]
    made = onnx_zoo.single(nodes, {"image": (1, ["N", 3, 8, 8])}, {"y": (1, None)})
    made.graph.initializer.append(codes)
    path = onnx_zoo.save(made, tmp_path / "varints.onnx")
    report = stress([path], options(folder, ber="1e-2", trials="2"))
    assert report.subjects[0].storage.bits == 16 * 960, "stored otherwise, it can be"
    relu = onnx_zoo.single([onnx.helper.make_node("Flatten", ["image"], ["y"])], {"image": (1, ["N", 3, 8, 8])},
                           {"y": (1, None)})
    with pytest.raises(UsageError, match="no weights") as error:
        stress([onnx_zoo.save(relu, tmp_path / "flat.onnx")], options(folder))
    assert str(error.value).startswith(f"{tmp_path / 'flat.onnx'}:"), "the user's file, not the copy"


def test_originals_are_never_written_over(folder: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(OutputError, match="never changed"):
        replay(folder / "net.onnx", options(folder), 1e-3, 0, folder / "net.onnx")
    stress([folder / "net.onnx"], options(folder, ber="1e-2", trials="3"))
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_a_model_that_is_a_folder_is_replayed_into_a_new_one(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    source, out = tfzoo("convert") / "saved", tmp_path / "struck"
    names = {p.relative_to(source): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    wanted = StressOptions(ber="1e-2", data=tfzoo("convert") / "samples.npy")
    assert replay(source, wanted, 1e-2, 0, out) > 0
    found = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert found.keys() == names.keys()
    assert {n.name for n in names if found[n] != names[n]} == {"variables.data-00000-of-00001", "variables.index"}
    with pytest.raises(OutputError, match="is there already"):
        replay(source, wanted, 1e-2, 0, out)
    assert {p.relative_to(source): p.read_bytes() for p in source.rglob("*") if p.is_file()} == names


def test_nothing_is_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    from fetafix.stress import run

    monkeypatch.setattr(run, "_SHM", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stress([folder / "net.onnx"], options(folder, ber="1e-3", trials="3"))
    assert list(tmp_path.iterdir()) == []
