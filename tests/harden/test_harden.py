"""Hardening as a whole: written, explained, verified, struck, restored; every scheme and format that is promised."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from fetafix.errors import OutputError, UnreadableModel, UsageError
from fetafix.formats import stored
from fetafix.harden import Wish, explain, harden, restore, verify
from fetafix.harden.asked import Scheme
from fetafix.harden.proof import _Ran
from fetafix.options import Options
from fetafix.storage.flips import flip, positions
from fetafix.storage.holding import Held
from tests import small_models
from tests.faults.models import residual
from tests.formats import onnx_zoo
from tests.quantised import quantise

FEW = Options(samples=8, threads=1, search="off")


@pytest.fixture
def unrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify tensor by tensor alone: starting two runtimes takes seconds, and other tests do."""
    monkeypatch.setattr("fetafix.harden.proof._run", lambda source, plain, options: _Ran(None))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_models.cnn(tmp_path / "a.onnx")


def strike(path: Path, ber: float, seed: int = 0, only: bool = False) -> int:
    """Flip bits of a file, or of its float weights alone; how many."""
    if only:
        count = 0
        for held in stored.held(path):
            if held.role == "weight":
                codes = stored.read(held).view(np.uint32)
                where = positions(np.random.default_rng(seed), codes.size * 32, ber)
                flip(codes, where)
                stored.patch(path, held, codes.view(np.float32))
                count += where.size
        return count
    data = np.frombuffer(bytearray(path.read_bytes()), np.uint8)
    where = positions(np.random.default_rng(seed), data.size * 8, ber)
    flip(data, where)
    path.write_bytes(data.tobytes())
    return int(where.size)


@pytest.mark.parametrize(("scheme", "granularity"), [("scale", "tensor"), ("ceiling", "tensor"), ("guard", "channel")])
def test_onnx_in_place(model: Path, tmp_path: Path, scheme: Scheme, granularity: str) -> None:
    out = tmp_path / "b.onnx"
    report = harden(model, out, Wish(scheme=scheme, granularity=granularity))  # type: ignore[arg-type]
    assert report.files == [str(out)] and report.scheme == scheme and {w.dtype for w in report.weights} == {"fp32"}
    assert all(w.protected is not None and w.protected <= (w.unprotected or 0) for w in report.weights)
    proof = verify(model, out, FEW)
    assert proof.passed and {t.status for t in proof.tensors} == {"exact"} and proof.samples == 8
    assert proof.outputs is not None and set(proof.outputs.values()) == {0.0}
    told = explain(out)
    assert told.state == "protected" and [n for _, n in told.schemes] == [len(report.weights), 2]
    assert scheme in told.schemes[0][0] and granularity in told.schemes[0][0]
    assert any("at rest" in t for t in told.threats) and any("in RAM" in t for t in told.threats)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "q2.5", "int8", "q1.10"])
def test_onnx_in_fewer_bits_is_bounded(model: Path, tmp_path: Path, dtype: str, unrun: None) -> None:
    out = tmp_path / "b.onnx"
    harden(model, out, Wish(scheme="scale" if dtype[0] in "qi" else "guard", dtype=dtype))
    proof = verify(model, out, FEW)
    bounded = [t for t in proof.tensors if t.status == "bounded"]
    assert proof.passed and len(bounded) == 2 and all(0 < t.error <= t.bound for t in bounded)


