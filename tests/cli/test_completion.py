"""Completion: by a real bash as somebody types, and by click's own answers for the other shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from fetafix.cli import COMMANDS, cli
from fetafix.cli.completion import NAME, VARIABLE
from tests.ci.places import ROOT

BASH = shutil.which("bash")
PROMPT = "ready> "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `fetafix` to run and some files."""
    made = tmp_path_factory.mktemp("completion")
    (made / "bin").mkdir()
    tool = made / "bin" / "fetafix"
    tool.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}" "{sys.executable}" -m fetafix "$@"\n')
    tool.chmod(0o755)
    for name in ("model.onnx", "model.pt", "notes.txt"):
        (made / name).touch()
    (made / "fetafix.yaml").write_text(
        "pairs:\n- {name: mobile, source: a, target: b}\n- {name: resnet, source: a, target: b}\n")
    (made / "script.bash").write_text(CliRunner().invoke(cli, ["completion", "bash"]).stdout)
    return made


def in_bash(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last word: its own completion function, called as bash does on TAB."""
    script = (
        'source ./script.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); cur=${!#}; '
        '_fetafix_completion fetafix "$cur" "" || exit 9; '
        'printf "%s\\n" "${COMPREPLY[@]}"')
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "COMP_TYPE": "9"}
    done = subprocess.run([str(BASH), "--norc", "-c", script, "bash", "fetafix", *words], cwd=folder, env=env,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line for line in done.stdout.splitlines() if line}


def test_bash_knows_the_function(folder: Path) -> None:
    script = "source ./script.bash && complete -p fetafix"
    done = subprocess.run([str(BASH), "--norc", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert "-F _fetafix_completion fetafix" in done.stdout


@pytest.mark.parametrize(("words", "offered"), [
    (["re"], {"repair", "review"}), (["gate", "--sar"], {"--sarif"}), (["check", "--gate", "n"], {"numeric"}),
    (["faults", "lh-dil"], {"lh-dilation"}), (["inject", "m.onnx", "--fault", "pp-b"], {"pp-bgr"}),
    (["check", "--preprocess", "keras-"], {"keras-tf", "keras-caffe", "keras-torch"}),
    (["check", "--pair", "mob"], {"mobile"}), (["gate", "-c", "fetafix.yaml", "--pair", ""], {"mobile", "resnet"}),
    (["bench", "stor"], {"storage"}), (["chek", "ga"], {"gate"}),
])
def test_in_bash(words: list[str], offered: set[str], folder: Path) -> None:
    assert in_bash(folder, *words) == offered


def typed(folder: Path, *lines: str) -> list[str]:
    """What an interactive bash on a terminal answers to lines that somebody types, TAB among them."""
    master, slave = os.openpty()
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", "PS1": PROMPT,
           "INPUTRC": os.devnull, "HISTFILE": os.devnull}
    process = subprocess.Popen([str(BASH), "--norc", "--noprofile", "-i"], cwd=folder, env=env, stdin=slave,
                               stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    answers = [_until_prompt(master)]
    for line in lines:
        os.write(master, line.encode() + b"\n")
        answers.append(_until_prompt(master))
    os.write(master, b"exit\n")
    process.wait(60)
    os.close(master)
    return answers[1:]


def _until_prompt(terminal: int) -> str:
    seen = b""
    while not seen.endswith(PROMPT.encode()):
        seen += os.read(terminal, 1 << 12)
    return seen.decode()


def test_typed_on_a_terminal(folder: Path) -> None:
    """Fault types, options and files: click says "file", and bash offers its own, on TAB alone."""
    _, fault, option, file = typed(
        folder, 'eval "$(fetafix completion bash)"', "fetafix faults lh-dil\t", "fetafix inj\tmodel.onnx --fau\tnone",
        "fetafix check no\t model.pt")
    assert "lh-dilation: Wrong dilation" in fault
    assert "fetafix inject model.onnx --fault none" in option
    assert "notes.txt" in file


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_for_this_program(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0 and f"{VARIABLE}={shell}_complete" in done.stdout.replace("=bash_source", "")
    assert NAME in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize(("args", "incomplete", "offered"), [
    ([], "", set(COMMANDS)), ([], "--v", {"--version"}), (["schema"], "", {"config", "report", "gate"}),
    (["check"], "--junit", {"--junit"}), (["bench", "faults", "x"], "--cod", {"--codes"}),
    (["bench", "faults", "x", "--codes"], "WB,lh-dil", {"WB,lh-dilation"}),
    (["check", "--task"], "mask=seg", {"mask=segmentation"}), (["completion"], "f", {"fish"}),
])
def test_by_click(shell: str, args: list[str], incomplete: str, offered: set[str]) -> None:
    made = get_completion_class(shell)
    assert made is not None
    items = made(cli, {}, NAME, VARIABLE).get_completions(args, incomplete)
    assert {i.value for i in items} == offered


@pytest.mark.parametrize(("args", "option"), [
    (["check"], ""), (["check", "--data"], "--data"), (["gate", "-c"], "-c"), (["check", "--json"], "--json"),
    (["check", "--sarif"], "--sarif"), (["repair", "-o"], "-o"), (["init", "a"], "")])
def test_files_are_asked_of_the_shell(args: list[str], option: str) -> None:
    made = get_completion_class("zsh")
    assert made is not None
    [item] = made(cli, {}, NAME, VARIABLE).get_completions(args, "mod")
    assert item.type == "file"


def test_completing_commands_imports_none() -> None:
    code = ("import sys; from fetafix.cli import cli\n"
            f"from click.shell_completion import get_completion_class as of\n"
            f"items = of('bash')(cli, {{}}, {NAME!r}, {VARIABLE!r}).get_completions([], 'c')\n"
            "print(*(i.value for i in items), '|', *(m for m in sys.modules if m.startswith('fetafix.cli.')))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    offered, _, imported = done.stdout.partition("|")
    assert offered.split() == [c for c in COMMANDS if c.startswith("c")]
    assert imported.split() == ["fetafix.cli.interrupt"]
