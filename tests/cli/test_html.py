"""`--html FILE`: from the models to the page, by every command that makes a report."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fetafix.cli import cli, results
from fetafix.cli.settings import request
from tests.render.html.pages import check, text
from tests.render.reports import REPORTS
from tests.small_models import cnn, weights
from tests.test_check import images


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    images(folder / "data.npy")
    cnn(folder / "a.onnx")
    cnn(folder / "bias.onnx", change={"b1": weights()["b1"] + np.float32(1)})
    (folder / "fetafix.yaml").write_text(
        "pairs:\n  - {name: one, source: a.onnx, target: bias.onnx, data: data.npy, threads: 1}\n", "utf-8")
    return folder


def fetafix(*args: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, args), "-q"])


def pair(models: Path) -> list[object]:
    return [models / "a.onnx", models / "bias.onnx", "--data", models / "data.npy", "--threads", 1]


def test_repair_makes_a_page_with_exhibits_and_journal(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        done = fetafix("repair", *pair(models), "--no-plan", "--journal", "j.jsonl", "--html", "page.html")
        assert done.exit_code == 0, done.output
        assert sorted(p.name for p in folder.iterdir()) == ["j.jsonl", "page.html"]
        pages.append(Path("page.html").read_text("utf-8"))
    told = check(pages[0])
    assert pages[0] == pages[1]
    assert "one cause was found and mended on trial" in told.text and "Error by layer" in told.text
    assert {"chart", "graph"} <= {a.get("class") for a in told.all("svg")} and told.all("img")
    assert "proof on inputs kept apart: the same answer on" in told.text


def test_localize_check_and_gate_make_pages(models: Path, tmp_path: Path) -> None:
    for command, words in (("localize", "one cause was found."), ("check", "Causes were not looked for.")):
        page = tmp_path / f"{command}.html"
        assert fetafix(command, *pair(models), "--html", page).exit_code == 1
        assert words in text(page.read_text("utf-8"))
    page = tmp_path / "gate.html"
    done = fetafix("gate", "-c", models / "fetafix.yaml", "--jobs", 1, "--no-cache", "--html", page)
    assert done.exit_code == 1, done.output
    told = check(page.read_text("utf-8"))
    assert "The converted model does not pass." in told.text
    assert any(a.get("class") == "chart" for a in told.all("svg"))


def test_exhibits_are_gathered_for_a_page_alone() -> None:
    assert "exhibits" not in request({"source": "a", "target": "b"}).options
    assert request({"source": "a", "target": "b", "html": "x.html"}).options["exhibits"] is True


@pytest.mark.parametrize("place", ["missing/x.html", "."])
def test_what_cannot_be_written_is_said_before_the_work(
    place: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["check", "none.onnx", "none.pt"], ["gate", "-c", str(models / "fetafix.yaml")]):
        done = fetafix(*command, "--html", place)
        assert done.exit_code == 2 and "cannot be written" in done.stderr


def test_a_page_replaces_no_model_and_no_other_result(models: Path) -> None:
    before = (models / "a.onnx").read_bytes()
    done = fetafix("check", *pair(models), "--html", models / "a.onnx")
    assert done.exit_code == 2 and "the HTML report cannot be written" in done.stderr
    assert (models / "a.onnx").read_bytes() == before
    done = fetafix("gate", "-c", models / "fetafix.yaml", "--html", models / "fetafix.yaml")
    assert done.exit_code == 2 and "that is the configuration" in done.stderr


def test_a_journal_that_cannot_be_read_costs_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.jsonl").write_text("no journal\n")
    with click.Context(cli):
        results.write(REPORTS["repair"], {"html": "page.html", "annotations": False})
    assert "the page does not show the journal" in capsys.readouterr().err
    assert "is not part of this page" in text(Path("page.html").read_text("utf-8"))


@pytest.mark.parametrize("command", ["check", "localize", "repair", "convert", "gate"])
def test_every_command_with_a_report_has_it(command: str) -> None:
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None and "--html" in {o for p in found.params for o in p.opts}