def test_what_fewer_bits_do_end_to_end_is_told(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    harden(model, out, Wish(scheme="scale", dtype="int8"))
    proof = verify(model, out, FEW)
    assert proof.passed and "top-1 agrees" in proof.labels and "within the bound" in proof.reason
    assert proof.outputs is not None and all(v > 0 for v in proof.outputs.values())


def test_a_file_that_an_optimiser_has_stripped_is_told(model: Path, tmp_path: Path) -> None:
    out, folded = tmp_path / "b.onnx", tmp_path / "folded.onnx"
    harden(model, out, Wish(scheme="guard"))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folded)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    ort.InferenceSession(str(out), options)
    told = explain(folded)
    assert told.state == "stripped" and told.exit_code == 1 and "an optimiser has folded" in told.reason
    part = onnx.load(str(out))
    where = next(n for n in part.graph.node if n.output[0] == "w1")
    where.output[0] = "unused"  # as if one weight alone had been folded
    part.graph.initializer.append(onnx.numpy_helper.from_array(small_models.weights()["w1"], "w1"))
    for node in [n for n in part.graph.node if n.output[0] == "unused" or n.output[0].startswith("w1/")]:
        if not node.output[0].startswith("w1/bound"):
            part.graph.node.remove(node)
    onnx.save(part, str(folded))
    assert explain(folded).state == "partly" and explain(folded).exit_code == 1


def test_what_is_not_restored_is_told(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    harden(model, out, Wish(scheme="guard"))
    held = next(h for h in stored.held(out) if h.name == "w1/stored")
    values = stored.read(held)
    values[0, 0, 0, 0] *= np.float32(0.5)
    stored.patch(out, held, values)
    proof = verify(model, out, FEW)
    assert not proof.passed and proof.exit_code == 1
    assert [(t.name, t.status) for t in proof.tensors if t.status != "exact"] == [("w1", "off")]
    other = small_models.cnn(tmp_path / "other.onnx", seed=1)
    assert {t.status for t in verify(other, out, FEW).tensors} >= {"off"}


def test_secded_corrects_every_single_flip_of_a_word(model: Path, tmp_path: Path, unrun: None) -> None:
    out, back = tmp_path / "b.onnx", tmp_path / "c.onnx"
    report = harden(model, out, Wish(scheme="secded"))
    assert out.stat().st_size == model.stat().st_size and report.files == [str(out), f"{out}.fetafix.json"]
    weights: list[Held] = [h for h in stored.held(out) if h.role == "weight"]
    rng = np.random.default_rng(0)
    for held in weights:
        codes = stored.read(held).view(np.uint32)
        codes ^= (np.uint32(1) << rng.integers(0, 32, codes.shape).astype(np.uint32))
        stored.patch(out, held, codes.view(np.float32))
    assert "words have one flip" in explain(out).reason
    done = restore(out, back)
    assert done.corrected == sum(h.size for h in weights) and not done.lost and done.exit_code == 0
    proof = verify(model, out, FEW)
    assert proof.passed and {t.status for t in proof.tensors} == {"exact", "bounded"}
    largest = max(float(np.abs(stored.read(h)).max()) for h in stored.held(model) if h.role == "weight")
    assert 0 < max(t.error for t in proof.tensors) <= largest * 2.0**-18


@pytest.mark.parametrize("scheme", ["secded", "rs"])
def test_the_printed_loaders_need_numpy_alone(model: Path, tmp_path: Path, scheme: Scheme) -> None:
    out, back = tmp_path / "b.onnx", tmp_path / "c.onnx"
    harden(model, out, Wish(scheme=scheme))
    assert strike(out, 1e-3, only=scheme == "secded") > 5
    restore(out, back)
    code = explain(out).loader + "\nimport sys\nassert not [m for m in sys.modules if m.startswith('fetafix')]\n"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    if scheme == "rs":
        assert "bit by bit as it was" in run.stdout
        assert (tmp_path / "b.onnx.restored").read_bytes() == model.read_bytes() == back.read_bytes()
    else:
        assert out.read_bytes() == back.read_bytes()


def test_reed_solomon_restores_any_file(tmp_path: Path) -> None:
    path, out, back = tmp_path / "any.bin", tmp_path / "b.bin", tmp_path / "c.bin"
    path.write_bytes(np.random.default_rng(0).bytes(30_000))
    report = harden(path, out, Wish(scheme="rs"))
    assert out.read_bytes() == path.read_bytes() and report.size == pytest.approx(1.07, abs=0.01)
    assert "as it was" in explain(out).reason
    strike(out, 5e-4, 1)
    strike(tmp_path / "b.bin.fetafix-rs", 5e-4, 2)
    assert "struck" in explain(out).reason
    assert verify(path, out, FEW).passed
    done = restore(out, back)
    assert done.exact and done.corrected and back.read_bytes() == path.read_bytes()
    strike(out, 5e-2, 3)
    lost = restore(out, back)
    assert lost.exit_code == 1 and lost.lost and not lost.exact
    assert not verify(path, out, FEW).passed


@pytest.mark.parametrize("scheme", ["guard", "secded", "rs"])
def test_weights_apart(tmp_path: Path, scheme: Scheme, unrun: None) -> None:
    path = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "a.onnx", external=True)
    before = (tmp_path / "a.onnx.bin").read_bytes()
    folder, back = tmp_path / "hard", tmp_path / "back"
    folder.mkdir(), back.mkdir()
    harden(path, folder / "b.onnx", Wish(scheme=scheme))
    if scheme == "rs":
        strike(folder / "a.onnx.bin", 5e-4)
    assert verify(path, folder / "b.onnx", FEW).passed
    restore(folder / "b.onnx", back / "c.onnx")
    assert (tmp_path / "a.onnx.bin").read_bytes() == before
    feeds = {"image": np.random.default_rng(0).normal(size=(2, *onnx_zoo.ITEM)).astype(np.float32)}
    a, c = (ort.InferenceSession(str(p)).run(None, feeds)[0] for p in (path, back / "c.onnx"))
    assert np.abs(a - c).max() < 1e-3 and (scheme == "secded" or np.array_equal(a, c))
    if scheme == "secded":
        with pytest.raises(OutputError, match="another folder"):
            harden(path, tmp_path / "b.onnx", Wish(scheme=scheme))


