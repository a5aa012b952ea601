"""`fetafix convert` from outside: exit codes, what is left on the disk, the report as text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import invoke, run, state
from tests.convert.mishaps import converter
from tests.small_models import cnn

FEW = ("--samples", "12", "--threads", "1", "--gate", "numeric")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cnn(tmp_path / "net.onnx")
    return tmp_path


def test_a_conversion_that_passes(folder: Path) -> None:
    before = state(folder)
    done = run(folder, "convert", "net.onnx", "net.pt", *FEW, "--journal", "log.jsonl")
    assert done.code == 0 and "fetafix convert: CONVERTED, equivalent" in done.stdout
    assert "onnx → onnx2torch → torch" in done.stdout and "written net.pt" in done.text
    assert set(state(folder)) - set(before) == {str(folder / n) for n in ("net.pt", "log.jsonl")}
    assert run(folder, "check", "net.onnx", "net.pt", *FEW).code == 0


def test_one_that_does_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fetafix.convert.routes.CONVERTERS", (converter("lossy", {"damage": True}),))
    before = state(folder)
    done = invoke(folder, "convert", "net.onnx", "net.pt", *FEW, "--json", "-")
    assert done.code == 1 and done.report["verdict"] == "drifting" and state(folder) == before  # few labels, all equal
    assert [r["status"] for r in done.report["routes"]] == ["rejected"] and done.report["output"] is None
    done = invoke(folder, "convert", "net.onnx", "net.pt", *FEW, "--repair", "--json", "r.json", "-v")
    assert done.code == 0 and json.loads((folder / "r.json").read_text())["verdict"] == "repaired"
    assert (folder / "net.pt").exists() and "lossy: done" in done.text


@pytest.mark.parametrize(("args", "said"), [
    (("net.onnx", "net.xyz"), "names no format"), (("net.onnx", "net.onnx"), "is the source"),
    (("net.onnx", "b.onnx"), "is onnx already"), (("net.onnx", "net.pt", "--to", "tflit"), "did you mean 'tflite'"),
    (("net.onnx", "missing/net.pt"), "there is no folder"), (("net.onnx", "taken.pt"), "exists already"),
    (("net.onnx", "net.pt", "--data", "nowhere"), "no such file"),
    (("net.onnx", "net.pt", "--quantise", "int8"), "TFLite"),
    (("net.onnx", "net.pt", "--json", "net.onnx"), "is the source"),
    (("net.onnx", "net.pt", "--preprocess", "x"), "preset"),
    (("net.onnx",), "Missing argument"),
])
def test_usage_errors_change_nothing(args: tuple[str, ...], said: str, folder: Path) -> None:
    (folder / "taken.pt").write_text("mine")
    before = state(folder)
    done = invoke(folder, "convert", *args)
    assert (done.code, state(folder)) == (2, before) and said in done.text and done.stdout == ""


def test_undecided(folder: Path) -> None:
    (folder / "bad.onnx").write_bytes(b"\x08\x07rubbish")
    done = invoke(folder, "convert", "bad.onnx", "bad.pt")
    assert done.code == 3 and "UNDECIDED" in done.stdout and not (folder / "bad.pt").exists()
