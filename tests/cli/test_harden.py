"""`fetafix harden` as a user has it: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fetafix.cli import cli
from tests import small_models


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return small_models.cnn(tmp_path / "a.onnx")


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["harden", *map(str, args)])


def report(*args: object) -> Any:
    return json.loads(call(*args, "--json", "-").stdout)


def test_written_explained_proved_and_undone(model: Path) -> None:
    done = call("a.onnx", "-o", "b.onnx", "--scheme", "guard", "-v")
    assert done.exit_code == 0, done.output
    assert "guard, dtype keep, a constant a channel" in done.stdout and "w1" in done.stdout
    told = call("--explain", "b.onnx")
    assert told.exit_code == 0 and "PROTECTED" in told.stdout and "at rest" in told.stdout
    proof = call("--verify", "a.onnx", "b.onnx", "--samples", 4, "--no-progress")
    assert proof.exit_code == 0 and "PROVED" in proof.stdout and "bit by bit the same" in proof.stdout
    back = call("--restore", "b.onnx", "-o", "c.onnx")
    assert back.exit_code == 0 and Path("c.onnx").exists()
    assert call("--explain", "c.onnx", "-q").stdout.strip().endswith("PLAIN")


def test_json(model: Path) -> None:
    hardened = report("a.onnx", "-o", "b.onnx")
    assert hardened["command"] == "harden" and hardened["scheme"] == "guard" and hardened["why"]
    assert {"scheme", "rms", "wrecked", "size", "cost", "stock", "chosen"} <= hardened["ranking"][0].keys()
    told = report("--explain", "b.onnx")
    assert told["state"] == "protected" and told["threats"]
    assert call("a.onnx", "-o", "b.onnx", "--json", "out.json").exit_code == 0
    assert json.loads(Path("out.json").read_text())["weights"]


def test_auto_prints_its_table(model: Path) -> None:
    text = call("a.onnx", "-o", "b.onnx", "--design-ber", "1e-5").stdout
    assert "← chosen" in text and "chosen      guard" in text and "secded" in text and "restored before use" in text


def test_what_is_not_proved_ends_with_1(model: Path) -> None:
    small_models.cnn(Path("other.onnx"), seed=1)
    call("a.onnx", "-o", "b.onnx", "--scheme", "guard")
    done = call("--verify", "other.onnx", "b.onnx", "--samples", 2)
    assert done.exit_code == 1 and "NOT RESTORED" in done.stdout


@pytest.mark.parametrize(("args", "says"), [
    (("a.onnx",), "name the new file"), (("--verify", "a.onnx"), "expected 2 models"),
    (("--verify", "--explain", "a.onnx", "a.onnx"), "exclude each other"),
    (("--explain", "a.onnx", "-o", "x"), "writes no file"), (("a.onnx", "b.onnx", "-o", "x"), "expected 1 model"),
    (("a.onnx", "-o", "a.onnx"), "never changed"), (("a.onnx", "-o", "no/b.onnx"), "no folder"),
    (("a.onnx", "-o", "b.onnx", "--dtype", "fp7"), "unknown number format"),
    (("a.onnx", "-o", "b.onnx", "--scheme", "magic"), "Invalid value"),
    (("a.onnx", "-o", "b.onnx", "--scheme", "rs", "--dtype", "int8"), "leave out --dtype"),
    (("a.onnx", "-o", "b.onnx", "--json", "a.onnx"), "cannot be written"),
    (("--restore", "a.onnx", "-o", "b.onnx"), "no protection is known"),
])
def test_usage(model: Path, args: tuple[str, ...], says: str) -> None:
    before = model.read_bytes()
    done = call(*args)
    assert done.exit_code == 2 and says in done.output
    assert not Path("b.onnx").exists() and model.read_bytes() == before


def test_files_that_are_none_end_with_3(model: Path) -> None:
    Path("cut.onnx").write_bytes(model.read_bytes()[:100])
    for args in (("cut.onnx", "-o", "b.onnx", "--scheme", "guard"), ("--explain", "missing.onnx"),
                 ("--explain", "cut.onnx")):
        assert call(*args).exit_code == 3
    assert not Path("b.onnx").exists()
