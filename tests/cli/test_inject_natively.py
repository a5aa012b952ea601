"""`fetafix inject` into all formats of TensorFlow's: natively, over nothing, and nothing left where it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fetafix import api
from fetafix.cli import cli
from fetafix.formats import recognise
from fetafix.report import Verdict

MODELS = ("right.tflite", "right.h5", "right.keras", "right", "right.pb")


@pytest.fixture(scope="module")
def zoo(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("offered")


def inject(model: Path, fault: str, out: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["inject", str(model), "--fault", fault, "-o", str(out), *more])


def content(path: Path) -> dict[str, str]:
    """Hashes of a file, or of all files in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize(("name", "fault"), [
    ("right.tflite", "wb-weights"), ("right.h5", "lh-dilation"), ("right.keras", "cg-act-missing"),
    ("right", "wb-weights"), ("right.pb", "cg-act-missing")])
def test_a_faulty_copy_in_the_models_own_format(zoo: Path, tmp_path: Path, name: str, fault: str) -> None:
    model, out = zoo / name, tmp_path / f"faulty{Path(name).suffix}"
    before = content(model)
    done = inject(model, fault, out)
    assert done.exit_code == 0, done.output
    assert f"{fault}, seed 0" in done.stdout and "relative error" in done.stdout
    assert recognise(out) == recognise(model)
    report = api.check(zoo / "source.onnx", out, api.Options(data=zoo / "x.npy", threads=1))  # of what all are made
    assert report.verdict is Verdict.DIVERGENT, report.reason
    assert content(model) == before and [p.name for p in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(("name", "fault"), [
    ("right.tflite", "dt-fp16-overflow"), ("right.h5", "cg-bn-train"), ("right", "cg-extra-output")])
def test_nothing_is_left_of_what_the_format_cannot_express(zoo: Path, tmp_path: Path, name: str, fault: str) -> None:
    done = inject(zoo / name, fault, tmp_path / f"faulty{Path(name).suffix}")
    assert done.exit_code == 1 and f"cannot express the fault {fault}" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_overwritten(zoo: Path, tmp_path: Path, name: str) -> None:
    model, before = zoo / name, content(zoo / name)
    done = inject(model, "wb-weights", model)
    assert done.exit_code == 2 and "exists already" in done.stderr and content(model) == before
    (mine := tmp_path / "mine").mkdir()
    (link := tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (mine, link):
        assert inject(model, "wb-weights", out).exit_code == 2
    assert not list(mine.iterdir()) and not link.exists()


def test_nothing_is_put_into_a_saved_model(zoo: Path, tmp_path: Path) -> None:
    model, before = zoo / "right", content(zoo / "right")
    done = inject(model, "wb-weights", model / "faulty")
    assert done.exit_code == 2 and "lies in the model" in done.stderr
    for command in ("repair", "convert"):
        where = ("--apply", "-o", str(model / "fixed.tflite")) if command == "repair" else (str(model / "it.tflite"),)
        second = (str(zoo / "right.tflite"),) if command == "repair" else ()
        done = CliRunner().invoke(cli, [command, str(model), *second, *where])
        assert done.exit_code == 2 and "lies in the model" in done.stderr, done.output
    assert content(model) == before


def test_a_signature_that_is_not_there(zoo: Path, tmp_path: Path) -> None:
    done = inject(zoo / "right", "wb-weights", tmp_path / "faulty", "--signature", "predcit")
    assert done.exit_code == 3 and "predcit" in done.stderr and "serving_default" in done.stderr
    assert list(tmp_path.iterdir()) == []
