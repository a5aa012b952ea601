"""A configuration's pairs, gated: real models, real processes."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix import api, config, pair_options
from fetafix.errors import ConfigError, RuntimeCrash
from fetafix.gate import run
from fetafix.gate.pair import examine, result
from fetafix.gate.record import GateReport, PairResult, Status
from fetafix.gate.run import GateOptions, gate, jobs_of, named
from fetafix.report import Report, Verdict
from fetafix.session import Session
from tests import executor_tasks
from tests.small_models import cnn, weights
from tests.test_check import images

TODAY = datetime.date(2026, 5, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    images(folder / "data.npy")
    cnn(folder / "a.onnx")
    cnn(folder / "same.onnx")
    cnn(folder / "bias.onnx", change={"b1": weights()["b1"] + np.float32(1)})
    cnn(folder / "close.onnx", change={"b1": weights()["b1"] + np.float32(1e-4)})
    (folder / "broken.onnx").write_bytes(b"\x08\x07 no model" * 9)
    return folder


def loaded(folder: Path, *pairs: str) -> config.Config:
    path = folder / "fetafix.yaml"
    path.write_text("pairs:\n" + "".join(f"  - {{{p}}}\n" for p in pairs), "utf-8")
    return config.load(path)


def pair(target: str, more: str = "", name: str = "") -> str:
    return f"name: {name or target}, source: a.onnx, target: {target}.onnx, data: data.npy{more and ', ' + more}"


def gated(folder: Path, *pairs: str, **more: object) -> GateReport:
    return gate(loaded(folder, *pairs), GateOptions(**{"today": TODAY, "jobs": 1, **more}))  # type: ignore[arg-type]


def plain(found: PairResult) -> PairResult:
    report = msgspec.structs.replace(found.report, timings={})
    return msgspec.structs.replace(found, report=report, seconds=0.0, cached=False)


@pytest.fixture(scope="module")
def report(models: Path) -> GateReport:
    return gated(models, pair("same", "threads: 1"), pair("bias", "threads: 1"), pair("broken"))


def test_pairs_pass_fail_and_stay_undecided_side_by_side(models: Path, report: GateReport) -> None:
    assert [(p.name, p.status) for p in report.pairs] == [
        ("same", Status.PASSED), ("bias", Status.FAILED), ("broken", Status.UNDECIDED)]
    assert report.exit_code == 1
    assert "this is of no known format" in report.pairs[2].report.reason
    assert msgspec.structs.replace(report, pairs=[report.pairs[0], report.pairs[2]]).exit_code == 3
    assert msgspec.structs.replace(report, pairs=report.pairs[:1]).exit_code == 0


def test_a_failing_pair_is_localized_as_by_the_command(models: Path, report: GateReport) -> None:
    found = report.pairs[1]
    options = api.Options(data=models / "data.npy", threads=1)
    expected = api.localize(models / "a.onnx", models / "bias.onnx", options)
    assert found.report.findings and found.report.command == "localize"
    assert msgspec.structs.replace(found.report, timings={}) == msgspec.structs.replace(expected, timings={})


def test_a_pair_fails_where_nobody_can_look_for_the_cause(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def localized(_: Session) -> Report:
        raise RuntimeCrash("the lift ran out of memory")

    monkeypatch.setattr("fetafix.operation.localized", localized)
    (job,) = jobs_of(loaded(models, pair("bias")), GateOptions(today=TODAY))
    found = examine(job)
    assert found.status is Status.FAILED and found.report.verdict is Verdict.DIVERGENT
    assert found.report.notes[-1] == "the cause could not be looked for: the lift ran out of memory"


def test_how_many_run_at_once_changes_nothing(models: Path, report: GateReport) -> None:
    two = gated(models, pair("same", "threads: 1"), pair("bias", "threads: 1"), pair("broken"), jobs=2)
    assert [plain(p) for p in report.pairs] == [plain(p) for p in two.pairs]


def test_accepted_findings_pass_until_they_run_out(models: Path, report: GateReport) -> None:
    (one,) = report.pairs[1].report.findings
    entry = f"{{code: {one.code}, target_layer: {one.target_layer}, reason: retrained, until: 2026-05-01}}"
    accept = f"accept: [{entry}, {{code: pp-color, reason: old}}]"
    (found,) = gated(models, pair("bias", accept)).pairs
    assert found.status is Status.ACCEPTED and found.unused == ["pp-color (old)"]
    assert [(a.reason, a.until, a.expired) for a in found.accepted] == [("retrained", "2026-05-01", False)]
    (job,) = jobs_of(loaded(models, pair("bias", accept)), GateOptions(today=TODAY + datetime.timedelta(1)))
    late = result(job, found.report)
    assert late.status is Status.FAILED and [a.expired for a in late.accepted] == [True]


def test_a_code_that_does_not_exist_is_named_with_the_nearest(models: Path) -> None:
    found = gated(models, pair("same", "accept: [{code: lh-dilaton, reason: x}, {code: pp-color, reason: y}]"))
    assert found.pairs[0].unused == ["lh-dilaton (x)", "pp-color (y)"] and found.exit_code == 0
    assert found.notes == ["pair 'same' accepts 'lh-dilaton', which is no fault type; did you mean 'lh-dilation'?"]


def test_localize_says_what_the_configuration_accepts(models: Path, report: GateReport) -> None:
    code = report.pairs[1].report.findings[0].code
    entry = loaded(models, pair("bias", f"accept: [{{code: {code}, reason: retrained}}]")).pairs[0]
    told = api.localize(models / "a.onnx", models / "bias.onnx", api.Options(**pair_options.options(entry)))
    assert not told.passed and any("is accepted by the configuration (retrained)" in n for n in told.notes)


@pytest.mark.parametrize(("more", "passes"), [
    ("gate: numeric", False), ("gate: numeric, tolerance: {y_: {max_abs: 0.01}}", True),
    ("gate: numeric, tolerance: {y_: {max_abs: 0.00001}}", False), ("gate: labels", True),
])
def test_gate_and_tolerance_of_a_pair_take_effect(models: Path, more: str, passes: bool) -> None:
    (found,) = gated(models, pair("close", more)).pairs
    assert found.report.passed is passes and found.report.gate == more.partition(",")[0].removeprefix("gate: ")


def test_mismatches_samples_seed_and_search_take_effect(models: Path) -> None:
    (found,) = gated(models, pair("bias", "max_mismatch: 1.0, samples: 12, seed: 5, search: 'off'")).pairs
    assert found.status is Status.PASSED and found.report.seed == 5 and found.report.search is None
    assert found.report.samples.search + found.report.samples.heldout == 12


def test_preprocessing_takes_effect(tmp_path: Path) -> None:
    cnn(tmp_path / "a.onnx")
    cnn(tmp_path / "same.onnx")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).integers(0, 255, (30, 16, 16, 3), np.uint8))
    target = "target: {model: same.onnx, preprocess: {scale: 0.25}}, preprocess: {scale: 0.5}, data: data.npy"
    (found,) = gated(tmp_path, f"source: a.onnx, {target}").pairs
    assert found.report.verdict is not Verdict.EQUIVALENT
    (found,) = gated(tmp_path, f"source: a.onnx, {target.replace('0.25', '0.5')}").pairs
    assert found.report.verdict is Verdict.EQUIVALENT


def test_unnamed_pairs_get_names_of_their_own(models: Path) -> None:
    one = "source: a.onnx, target: same.onnx"
    found = loaded(models, one, one, pair("bias"), one)
    assert named(found) == ["a.onnx to same.onnx", "a.onnx to same.onnx (2)", "bias", "a.onnx to same.onnx (3)"]
    assert [found.pair(name) for name in named(found)] == found.pairs


def test_chosen_pairs_alone_run(models: Path) -> None:
    found = loaded(models, pair("same"), pair("bias"), pair("broken"))
    assert [j.name for j in jobs_of(found, GateOptions(pairs=["broken", "same"]))] == ["same", "broken"]


@pytest.mark.parametrize(("pairs", "options", "words"), [
    ([pair("same")], {"pairs": ["sam"]}, "has no pair 'sam'; it has same"),
    ([pair("gone")], {}, r"pair 'gone': the target .*gone.onnx is not there"),
    ([pair("same", "data: no.npy").replace("data: data.npy, ", "")], {}, "the data .*no.npy is not there"),
    ([pair("same", "preprocess: blue")], {}, "pair 'same': .*unknown preprocessing preset 'blue'"),
    ([pair("same", "tolerance: {z: {max_abs: 1.0}}")], {}, "pair 'same': tolerance for 'z': there is no such output"),
])
def test_what_is_wrong_with_the_configuration_names_the_pair(
    models: Path, pairs: list[str], options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        gated(models, *pairs, **options)


def test_no_pairs_and_pairs_of_one_name() -> None:
    with pytest.raises(ConfigError, match="has no pairs"):
        gate(config.Config(path="f.yaml", pairs=[]))
    twice = [config.Pair(source="a", target="b", name="x")] * 2
    with pytest.raises(ConfigError, match="two pairs are called 'x'"):
        gate(config.Config(path="f.yaml", pairs=twice))


def test_an_unchanged_source_is_not_run_again(models: Path, tmp_path: Path, report: GateReport) -> None:
    pairs = [pair("same", "threads: 1"), pair("bias", "threads: 1"), pair("broken")]
    first, second = (gated(models, *pairs, cache=tmp_path) for _ in range(2))
    assert not first.pairs[0].cached
    assert [p.cached for p in second.pairs] == [True, True, False]
    for found in (first, second):
        assert [plain(p) for p in found.pairs] == [plain(p) for p in report.pairs]


def test_a_process_killed_in_mid_run_loses_no_pair(
    models: Path, report: GateReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "examine", executor_tasks.examined_at_the_second_try)
    again = gated(models, pair("same", "threads: 1"), pair("bias", "threads: 1"), pair("broken"), jobs=2)
    assert len(list(models.glob("*.tried"))) == 3
    assert [plain(p) for p in again.pairs] == [plain(p) for p in report.pairs]


def test_a_pair_that_takes_too_long_is_undecided(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "examine", executor_tasks.hanging)
    report = gated(models, pair("same"), limit=3)
    assert report.exit_code == 3 and "longer than 3 s" in report.pairs[0].report.reason


def test_a_pair_whose_processes_die_is_undecided(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "examine", executor_tasks.dying)
    report = gated(models, pair("same"))
    assert report.exit_code == 3 and "3 processes that it was given to died" in report.pairs[0].report.reason
    assert isinstance(report.pairs[0].report, Report)
