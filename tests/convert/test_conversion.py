"""Only what passes is kept, whatever the converters do."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix import api, journal
from fetafix.convert import ConversionReport, ConvertOptions, convert
from fetafix.convert.converters import Converter
from fetafix.convert.report import from_json, to_json
from fetafix.errors import OutputError, UsageError
from fetafix.report import Verdict
from tests.convert.mishaps import converter
from tests.small_models import cnn

OPTIONS = api.Options(samples=16, threads=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return cnn(tmp_path / "net.onnx")


def go(
    monkeypatch: pytest.MonkeyPatch, source: Path, converters: list[Converter], **wanted: object
) -> ConversionReport:
    monkeypatch.setattr("fetafix.convert.routes.CONVERTERS", tuple(converters))
    return convert(source, source.with_name("out.pt"), OPTIONS, ConvertOptions(**wanted))  # type: ignore[arg-type]


def left(source: Path) -> set[str]:
    return {p.name for p in source.parent.iterdir()} - {source.name}


def test_a_second_route_takes_the_place_of_one_that_diverges(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    report = go(monkeypatch, source, [converter("lossy", {"damage": True}, {"damage": False}, {"damage": None})])
    assert [r.status for r in report.routes] == ["rejected", "passed", "not tried"]
    assert (report.verdict, report.chosen, report.exit_code) == (Verdict.EQUIVALENT, 2, 0)
    first, second = report.routes[:2]
    assert first.max_abs and second.max_abs is not None and first.max_abs > 100 * second.max_abs
    assert first.top1 is not None and first.top1 < 1 and second.top1 == 1
    assert left(source) == {"out.pt"} and report.output is not None
    assert api.check(source, report.output.path, OPTIONS).passed
    assert from_json(to_json(report)) == report


def test_nothing_is_left_where_nothing_passes(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    report = go(monkeypatch, source, [converter("lossy", {"damage": True})])
    assert (report.verdict, report.exit_code, report.output) == (Verdict.DIVERGENT, 1, None)
    assert "no route leads to a model that passes" in report.reason and left(source) == set()


def test_a_rejected_model_is_kept_beside_on_request(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    report = go(monkeypatch, source, [converter("lossy", {"damage": True})], keep_rejected=True)
    assert report.exit_code == 1 and left(source) == {"out.rejected.pt"}
    assert report.rejected == str(source.with_name("out.rejected.pt"))


def test_the_best_one_is_repaired_on_request(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    log = source.with_name("log.jsonl")
    report = go(monkeypatch, source, [converter("lossy", {"damage": True})], repair=True, journal=log)
    assert (report.verdict, report.exit_code) == (Verdict.REPAIRED, 0) and left(source) == {"out.pt", "log.jsonl"}
    assert report.check is not None and [f.code for f in report.check.findings] == ["wb-kernel-flip"]
    assert api.check(source, source.with_name("out.pt"), OPTIONS).verdict is Verdict.EQUIVALENT
    assert [e["event"] for e in journal.read(log)][:3] == ["start", "convert", "route"]


def test_failures_are_results_about_their_routes(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    names = ("raises", "aborts", "writes_rubbish", "lossy")
    made = [converter(name, cost=0.01 * i) for i, name in enumerate(names)]
    report = go(monkeypatch, source, made)
    assert [r.status for r in report.routes] == ["not converted"] * 2 + ["undecided", "passed"]
    assert [r.steps[0].status for r in report.routes] == ["failed", "crashed", "done", "done"]
    assert "Frobnicate" in report.routes[0].reason and report.exit_code == 0


def test_all_failing_is_told_with_the_first_reason(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    report = go(monkeypatch, source, [converter("raises"), converter("aborts", cost=0.1)])
    assert report.exit_code == 1 and "2 routes were tried" in report.reason and "Frobnicate" in report.reason
    assert left(source) == set()


def test_what_is_not_installed_is_no_success_and_no_failure(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    monkeypatch.setenv("FETAFIX_ONNX2TF", "/nowhere/onnx2tf")
    monkeypatch.setenv("PATH", "/nowhere")
    external = Converter("onnx2tf", ("onnx",), "torch", "m:f", command="onnx2tf")
    report = go(monkeypatch, source, [external])
    assert (report.verdict, report.exit_code) == (Verdict.UNDECIDED, 3) and left(source) == set()
    assert [r.status for r in report.routes] == ["unavailable"] and "FETAFIX_ONNX2TF" in report.reason
    report = go(monkeypatch, source, [external, converter("lossy", cost=0.5)], routes=1)
    assert [r.status for r in report.routes] == ["unavailable", "passed"] and report.exit_code == 0


def test_routes_are_compared_on_request_and_the_nearest_is_kept(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    made = [converter("lossy", {"damage": None}, {"damage": True}, {"damage": False})]
    report = go(monkeypatch, source, made, compare=True, routes=3)
    assert [r.status for r in report.routes] == ["passed", "rejected", "passed"] and report.chosen == 1


def test_steps_that_routes_share_run_once(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    second = Converter("second", ("torch",), "torchscript", "tests.convert.mishaps:lossy", ({"n": 1}, {"n": 2}))
    monkeypatch.setattr("fetafix.convert.routes.CONVERTERS", (converter("lossy"), second))
    report = convert(source, source.with_name("out.ts"), OPTIONS, ConvertOptions(compare=True))
    assert [[s.reused for s in r.steps] for r in report.routes] == [[False, False], [True, False]]
    assert report.exit_code == 0


def test_an_output_that_exists_is_not_touched_without_force(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    out = source.with_name("out.pt")
    out.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        go(monkeypatch, source, [converter("lossy")])
    report = go(monkeypatch, source, [converter("lossy", {"damage": True})], force=True)
    assert report.exit_code == 1 and out.read_text() == "mine"
    assert go(monkeypatch, source, [converter("lossy")], force=True).exit_code == 0 and out.read_bytes() != b"mine"


def test_the_source_is_never_the_output(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    monkeypatch.setattr("fetafix.convert.routes.CONVERTERS", (converter("lossy"),))
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is the source"):
        convert(source, source, OPTIONS, ConvertOptions(to="torch", force=True))
    assert source.read_bytes() == before


def test_a_source_that_cannot_be_opened_is_undecided(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(cnn(tmp_path / "net.onnx").read_bytes()[:300])
    report = convert(broken, tmp_path / "out.pt", OPTIONS)
    assert (report.verdict, report.exit_code) == (Verdict.UNDECIDED, 3) and "broken.onnx" in report.reason


def test_the_same_format_is_no_conversion(source: Path) -> None:
    with pytest.raises(UsageError, match="is onnx already"):
        convert(source, source.with_name("b.onnx"), OPTIONS)
