"""TFLite models judged against others: within codes, without TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fetafix.api import Options, check
from fetafix.report import Report, Verdict
from tests.formats.tflite_variants import logits

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("tflite_models")


@pytest.fixture(scope="module")
def data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npy"
    np.save(path, np.load(folder / "samples.npz")["images"])
    return path


def judged(source: Path, target: Path, data: Path, **more: object) -> Report:
    return check(source, target, Options(**{"data": data, "samples": 32, "gate": "numeric", **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("codes", "same"), [(0.0, True), (0.99, True), (19.99, False)])
def test_one_code_is_no_difference(folder: Path, data: Path, tmp_path: Path, codes: float, same: bool) -> None:
    plain, moved = tmp_path / "plain.tflite", tmp_path / "moved.tflite"
    plain.write_bytes(logits(folder / "int8.tflite", 0))
    moved.write_bytes(logits(folder / "int8.tflite", codes))
    report = judged(plain, moved, data, source_optimise="none", target_optimise="none")
    assert report.agreement is not None
    (output,) = report.agreement.outputs
    assert output.max_codes == pytest.approx(np.ceil(codes), abs=0.01)
    assert report.passed is same and (report.verdict is Verdict.EQUIVALENT) is same


def test_a_float_file_and_its_int8_twin_are_counted_in_codes(folder: Path, data: Path) -> None:
    report = judged(folder / "float.tflite", folder / "int8.tflite", data, gate="labels", max_mismatch=0.1)
    assert report.agreement is not None
    (output,) = report.agreement.outputs
    assert output.max_codes is not None and 0.5 < output.max_codes < 20
    plain = judged(folder / "float.tflite", folder / "fp16.tflite", data, gate="labels", max_mismatch=0.1)
    assert plain.agreement is not None and plain.agreement.outputs[0].code_step is None


def test_images_are_what_the_codes_stand_for(folder: Path) -> None:
    report = check(folder / "float.tflite", folder / "int8.tflite", Options(samples=8, max_mismatch=1.0))
    assert any("codes of a quantised input" in n for n in report.notes)


def test_a_check_loads_no_tensorflow(folder: Path, data: Path, tmp_path: Path) -> None:
    """With a package called tensorflow in front that cannot be imported."""
    for name in ("tensorflow", "keras", "tf2onnx"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')\n")
    command = [sys.executable, "-m", "fetafix", "check", str(folder / "int8.tflite"),
               str(folder / "int8_float_io.tflite"), "--data", str(data), "--samples", "8"]  # fmt: skip
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert "labels agree" in run.stdout and run.returncode == 0, run.stdout + run.stderr
    again = subprocess.run([sys.executable, "-c", "import tensorflow"], env={**os.environ, "PYTHONPATH": path},
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert "tensorflow was imported" in again.stderr  # the trap works