def state_dict(path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).state_dict(), path)
    return path


@pytest.mark.parametrize("scheme", ["scale", "guard", "ceiling", "secded", "rs", "auto"])
def test_state_dicts(tmp_path: Path, scheme: Scheme) -> None:
    path, out = state_dict(tmp_path / "a.pt"), tmp_path / "b.pt"
    report = harden(path, out, Wish(scheme=scheme))
    proof = verify(path, out, FEW)
    assert proof.passed and proof.outputs is None and "nothing was run" in proof.reason
    assert ("--arch" in proof.notes[-1]) and (scheme != "auto" or report.why)
    assert explain(out).loader and explain(out).state == "protected"


def test_state_dicts_are_run_where_their_architecture_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arch.py").write_text("import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Linear(6, 5), "
                                      "torch.nn.ReLU(), torch.nn.Linear(5, 3))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, out = state_dict(tmp_path / "a.pt"), tmp_path / "b.pt"
    harden(path, out, Wish(scheme="guard"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32))
    options = Options(samples=8, threads=1, source_arch="arch:net", target_arch="arch:net", data=tmp_path / "x.npy")
    proof = verify(path, out, options)
    assert proof.passed and proof.outputs is not None and set(proof.outputs.values()) == {0.0}


def test_tflite_takes_int8_and_refuses_the_rest(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    path, out = tfzoo("tflite_models") / "float.tflite", tmp_path / "b.tflite"
    report = harden(path, out, Wish(scheme="scale", dtype="int8"))
    assert report.size < 0.8 and report.weights
    proof = verify(path, out, FEW)
    assert proof.passed and any(t.status == "bounded" for t in proof.tensors) and proof.outputs
    assert max(proof.outputs.values()) < 1 and explain(out).state == "protected"
    others = ({"scheme": "guard"}, {"scheme": "ceiling"}, {"scheme": "scale"}, {"scheme": "scale", "dtype": "q2.5"})
    for wish in (Wish(**o) for o in others):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"(?s)cost at every inference.*--scheme rs"):
            harden(path, tmp_path / "c.tflite", wish)
    harden(path, out, Wish(scheme="secded"))
    assert strike(out, 2e-4, only=True) and verify(path, out, FEW).passed
    assert not (tmp_path / "c.tflite").exists()


