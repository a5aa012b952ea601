"""`fetafix stress` as a user types it: exit codes, files, words."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.commands import alive, children, invoke, run, start, wait_until
from tests.formats import onnx_zoo

FAST = ("--trials", "3", "--ber", "1e-9,1e-2", "--jobs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cli-stress")
    onnx_zoo.save(onnx_zoo.classifier(), made / "net.onnx")
    rng = np.random.default_rng(0)
    np.save(made / "x.npy", rng.normal(size=(20, *onnx_zoo.ITEM)).astype(np.float32))
    np.save(made / "y.npy", rng.integers(0, onnx_zoo.CLASSES, 20))
    return made


def test_a_measurement(folder: Path) -> None:
    done = run(folder, "stress", "net.onnx", "--data", "x.npy", *FAST, "--json", "report.json")
    assert done.code == 0 and "no labels" in done.text and "net.onnx tolerates 1e-09" not in done.stderr
    data = json.loads((folder / "report.json").read_text())
    assert data["schema_version"] == 1 and [c["ber"] for c in data["subjects"][0]["cells"]] == [1e-9, 1e-2]
    assert all(c["trials"] == 3 for c in data["subjects"][0]["cells"])


def test_json_alone_on_stdout(folder: Path) -> None:
    done = invoke(folder, "stress", "net.onnx", "--data", "x.npy", "--labels", "y.npy", *FAST, "--json", "-")
    assert done.code == 0 and done.report["labels"] == "y.npy"
    assert any("labels are met" in n for n in done.report["subjects"][0]["notes"]), "random labels are no labels"


def test_a_gate(folder: Path) -> None:
    asked = ("stress", "net.onnx", "--data", "x.npy", "--ber", "1e-9,1e-2", "--jobs", "1", "-q")
    assert invoke(folder, *asked, "--require", "1e-9").code == 0
    failed = invoke(folder, *asked, "--require", "1e-2")
    assert failed.code == 1 and "Not reached" in failed.text


@pytest.mark.parametrize(("args", "words"), [
    (("--ber", "oops"), "expected a bit-error rate"), (("--dtype", "q77"), "unknown number format"),
    (("--scheme", "guard"), "so say how"), (("--max-drop", "many"), "expected a drop"),
    (("--data", "nothing.npy"), "no such file"), (("--labels", "x.npy"), "whole numbers"),
    (("--replay", "1e-3"), "BER:TRIAL"), (("--json", "nowhere/report.json"), "there is no folder"),
    (("--output", "none"), "outputs are logits"), (("--scope", "file", "--dtype", "fp16"), "own bytes"),
])
def test_usage(folder: Path, args: tuple[str, ...], words: str) -> None:
    done = invoke(folder, "stress", "net.onnx", "--data", "x.npy", *FAST, *args)
    assert done.code == 2 and words in done.text, done.text


def test_a_model_that_does_not_run(folder: Path) -> None:
    (folder / "cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:400])
    done = invoke(folder, "stress", "cut.onnx", "--data", "x.npy", *FAST)
    assert done.code == 3 and "cut.onnx" in done.text
    assert invoke(folder, "stress", "none.onnx", "--data", "x.npy", *FAST).code == 3


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_loses_nothing_and_leaves_nothing(folder: Path, tmp_path: Path, signals: int) -> None:
    copies = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    many = ("stress", folder / "net.onnx", "--data", folder / "x.npy", "--ber", "1e-3", "--trials", "100000", "--keep",
            tmp_path)
    process = start(folder, *many)
    trials = tmp_path / "trials.jsonl"
    wait_until(lambda: trials.exists() and len(trials.read_bytes().splitlines()) > 5)
    workers = children(process.pid)
    assert workers and list(copies.glob(f"fetafix-{process.pid}-*"))
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not any(alive(pid) for pid in workers) and not list(copies.glob(f"fetafix-{process.pid}-*"))
    kept = trials.read_bytes()
    done = invoke(folder, *many[:6], "--trials", "3", "--keep", tmp_path, "--json", "-")
    assert done.code == 0 and done.report["subjects"][0]["cells"][0]["trials"] == 3
    assert trials.read_bytes() == kept, "three of those that are known are enough"


def test_replay(folder: Path) -> None:
    before = (folder / "net.onnx").read_bytes()
    for name in ("a.onnx", "b.onnx"):
        done = invoke(folder, "stress", "net.onnx", "--replay", "1e-3:2", "-o", name, "--seed", "5")
        assert done.code == 0 and "bits flipped" in done.text
    struck = (folder / "a.onnx").read_bytes()
    flipped = int(np.bitwise_count(np.frombuffer(before, np.uint8) ^ np.frombuffer(struck, np.uint8)).sum())
    assert struck == (folder / "b.onnx").read_bytes() != before and f"{flipped} bits flipped" in done.text
    assert invoke(folder, "stress", "net.onnx", "--replay", "1e-3:2", "-o", "net.onnx").code == 2
    assert (folder / "net.onnx").read_bytes() == before
