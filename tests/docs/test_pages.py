"""What the documentation says is true: every command of every page runs, every example of code, every link leads on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

import fetafix
from fetafix.cli import cli

ROOT = Path(fetafix.__file__).parent.parent
FILES = (ROOT / "README.md", *sorted((ROOT / "fetafix" / "docs").glob("*.md")))
PAGES = {p.relative_to(ROOT).as_posix(): p for p in FILES}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(fetafix [^`]+)`")
_CODE = re.compile(r"\s{2,}# exit code (\d+)$")
_COMMENT = re.compile(r"\s{2,}# .*$")
_TYPED = ("fetafix ", "cp ", "make ", "pip ")


@dataclass(frozen=True)
class Command:
    """A line that somebody is told to type. code: what it ends with."""

    line: str
    code: int = 0


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _BLOCK.findall(page.read_text("utf-8")) if language in languages]


def commands(page: Path) -> Iterator[Command]:
    """Those of the blocks, in order; what commands print is left out."""
    for block in blocks(page, "", "sh"):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            if line.startswith(_TYPED):
                code = _CODE.search(line)
                yield Command(_COMMENT.sub("", line), int(code[1]) if code else 0)


def test_pages_have_commands() -> None:
    assert len(PAGES) >= 8 and all(list(commands(p)) for name, p in PAGES.items() if not name.endswith("python.md"))


@pytest.fixture
def place(demonstration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which `fetafix` is the one that is tested."""
    folder = tmp_path / "demo-output"
    shutil.copytree(demonstration, folder)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "fetafix").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fetafix "$@"\n')
    (tools / "fetafix").chmod(0o755)
    for name, value in {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                        "FETAFIX_NO_STATISTICS": "1", "FETAFIX_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page: str, place: Path) -> None:
    for command in commands(PAGES[page]):
        words = shlex.split(command.line)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command.line
        elif words[0] == "pip":
            assert words[1:3] == ["install", "."] or words[1] == "install", command.line
        elif words[:2] == ["fetafix", "review"] and len(words) == 3:
            _served(command.line, place)
        else:
            done = subprocess.run(command.line, shell=True, cwd=place, capture_output=True, text=True, check=False)
            assert done.returncode == command.code, f"{command.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _served(line: str, folder: Path) -> None:
    """A page is served until it is ended."""
    words = [*shlex.split(line), "--no-open"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stdout is not None
        assert any("http://127.0.0.1:" in shown for shown in iter(server.stdout.readline, ""))
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(60) in (0, 130)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_within_a_sentence_has_its_options(page: str) -> None:
    for line in _INLINE.findall(PAGES[page].read_text("utf-8")):
        words = [w for w in line.replace("\n", " ").split() if w != "…"][1:]
        command: click.Command = cli
        while words and isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                assert words[0].startswith("-") or words[0].isupper(), line
                break
            command, words = found, words[1:]
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "--version"}
        assert {w for w in words if w.startswith("-")} <= known, line


@pytest.mark.slow
def test_examples_of_code_run(place: Path) -> None:
    code = "\n".join(blocks(PAGES["fetafix/docs/python.md"], "python"))
    (place / "example.py").write_text(code)
    done = subprocess.run([sys.executable, "example.py"], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("divergent False 1") and "nowhere.npy" in done.stdout


def test_the_fault_type_that_is_shown_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    import fetafix.faults as faults
    from fetafix import api
    from fetafix.edits import apply
    from fetafix.graph.proto import graph_from_model, model_from_graph
    from tests.faults.test_catalogue import test_every_section_is_there_and_says_something as said

    (tmp_path / "types").mkdir()
    (tmp_path / "types/lh_shrink.py").write_text(blocks(PAGES["fetafix/docs/fault-types.md"], "python")[0])
    monkeypatch.setattr(faults, "__path__", [*faults.__path__, str(tmp_path / "types")])
    faults.catalogue.cache_clear()
    try:
        said("lh-shrink")
        rng = np.random.default_rng(0)
        kernel = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Shrink", ["c"], ["y"], lambd=2.0)]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in (("x", ["N", 3, 8, 8]), ("y", None)))
        model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [kernel]),
                                  opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        save(model, tmp_path / "a.onnx")
        graph = graph_from_model(model)
        edits = faults.get("lh-shrink").inject(graph, rng)
        assert edits is not None
        save(model_from_graph(apply(graph, edits)), tmp_path / "b.onnx")
        report = api.repair(tmp_path / "a.onnx", tmp_path / "b.onnx", api.Options(samples=20))
        assert report.verdict == "repaired" and [f.code for f in report.findings] == ["lh-shrink"]
    finally:
        faults.catalogue.cache_clear()
        importlib.invalidate_caches()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_on(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page].read_text("utf-8")):
        target = link.split("#")[0]
        assert link.startswith("https://") or (PAGES[page].parent / target).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_configurations_that_are_shown_are_valid(page: str, tmp_path: Path) -> None:
    from fetafix import config

    for number, block in enumerate(blocks(PAGES[page], "yaml")):
        shown = yaml.safe_load(block)
        if isinstance(shown, dict) and ("pairs" in shown or "source" in shown):
            path = tmp_path / f"{number}.yaml"
            path.write_text(block)
            assert config.load(path).pairs
