"""The command line from outside: help, usage errors, the catalogue, injection."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import fetafix
from fetafix.cli import COMMANDS, cli
from fetafix.faults import catalogue

ROOT = Path(fetafix.__file__).parent.parent


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def outside(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "fetafix", *args], capture_output=True, text=True, cwd=cwd, env=env,
                          check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Conv (dilated, with bias) → Relu → GlobalAveragePool → Flatten → Gemm."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((6, 3, 3, 3)), "b": rng.standard_normal(6), "fw": rng.standard_normal((6, 4)),
        "fb": rng.standard_normal(4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], dilations=[2, 2], pads=[2, 2, 2, 2], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def test_help_names_every_command_as_its_module_does() -> None:
    text = run("--help").output
    for name, short in COMMANDS.items():
        assert re.search(rf"^  {name}\s+{re.escape(short)}$", text, re.MULTILINE)
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None and command.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    every = [command, *getattr(command, "commands", {}).values()]
    assert [p.name for c in every for p in c.params if isinstance(p, click.Option) and not p.help] == []


def test_version() -> None:
    assert fetafix.__version__ in run("--version").output


@pytest.mark.parametrize("args", [
    ("chek", "a", "b"), ("check", "a"), ("check", "a", "b", "c"), ("check", "a", "b", "--samples", "0"),
    ("check", "a", "b", "--gate", "label"), ("check", "a", "b", "--confidence", "95"), ("check", "a", "b", "--bogus"),
    ("repair", "a", "b", "--plan", "p"), ("repair", "a", "b", "-o", "c"),
    ("repair", "a", "b", "--apply", "--plan", "p", "--save-plan", "q"), ("inject", "a"), ("faults", "no-such-fault"),
])
def test_usage_errors(args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr and "Traceback" not in done.stderr


def test_a_mistyped_command_is_guessed() -> None:
    assert "did you mean 'check'?" in run("chek").stderr


def test_from_a_real_process(tmp_path: Path) -> None:
    done = outside("--help", cwd=tmp_path)
    assert done.returncode == 0 and "check" in done.stdout
    done = outside("check", "a.onnx", cwd=tmp_path)
    assert done.returncode == 2 and "a source and a target" in done.stderr
    (tmp_path / "fetafix.yaml").write_text("source: a\ntarget: b\nsmaples: 3\n")
    done = outside("check", cwd=tmp_path)
    assert done.returncode == 2 and "fetafix.yaml, line 3" in done.stderr and "'samples'" in done.stderr


def test_the_catalogue_lists_every_fault() -> None:
    listing = run("faults")
    assert listing.exit_code == 0
    assert set(re.findall(r"^  (\S+)  ", listing.output, re.MULTILINE)) == set(catalogue())
    entries = json.loads(run("faults", "--json", "-").stdout)
    assert [e["code"] for e in entries] == list(catalogue())
    assert all(e["documentation"]["Summary"] for e in entries)


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_entry_can_be_read(code: str) -> None:
    done = run("faults", code)
    assert done.exit_code == 0 and done.output.startswith(f"{code}: ") and "What goes wrong" in done.output
    assert json.loads(run("faults", code, "--json", "-").stdout)["code"] == code


def test_a_mistyped_fault_is_guessed() -> None:
    assert "lh-dilation" in run("faults", "lh-dilatoin").stderr


def test_inject_is_seeded_and_says_what_it_did(model: Path, tmp_path: Path) -> None:
    first, second = (run("inject", str(model), "--fault", "lh-dilation", "-o", str(tmp_path / n)) for n in ("1", "2"))
    assert first.exit_code == 0 and "dilations" in first.output and "relative error" in first.output
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() != model.read_bytes()
    assert first.output.replace(str(tmp_path / "1"), "") == second.output.replace(str(tmp_path / "2"), "")
    conv = onnx.load(tmp_path / "1").graph.node[0]
    assert {a.name: list(a.ints) for a in conv.attribute}["dilations"] == [1, 1]


@pytest.mark.parametrize(("fault", "code", "message"), [
    ("cg-bn-train", 1, "has no place for it"), ("lh-dilaton", 2, "did you mean lh-dilation")])
def test_inject_refuses(model: Path, tmp_path: Path, fault: str, code: int, message: str) -> None:
    done = run("inject", str(model), "--fault", fault, "-o", str(tmp_path / "out.onnx"))
    assert done.exit_code == code and message in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_inject_overwrites_nothing(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    done = run("inject", str(model), "--fault", "lh-dilation", "-o", str(model))
    assert done.exit_code == 2 and "exists already" in done.stderr and model.read_bytes() == before


def test_inject_into_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    for name, message in (("empty.onnx", "empty"), ("missing.onnx", "no such file")):
        done = run("inject", str(tmp_path / name), "--fault", "lh-dilation", "-o", str(tmp_path / "o"))
        assert done.exit_code == 3 and message in done.stderr
