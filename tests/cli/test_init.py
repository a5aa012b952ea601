"""`fetafix init` on models of several kinds: what it writes is valid, true, and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fetafix import config, pair_options
from fetafix.cli import cli
from tests.small_models import cnn, node, save
from tests.test_schemas import errors, plain


def init(*args: object) -> Result:
    return CliRunner().invoke(cli, ["init", *map(str, args)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    cnn(folder / "a.onnx", output="scores")
    cnn(folder / "b converted: ü.onnx", output="scores")
    save(folder / "filter.onnx", [node("Neg", ["signal"], ["y"])], {"signal": [1, 2, 12]}, {"y": [1, 2, 12]})
    return folder


def test_it_is_valid_and_says_what_the_models_are(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "fetafix.yaml"
    done = init(models / "a.onnx", models / "b converted: ü.onnx", "-o", out)
    assert done.exit_code == 0, done.output
    text = out.read_text("utf-8")
    assert errors(plain(text)) == []
    pair = config.load(out).pair()
    assert (pair.name, pair.gate, pair.samples, pair.seed) == ("a-to-b converted: ü", "labels", 100, 0)
    assert [Path(m.model).resolve() for m in pair.models()] == [models / "a.onnx", models / "b converted: ü.onnx"]
    assert "#   input  x float32 N×3×16×16\n#   output scores_ float32 N×10\n" in text
    assert "# preprocess: torchvision " in text and "# data: images/ " in text


def test_its_first_line_leads_editors_to_the_schema(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "fetafix.yaml"
    init(models / "a.onnx", models / "a.onnx", "-o", out)
    match = re.match(r"# yaml-language-server: \$schema=(.*)\n", out.read_text("utf-8"))
    assert match and Path(match[1]).read_text("utf-8").startswith("{")


@pytest.mark.parametrize("name", ["a.onnx", "filter.onnx"])
def test_every_key_that_is_off_may_be_on(name: str, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "fetafix.yaml"
    init(models / name, models / name, "-o", out)
    text = out.read_text("utf-8")
    switched = re.sub(r"(?m)^    # ", "    ", text)
    assert switched.count("\n    #") == 0 and switched != text
    assert errors(plain(switched)) == []
    out.write_text(switched, "utf-8")
    pair = config.load(out).pair()
    pair_options.check(pair, str(out))
    left = {"rounds", "batch", "threads", "trust", "confidence", *(["preprocess"] if name == "filter.onnx" else [])}
    assert {f for f in config.Pair.__struct_fields__ if not getattr(pair, f)} == left | {"seed"}


def test_what_it_writes_runs(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FETAFIX_CACHE", str(tmp_path / "cache"))
    assert init(models / "filter.onnx", models / "filter.onnx").stdout.endswith("run: fetafix gate\n")
    assert config.load("fetafix.yaml").pair().gate == "numeric"
    checked = CliRunner().invoke(cli, ["check", "-q"])
    assert checked.stdout == "fetafix check: EQUIVALENT, passes the numeric gate\n"
    gated = CliRunner().invoke(cli, ["gate", "-q"])
    assert gated.exit_code == 0 and "PASSED" in gated.stdout


def test_it_replaces_nothing(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "fetafix.yaml"
    out.write_text("mine")
    done = init(models / "a.onnx", models / "a.onnx", "-o", out)
    assert done.exit_code == 2 and "is there already" in done.stderr and out.read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert init(models / "a.onnx", models / "a.onnx", "-o", tmp_path / "link").exit_code == 2


def test_models_that_cannot_be_opened_leave_nothing(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    done = init(models / "a.onnx", tmp_path / "empty.onnx", "-o", tmp_path / "fetafix.yaml")
    assert done.exit_code == 3 and "empty" in done.stderr and not (tmp_path / "fetafix.yaml").exists()


def test_data_goes_into_it(models: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    done = init(models / "a.onnx", models / "a.onnx", "-o", tmp_path / "f.yaml", "--data", tmp_path / "images")
    assert done.exit_code == 2 and "images" in done.stderr  # an empty folder: the models were to be run on it
    from PIL import Image

    Image.new("RGB", (20, 20), "red").save(tmp_path / "images" / "red.png")
    assert init(models / "a.onnx", models / "a.onnx", "-o", tmp_path / "f.yaml", "--data",
                tmp_path / "images").exit_code == 0
    assert config.load(tmp_path / "f.yaml").pair().data == str(tmp_path / "images")
