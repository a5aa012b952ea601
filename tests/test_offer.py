"""What a target's format cannot express is said so, and offered as ONNX and converted again, each judged itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from fetafix import api, journal
from fetafix.convert.converters import ONNX2TF, executable
from fetafix.formats.torch.env import prepare
from fetafix.report import Report, Verdict, from_json, to_json


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The exported network, its bare state dict, and samples."""
    import torch

    from tests.offered_networks import right

    prepare(1)
    folder = tmp_path_factory.mktemp("offer")
    network = right()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.onnx.export(network, (x,), str(folder / "source.onnx"), dynamo=False, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})
    torch.save(network.state_dict(), folder / "weights.pt")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32))
    return folder / "source.onnx", folder / "weights.pt", folder / "x.npy"


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime says to a model."""
    session = onnxruntime.InferenceSession(str(path))
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_a_state_dict_cannot_hold_is_offered_as_onnx_and_as_a_module(
    pair: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    import torch

    source, target, data = pair
    options = api.Options(data=data, target_arch="tests.offered_networks:wrong")
    out, log = tmp_path / "fixed.pt", tmp_path / "log.jsonl"
    report = api.repair(source, target, options, api.RepairOptions(output=out, apply=True, journal=log))
    assert report.verdict in (Verdict.DIVERGENT, Verdict.DRIFTING)
    assert ("cg-act-missing", "unsupported") in {(r.code, r.status) for r in report.repairs}
    assert not out.exists()
    view, module = tmp_path / "fixed.onnx", tmp_path / "fixed.reconverted.pt"
    x = np.load(data)
    wanted = answers(source, x)
    assert np.abs(wanted - answers(view, x)).max() < 1e-4
    assert np.abs(wanted - torch.jit.load(module)(torch.from_numpy(x)).detach().numpy()).max() < 1e-4  # no code of ours
    assert [(o.path, o.format, o.verdict, o.passed, o.sha256) for o in report.offers] == [
        (str(p), kind, Verdict.EQUIVALENT, True, sha256(p)) for p, kind in ((view, "onnx"), (module, "torchscript"))]
    assert from_json(to_json(report)).offers == report.offers
    assert all(any(str(p) in note for note in report.notes) for p in (view, module))
    assert any("holds parameters alone" in note for note in report.notes)
    offered = [e for e in journal.read(log) if e["event"] == "offered"]
    assert [e["offer"]["path"] for e in offered if "offer" in e] == [str(view), str(module)]


@pytest.fixture(scope="module")
def zoo(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("offered")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of onnx2tf."""

    def put(script: str) -> None:
        path = tmp_path / "a-converter"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv(ONNX2TF, str(path))

    return put


def mend(zoo: Path, out: Path, apply: bool = True) -> Report:
    """Repair a TFLite file that misses an activation which TFLite has no operator for."""
    options = api.Options(data=zoo / "x.npy", threads=1)
    report = api.repair(zoo / "source.onnx", zoo / "wrong.tflite", options,
                        api.RepairOptions(output=out, apply=apply))
    assert "unsupported" in {r.status for r in report.repairs} and not out.exists()
    return report


def offers(report: Report) -> list[tuple[str, str, bool | None]]:
    return [(Path(o.path).name, o.format, o.passed) for o in report.offers]


VIEW, AGAIN = ("fixed.onnx", "onnx", True), ("fixed.reconverted.tflite", "tflite", True)


@pytest.mark.skipif(executable() is None, reason="onnx2tf is not installed (FETAFIX_ONNX2TF names it)")
def test_what_tflite_cannot_hold_is_offered_converted_again(zoo: Path, tmp_path: Path) -> None:
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW, AGAIN], report.notes
    interpreter = Interpreter(str(tmp_path / "fixed.reconverted.tflite"))
    x, port = np.load(zoo / "x.npy"), interpreter.get_input_details()[0]
    assert list(port["shape"]) == [1, *x.shape[1:]]  # the layout of the target, not turned
    interpreter.resize_tensor_input(port["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(port["index"], x)
    interpreter.invoke()
    made = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.abs(made - answers(zoo / "source.onnx", x)).max() < 1e-4


def test_without_a_converter_the_note_says_what_to_install(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ONNX2TF, str(tmp_path / "nowhere"))
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW]
    assert any("not offered as tflite" in n and "pip install onnx2tf" in n for n in report.notes)


def test_a_converter_that_fails_is_a_note(zoo: Path, tmp_path: Path, program: Callable[[str], None]) -> None:
    program("echo it has had enough; exit 3")
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW]
    (note,) = (n for n in report.notes if "not offered as tflite" in n)
    assert "it has had enough" in note and "3 routes were tried" in note and len(note) < 800
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-converter", "fixed.onnx"]


def test_a_model_that_is_no_better_is_not_offered(zoo: Path, tmp_path: Path, program: Callable[[str], None]) -> None:
    program(f"mkdir made; cp {zoo / 'wrong.tflite'} made/model_float32.tflite")
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW]
    assert any("agrees no better than the target" in n for n in report.notes)
    assert not (tmp_path / "fixed.reconverted.tflite").exists()


def test_a_model_that_does_not_load_is_a_note(zoo: Path, tmp_path: Path, program: Callable[[str], None]) -> None:
    program("mkdir made; echo TFL3 is not enough > made/model_float32.tflite")
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW]
    assert any("none led to a model that runs" in n and "what onnx2tf makes fails" in n for n in report.notes)


def test_a_dry_run_offers_and_writes_nothing(zoo: Path, tmp_path: Path, program: Callable[[str], None]) -> None:
    program(f"mkdir made; cp {zoo / 'right.tflite'} made/model_float32.tflite")
    report = mend(zoo, tmp_path / "fixed.tflite", apply=False)
    assert offers(report) == [VIEW, AGAIN] and {o.sha256 for o in report.offers} == {""}
    assert sum("--apply" in n for n in report.notes) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a-converter"]


def test_files_that_are_there_stay_as_they_are(zoo: Path, tmp_path: Path, program: Callable[[str], None]) -> None:
    program(f"mkdir made; cp {zoo / 'right.tflite'} made/model_float32.tflite")
    taken = [tmp_path / VIEW[0], tmp_path / AGAIN[0]]
    for path in taken:
        path.write_text("mine")
    report = mend(zoo, tmp_path / "fixed.tflite")
    assert offers(report) == [VIEW, AGAIN] and {o.sha256 for o in report.offers} == {""}
    assert all(any(f"{path} exists already" in n for n in report.notes) for path in taken)
    assert [path.read_text() for path in taken] == ["mine", "mine"]
