"""The action, tried: its very steps in bash, with the runner's files and variables, on a good pair and a broken one."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.ci.places import ROOT, pair
from tests.ci.runner import Ran, run

NAMED = ("action.yml", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a runner checks it out: a copy, since pip builds inside it."""
    folder = tmp_path_factory.mktemp("action")
    for name in NAMED:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "fetafix", folder / "fetafix", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A virtual environment with fetafix's dependencies but not fetafix, which the action is to install."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = (folder / "lib").glob("python3*/site-packages")
    here = [p for p in site.getsitepackages() if (Path(p) / "pip").is_dir()]
    (packages / "dependencies.pth").write_text("".join(f"{p}\n" for p in here))  # no .pth of those is followed
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "PYTHONPATH": "",
            "PIP_NO_INDEX": "1", "FETAFIX_CACHE": str(folder.parent / "cache")}


@pytest.fixture(scope="module")
def installed(action: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The action's run on a good pair, installing fetafix."""
    workspace = tmp_path_factory.mktemp("good")
    pair(workspace, broken=False)
    given = {"python-version": "", "extras": "torch,tensorflow", "pip-args": "--no-deps --no-build-isolation"}
    return run(action, workspace, workspace.parent / "temporary of good", given, environment)


def test_a_good_pair_passes(installed: Ran, environment: dict[str, str]) -> None:
    assert installed.code == 0, installed.log
    assert installed.skipped == ["Set up Python"]
    assert "Successfully installed fetafix" in installed.log["Install fetafix"]
    assert installed.summary.startswith("## ✅ fetafix gate: 1 pair, 1 passed\n")
    assert "::error" not in installed.log["Gate"]
    assert installed.outputs["exit-code"] == "0"
    assert json.loads(Path(installed.outputs["sarif"]).read_text())["runs"][0]["results"] == []
    where = "import fetafix; print(fetafix.__file__)"
    python = shutil.which("python", path=environment["PATH"])
    place = subprocess.run([str(python), "-c", where], cwd=Path(installed.outputs["sarif"]).parent, env=environment,
                           capture_output=True, text=True, check=True)
    assert str(Path(str(python)).parent.parent) in place.stdout  # what ran is what the action installed


def test_a_broken_pair_fails(installed: Ran, action: Path, environment: dict[str, str], tmp_path: Path) -> None:
    pair(tmp_path / "work", broken=True)
    given = {"python-version": "", "install": "false", "args": "--no-cache --threads 1"}
    ran = run(action, tmp_path / "work", tmp_path / "temporary", given, environment)
    assert ran.code == 1 and ran.outputs["exit-code"] == "1"
    assert ran.skipped == ["Set up Python", "Install fetafix"]
    assert ran.summary.startswith("## ❌ fetafix gate: 1 pair, 1 failed\n") and "wb-bias" in ran.summary
    assert "::error file=models/b.onnx,title=small%3A wb-bias" in ran.log["Gate"]
    [result] = json.loads(Path(ran.outputs["sarif"]).read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("wb-bias", "error")
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "models/b.onnx"
    assert ET.parse(ran.outputs["junit"]).getroot().get("failures") == "1"
    assert json.loads(Path(ran.outputs["json"]).read_text())["pairs"][0]["status"] == "failed"
    assert Path(ran.outputs["markdown"]).read_text("utf-8") == ran.summary
    assert "wb-bias" in Path(ran.outputs["html"]).read_text("utf-8")


def test_a_configuration_that_is_wrong_has_no_reports(
    installed: Ran, action: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text("source: a.onnx\ntargt: b.onnx\n")
    given = {"python-version": "", "install": "false", "config": "wrong.yaml"}
    ran = run(action, tmp_path, tmp_path / "temporary", given, environment)
    assert ran.code == 2 and "did you mean 'target'?" in ran.log["Gate"]
    assert ran.outputs == {"exit-code": "2", "json": "", "html": "", "junit": "", "sarif": "", "markdown": ""}


def test_inputs_run_nothing(installed: Ran, action: Path, environment: dict[str, str], tmp_path: Path) -> None:
    given = {"python-version": "", "install": "false", "config": '"; touch hacked; "$(touch hacked)`touch hacked`'}
    assert run(action, tmp_path, tmp_path / "temporary", given, environment).code == 2
    assert not (tmp_path / "hacked").exists()
