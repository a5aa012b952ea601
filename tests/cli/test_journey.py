"""From check to a proved repair through the command line, on two small ONNX files, each command in its own process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fetafix
from fetafix import plan as plans
from fetafix.journal import read

ROOT = Path(fetafix.__file__).parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def network(path: Path, dilation: int) -> None:
    """Conv → Relu → Conv (dilated) → Relu → GlobalAveragePool → Flatten → Gemm: 10 scores of (N, 3, 12, 12)."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,), "w3": (12, 10), "b3": (10,)}
    weights = {k: (rng.standard_normal(s) / np.sqrt(max(np.prod(s[1:]), 1))).astype(np.float32)
               for k, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[dilation] * 4, dilations=[dilation] * 2,
                         name="second"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], name="head"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with source, its healthy copy, a broken target and samples."""
    folder = tmp_path_factory.mktemp("pair")
    network(folder / "source.onnx", 2)
    network(folder / "healthy.onnx", 2)
    network(folder / "broken.onnx", 1)
    samples = 2 * np.random.default_rng(1).standard_normal((60, 3, 12, 12)).astype(np.float32)
    np.save(folder / "samples.npy", samples)
    return folder


def fetafix_in(folder: Path, *args: str, code: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "fetafix", *args], cwd=folder, env=ENV, capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def state(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


BROKEN = ("source.onnx", "broken.onnx", "--data", "samples.npy", "--samples", "60", "--gate", "numeric")


def test_check_and_localize(made: Path) -> None:
    before = state(made)
    healthy = report(fetafix_in(made, "check", "source.onnx", "healthy.onnx", "--json", "-", code=0))
    assert healthy["verdict"] == "equivalent" and "synthetic" in healthy["samples"]["origin"]
    found = report(fetafix_in(made, "localize", *BROKEN, "--json", "-", code=1))
    assert found["verdict"] == "drifting" and found["passed"] is False
    assert [(f["code"], f["target_layer"]) for f in found["findings"]] == [("lh-dilation", "second")]
    assert report(fetafix_in(made, "localize", "source.onnx", "healthy.onnx", "--json", "-", code=0))["findings"] == []
    assert state(made) == before


def test_the_same_seed_gives_the_same_report(made: Path) -> None:
    first, second = (report(fetafix_in(made, "localize", *BROKEN, "--seed", "3", "--json", "-", code=1)) for _ in "ab")
    for data in (first, second):
        data.pop("timings")
    assert first == second


def test_repair_through_a_plan(made: Path, tmp_path: Path) -> None:
    before = state(made)
    plan, journal, out = tmp_path / "plan.json", tmp_path / "journal.jsonl", tmp_path / "fixed.onnx"
    fetafix_in(made, "repair", *BROKEN, "--save-plan", str(plan), code=0)
    assert state(made) == before and not out.exists()
    apply = ("repair", *BROKEN, "--apply", "--plan", str(plan), "-o", str(out))
    refused = fetafix_in(made, *apply, code=2)
    assert "none of them approved" in refused.stderr and not out.exists()

    loaded, store = plans.load(plan)
    plans.save(plans.decide(loaded, loaded.entries[0].id, True, by="Ada"), plan, store)
    done = report(fetafix_in(made, *apply, "--approved-by", "Ada", "--journal", str(journal), "--json", "-", code=0))
    assert done["verdict"] == "repaired" and [r["status"] for r in done["repairs"]].count("kept") == 1
    assert done["output"]["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert "Ada" in journal.read_text() and next(read(journal))["event"] == "start"
    assert fetafix_in(made, "check", "source.onnx", str(out), "--gate", "numeric", code=0)
    assert state(made) == before


def test_a_pair_that_agrees_is_left_alone(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "fixed.onnx"
    done = report(fetafix_in(made, "repair", "source.onnx", "healthy.onnx", "--apply", "-o", str(out), "--json", "-",
                             code=0))
    assert done["verdict"] == "equivalent" and done["output"] is None and not out.exists()


def test_repair_from_the_configuration(made: Path, tmp_path: Path) -> None:
    (tmp_path / "fetafix.yaml").write_text(
        f"source: {made}/source.onnx\ntarget: {made}/broken.onnx\ndata: {made}/samples.npy\ngate: numeric\n")
    fetafix_in(tmp_path, "repair", "--apply", "-o", "out.onnx", code=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fetafix.yaml", "out.onnx", "out.onnx.journal.jsonl"]


def test_what_cannot_be_opened_is_undecided(made: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes((made / "source.onnx").read_bytes()[:300])
    done = fetafix_in(made, "check", "source.onnx", str(tmp_path / "cut.onnx"), "--json", "-", code=3)
    data = report(done)
    assert data["verdict"] == "undecided" and "cut.onnx" in data["reason"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
def test_ctrl_c_leaves_nothing_behind(made: Path, tmp_path: Path) -> None:
    out, samples = tmp_path / "fixed.onnx", tmp_path / "many.npy"
    np.save(samples, np.random.default_rng(1).standard_normal((20000, 3, 12, 12)).astype(np.float32))
    command = [sys.executable, "-m", "fetafix", "repair", *BROKEN[:2], "--data", str(samples), "--samples", "20000",
               "--batch", "1", "--apply", "-o", str(out), "--json", str(tmp_path / "r.json")]
    process = subprocess.Popen(command, cwd=made, env=ENV, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and len(_children(process.pid)) < 2 and time.monotonic() < deadline:
        pass  # until both models' workers are there
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["many.npy"]


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
