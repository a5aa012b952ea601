"""As much of a GitHub runner as it takes to run a composite action's own steps in bash."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_COMPARISON = re.compile(r"(\S+)\s*(==|!=)\s*'([^']*)'")


@dataclass
class Ran:
    """What became of an action. log: stdout and stderr of each step by its name. skipped: steps whose `if` said no."""

    code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def run(action: Path, workspace: Path, temporary: Path, given: Mapping[str, str], env: Mapping[str, str]) -> Ran:
    """Run an action's steps with the files and variables that a runner gives them; stop where one fails.

    Fails on a step that uses another action: that is no script. given: the inputs. env: further variables.
    """
    definition = yaml.safe_load((action / "action.yml").read_text("utf-8"))
    assert not set(given) - set(definition["inputs"]), "an input that the action has not"
    inputs = {f"inputs.{k}": str(v.get("default", "")) for k, v in definition["inputs"].items()}
    known = inputs | {f"inputs.{k}": v for k, v in given.items()}
    summary, ran = temporary / "summary.md", Ran()
    temporary.mkdir(parents=True, exist_ok=True)
    summary.touch()
    for step in definition["runs"]["steps"]:
        if "if" in step and not _holds(step["if"], known):
            ran.skipped.append(step["name"])
            continue
        assert "uses" not in step, f"the step {step['name']!r} is no script"
        output = temporary / f"output-{len(ran.log)}"
        output.touch()
        variables = {
            **os.environ, **{k: _filled(v, known) for k, v in step.get("env", {}).items()}, **env,
            "GITHUB_ACTIONS": "true", "GITHUB_ACTION": "__self", "GITHUB_ACTION_PATH": str(action),
            "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(workspace),
            "RUNNER_TEMP": str(temporary),
        }
        ran.code, ran.log[step["name"]] = _bash(_filled(step["run"], known), workspace, variables, temporary)
        known |= {f"steps.{step.get('id', '')}.outputs.{k}": v for k, v in _pairs(output)}
        if ran.code:
            break
    ran.summary = summary.read_text("utf-8")
    ran.outputs = {k: _filled(v["value"], known) for k, v in definition["outputs"].items()}
    return ran


def _bash(script: str, folder: Path, env: dict[str, str], temporary: Path) -> tuple[int, str]:
    path = temporary / "step.sh"
    path.write_text(script, "utf-8")
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(path)]  # as `shell: bash` means there
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode()


def _filled(text: Any, known: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda m: known.get(m[1], ""), str(text))


def _holds(condition: str, known: Mapping[str, str]) -> bool:
    match = _COMPARISON.fullmatch(_EXPRESSION.sub(r"\1", condition))
    assert match, f"a condition that this runner does not know: {condition}"
    return (known.get(match[1], "") == match[3]) is (match[2] == "==")


def _pairs(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text("utf-8").splitlines()
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]
