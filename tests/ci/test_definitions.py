"""What CI systems read of this repository is valid by their own schemas, and says what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fetafix.cli import cli
from tests.ci.places import ENV, ROOT, pair


def load(path: str) -> dict[str, Any]:
    data = yaml.load((ROOT / path).read_text("utf-8"), yaml.BaseLoader)  # "on" stays a word
    assert isinstance(data, dict)
    return data


def checked(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("schema", "path", "required"), [
    ("github-actions", "action.yml", "runs:"), ("github-workflows", "configs/github-workflow.yml", "jobs:"),
    ("gitlab-ci", "configs/gitlab-ci.yml", "script:")])
def test_their_schemas_accept_it(schema: str, path: str, required: str, tmp_path: Path) -> None:
    done = checked(schema, ROOT / path)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text((ROOT / path).read_text("utf-8").replace(required, f"x{required}"), "utf-8")
    assert checked(schema, broken).returncode == 1  # so the schema does look


def test_every_expression_of_the_action_is_known() -> None:
    action = load("action.yml")
    known = {f"inputs.{name}" for name in action["inputs"]}
    written = (ROOT / "action.yml").read_text("utf-8")
    for step in action["runs"]["steps"]:
        outputs = re.findall(r'echo "([a-z-]+)=\$code"', step.get("run", ""))
        outputs += re.findall(r" ([a-z]+)=(?:json|html|xml|sarif|md)\b", step.get("run", ""))
        known |= {f"steps.{step['id']}.outputs.{name}" for name in outputs if "id" in step}
    used = set(re.findall(r"(?:inputs|steps)\.[\w.-]+", " ".join(re.findall(r"\$\{\{(.*?)\}\}", written))))
    assert used == known - {"inputs."}


def test_the_workflow_gives_the_action_what_it_takes() -> None:
    action, workflow = load("action.yml"), load("configs/github-workflow.yml")
    [step] = [s for s in workflow["jobs"]["gate"]["steps"] if s.get("id") == "fetafix"]
    assert set(step["with"]) <= set(action["inputs"])
    text = (ROOT / "configs/github-workflow.yml").read_text("utf-8")
    assert set(re.findall(r"steps\.fetafix\.outputs\.([\w-]+)", text)) <= set(action["outputs"])


@pytest.mark.parametrize(("path", "text"), [
    ("action.yml", load("action.yml")["runs"]["steps"][-1]["run"]),
    ("configs/gitlab-ci.yml", "\n".join(load("configs/gitlab-ci.yml")["fetafix"]["script"])),
    (".pre-commit-hooks.yaml", (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))])
def test_options_exist(path: str, text: str) -> None:
    gate = cli.get_command(None, "gate")  # type: ignore[arg-type]
    assert gate is not None and "fetafix gate" in text
    assert set(re.findall(r"(?<!\S)--?[a-z]+", text.split("fetafix gate", 1)[1])) <= {
        o for p in gate.params for o in p.opts} | {"-f"}, path


@pytest.mark.parametrize("broken", [False, True])
def test_the_gitlab_job_runs(broken: bool, tmp_path: Path) -> None:
    job = load("configs/gitlab-ci.yml")["fetafix"]
    pair(tmp_path, broken)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "fetafix").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fetafix "$@"\n')
    (tools / "fetafix").chmod(0o755)
    env = {**ENV, "PATH": f"{tools}:{ENV['PATH']}", "FETAFIX_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(["bash", "-e", "-c", "\n".join(job["script"])], cwd=tmp_path, env=env, check=False)
    assert done.returncode == broken
    for name in (job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]):
        assert (tmp_path / name).stat().st_size > 0