def test_integer_models_are_told_what_can_be_done(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    path = tfzoo("tflite_models") / "int8.tflite"
    for wish in (Wish(scheme="scale", dtype="int8"), Wish(), Wish(scheme="secded")):
        with pytest.raises(UsageError, match="--scheme rs"):
            harden(path, tmp_path / "b.tflite", wish)
    assert harden(path, tmp_path / "b.tflite", Wish(scheme="rs")).size < 1.2


def test_integer_onnx_models_get_bounds_and_votes(tmp_path: Path, unrun: None) -> None:
    path, out = quantise(residual(seed=3, channels=4), "int8 per tensor", tmp_path), tmp_path / "b.onnx"
    report = harden(path, out, Wish(scheme="guard"))
    assert any("voted on" in n for n in report.notes)
    proof = verify(path, out)
    assert proof.passed and {t.status for t in proof.tensors} == {"exact"}
    assert any("three copies" in what for what, _ in explain(out).schemes) and explain(out).state == "protected"
    for wish in (Wish(scheme="scale", dtype="int8"), Wish()):
        with pytest.raises(UsageError, match="--scheme guard bounds"):
            harden(path, out, wish)


def test_auto_ranks_by_prediction_and_says_why(model: Path, tmp_path: Path) -> None:
    report = harden(model, tmp_path / "b.onnx")
    assert report.scheme == "guard" and [r.chosen for r in report.ranking].count(True) == 1
    assert next(r for r in report.ranking if r.chosen).scheme == "guard"
    by = {(r.scheme, r.granularity): r for r in report.ranking}
    assert by["rs", "file"].rms < by["guard", "tensor"].rms < by["ceiling", "tensor"].rms < by["none", "tensor"].rms
    assert by["secded", "word"].rms < by["guard", "channel"].rms
    assert not by["rs", "file"].stock and by["guard", "tensor"].stock
    assert "where you control the loader" in report.why.lower() and "0.0001" in report.why
    fixed = harden(model, tmp_path / "c.onnx", Wish(dtype="int8", constants="mse", design_ber=1e-2))
    assert (fixed.scheme, fixed.granularity) == ("scale", "channel")


def test_auto_measures_where_there_are_samples(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(12, 3, 16, 16)).astype(np.float32))
    report = harden(model, tmp_path / "b.onnx", Wish(data=tmp_path / "x.npy", design_ber=3e-3))
    assert sum(bool(r.measured) for r in report.ranking) == 2 and "measured on 12 samples" in report.why
    assert next(r for r in report.ranking if r.chosen).measured


def test_a_stale_sidecar_does_not_outlive_its_file(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    harden(model, out, Wish(scheme="rs"))
    harden(model, out, Wish(scheme="guard"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    assert "guard" in explain(out).schemes[0][0]


def test_refusals(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    for wrong in ({"scheme": "rs", "dtype": "fp16"}, {"scheme": "secded", "dtype": "bf16"}, {"dtype": "fp8"},
                  {"scheme": "ceiling", "dtype": "q2.5"}, {"scheme": "scale", "constants": "mse"}, {"design_ber": 0.0},
                  {"scheme": "magic"}, {"granularity": "row"}, {"constants": "best"}):
        with pytest.raises(UsageError):
            Wish(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="never changed"):
        harden(model, model, Wish(scheme="guard"))
    with pytest.raises(UsageError, match="no protection is known"):
        restore(model, out)
    with pytest.raises(UsageError, match="a folder"):
        (tmp_path / "keras").mkdir()
        harden(tmp_path / "keras", out, Wish(scheme="rs"))
    (tmp_path / "text").write_text("no model at all")
    with pytest.raises(UnreadableModel):
        harden(tmp_path / "text", out, Wish(scheme="guard"))
    script = tmp_path / "s.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    with pytest.raises(UsageError, match="state dict"):
        harden(script, tmp_path / "t.pt", Wish(scheme="guard"))
    assert not out.exists() and explain(model).state == "plain"
