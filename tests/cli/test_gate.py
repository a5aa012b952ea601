"""`fetafix gate` from end to end: exit codes, what is written where, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fetafix.cli import cli
from tests.small_models import cnn
from tests.test_check import images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FETAFIX_CACHE", str(tmp_path / "cache"))
    images(tmp_path / "data.npy")
    cnn(tmp_path / "a.onnx")
    cnn(tmp_path / "same.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07 no model" * 9)
    configured(tmp_path, "same", "broken")
    return tmp_path


def configured(folder: Path, *targets: str) -> None:
    pairs = [f"  - {{name: {t}, source: a.onnx, target: {t}.onnx, data: data.npy, samples: 20}}\n" for t in targets]
    (folder / "fetafix.yaml").write_text("pairs:\n" + "".join(pairs), "utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["gate", *arguments])


def test_the_configuration_here_is_gated_and_a_source_known_from_then_on(folder: Path) -> None:
    first = run("--json", "report.json", "--jobs", "1")
    assert first.exit_code == 3, first.output
    assert first.stdout.startswith("fetafix gate: UNDECIDED, 2 pairs: 1 passed, 1 undecided\n")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert [(p["name"], p["status"], p["cached"]) for p in report["pairs"]] == [
        ("same", "passed", False), ("broken", "undecided", False)]
    second = run("--pair", "same", "-q")
    assert (second.exit_code, second.stdout) == (0, "fetafix gate: PASSED, 1 pair: 1 passed; 1 source not run again\n")
    third = run("--pair", "same", "-q", "--no-cache")
    assert third.stdout == "fetafix gate: PASSED, 1 pair: 1 passed\n"


def test_the_cache_goes_where_it_is_told(folder: Path) -> None:
    alone = run("--pair", "same", "--cache", "here", "--json", "-")
    assert alone.exit_code == 0 and json.loads(alone.stdout)["pairs"][0]["status"] == "passed"
    assert (folder / "here" / "runs").is_dir() and not (folder / "cache").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["-c", "none.yaml"], "the configuration none.yaml cannot be read"),
    (["--pair", "smae"], "fetafix.yaml has no pair 'smae'; it has same, broken"),
    (["--cluster", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
    (["--cluster", "nonsense:"], "no Dask scheduler answers at nonsense:"),
    (["--json", "a.onnx"], "cannot be written to a.onnx: that is the source"),
    (["--json", "no/where.json"], "no/where.json cannot be written: there is no folder"),
    (["--cache", "a.onnx/x"], "runs cannot be remembered in"),
    (["--jobs", "0"], "--jobs"),
    (["--jobs", "2", "--cluster", "tcp://127.0.0.1:9"], "--jobs or --cluster, not both"),
])
def test_what_cannot_be_done_is_said_at_once(
    folder: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fetafix.executor import cluster

    monkeypatch.setattr(cluster, "_CONNECT_S", 0.5)
    before = (folder / "a.onnx").read_bytes()
    result = run(*arguments)
    assert result.exit_code == 2 and words in result.output
    assert (folder / "a.onnx").read_bytes() == before


def test_without_a_configuration_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 2 and "there is no fetafix.yaml here" in result.output and "init" in result.output


@pytest.mark.parametrize(("content", "words"), [
    ("pairs: []\n", "pairs"), ("", "expected a mapping"),
    ("pairs: [{name: x, source: a.onnx, target: a.onnx}, {name: x, source: a.onnx, target: a.onnx}]\n",
     "2 pairs are called 'x'"),
    ("source: a.onnx\ntarget: gone.onnx\n", "pair 'a.onnx to gone.onnx': the target gone.onnx is not there"),
])
def test_a_configuration_that_makes_no_sense_is_told(folder: Path, content: str, words: str) -> None:
    (folder / "fetafix.yaml").write_text(content, "utf-8")
    result = run()
    assert result.exit_code == 2 and words in result.output
