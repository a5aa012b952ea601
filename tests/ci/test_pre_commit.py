"""The hook for pre-commit: valid by pre-commit's own validator, and run by it in a repository with models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ci.places import ENV, ROOT, pair

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="pre-commit needs git, and there is none")
MANIFEST = ROOT / ".pre-commit-hooks.yaml"


def pre_commit(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**ENV, "PRE_COMMIT_HOME": str(folder / ".cache"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = [sys.executable, "-m", "pre_commit", *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_manifest_is_valid(tmp_path: Path) -> None:
    assert pre_commit(tmp_path, "validate-manifest", str(MANIFEST)).returncode == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MANIFEST.read_text("utf-8").replace("entry:", "entri:"), "utf-8")
    assert pre_commit(tmp_path, "validate-manifest", str(wrong)).returncode == 1


@pytest.mark.parametrize("broken", [False, True])
def test_it_runs_where_a_model_changes(broken: bool, tmp_path: Path) -> None:
    """As pre-commit runs it, but in this environment: `language: python` would install fetafix from the network."""
    hooks = yaml.safe_load(MANIFEST.read_text("utf-8"))
    assert hooks[0]["language"] == "python" and hooks[0]["entry"] == "fetafix gate"
    hook = {**hooks[0], "language": "system", "entry": f"{sys.executable} -m {hooks[0]['entry']}"}
    pair(tmp_path, broken)
    settings = yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]})
    (tmp_path / ".pre-commit-config.yaml").write_text(settings, "utf-8")
    for command in (["git", "init", "-q"], ["git", "add", "models", "fetafix.yaml"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    done = pre_commit(tmp_path, "run", "--verbose")
    assert done.returncode == broken, done.stdout + done.stderr
    assert ("Failed" if broken else "Passed") in done.stdout and "fetafix gate:" in done.stdout
    subprocess.run(["git", "rm", "-rq", "--cached", "."], cwd=tmp_path, check=True)
    (tmp_path / "notes.txt").write_text("no model")
    subprocess.run(["git", "add", "notes.txt"], cwd=tmp_path, check=True)
    assert "(no files to check)" in pre_commit(tmp_path, "run").stdout
