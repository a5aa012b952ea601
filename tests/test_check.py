"""check() on real models in real runtimes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix.api import Options, check
from fetafix.errors import InputDataError, UsageError
from fetafix.report import Report, Verdict, from_json, to_json
from tests.small_models import cnn, node, save, weights

FEW = {"samples": 24}


def images(path: Path, n: int = 60) -> Path:
    rng = np.random.default_rng(5)
    flat = rng.uniform(0, 1, (n, 3, 1, 1)) + rng.normal(size=(n, 3, 16, 16)) * 0.2
    np.save(path, flat.astype(np.float32))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return images(tmp_path / "data.npy")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return cnn(tmp_path / "source.onnx")


def scaled(name: str, factor: float) -> dict[str, np.ndarray]:
    return {name: weights()[name] * np.float32(factor)}


def test_a_model_agrees_with_itself(source: Path, data: Path) -> None:
    report = check(source, source, Options(data=data))
    assert (report.verdict, report.passed, report.exit_code, report.gate) == (Verdict.EQUIVALENT, True, 0, "labels")
    a = report.agreement
    assert a is not None and a.samples == 60
    assert (a.top1, a.top5, a.kendall_tau, a.max_abs, a.mean_abs) == (1.0, 1.0, 1.0, 0.0, 0.0)
    assert a.top1_bounds == pytest.approx((0.9404, 1.0), abs=1e-4)
    assert a.noise_floor is not None and 0 < a.noise_floor < 1e-3
    assert a.tolerance is not None and a.tolerance >= a.noise_floor
    assert (report.samples.search, report.samples.heldout, report.samples.stopped_early) == (30, 30, False)
    assert report.source.sha256 == report.target.sha256 != ""
    assert {"open", "inputs", "noise", "run", "total"} <= set(report.timings)
    assert from_json(to_json(report)) == report


def test_figures_are_those_of_a_plain_script(source: Path, data: Path, tmp_path: Path) -> None:
    import onnxruntime as ort

    target = cnn(tmp_path / "t.onnx", change=scaled("w1", 1.3))
    report = check(source, target, Options(data=data, max_mismatch=0.3, confidence=1 - 1e-12))
    x = np.load(data)
    s, t = (ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
            for p in (source, target))
    a = report.agreement
    assert a is not None and a.samples == 60
    assert a.top1 == pytest.approx(np.mean(s.argmax(1) == t.argmax(1)))
    assert a.max_abs == pytest.approx(np.abs(s - t).max(), rel=1e-5)
    assert a.mean_abs == pytest.approx(np.abs(s - t).mean(), rel=1e-5)
    assert a.cosine == pytest.approx((s * t).sum() / np.linalg.norm(s) / np.linalg.norm(t), abs=1e-5)
    assert 0 < a.top1 < 1 and len(a.mismatches) == round(60 * (1 - a.top1))
    assert a.kendall_tau is not None and 0 < a.kendall_tau < 1


def test_drift_passes_labels_and_fails_numbers(source: Path, data: Path, tmp_path: Path) -> None:
    target = cnn(tmp_path / "t.onnx", change={"b1": weights()["b1"] + np.float32(1e-3)})
    by_labels = check(source, target, Options(data=data))
    assert (by_labels.verdict, by_labels.exit_code) == (Verdict.DRIFTING, 0), by_labels.reason
    by_numbers = check(source, target, Options(data=data, gate="numeric"))
    assert (by_numbers.verdict, by_numbers.exit_code) == (Verdict.DRIFTING, 1)
    allowed = check(source, target, Options(data=data, gate="numeric", tolerance={"y_": {"max_abs": 0.5}}))
    assert (allowed.verdict, allowed.exit_code) == (Verdict.EQUIVALENT, 0)
    assert allowed.agreement is not None and allowed.agreement.tolerance == 0.5


def test_unlike_models_are_decided_early(source: Path, data: Path, tmp_path: Path) -> None:
    report = check(source, cnn(tmp_path / "t.onnx", seed=7), Options(data=data))
    assert (report.verdict, report.exit_code) == (Verdict.DIVERGENT, 1)
    assert report.samples.stopped_early
    assert report.agreement is not None
    assert report.agreement.samples == report.samples.search + report.samples.heldout < 60
    assert report.agreement.mismatches


def test_allowed_mismatch(source: Path, data: Path, tmp_path: Path) -> None:
    target = cnn(tmp_path / "t.onnx", change=scaled("w1", 1.3))
    strict = check(source, target, Options(data=data))
    lax = check(source, target, Options(data=data, max_mismatch=0.95))
    assert (strict.exit_code, lax.exit_code) == (1, 0)
    assert lax.verdict is Verdict.DRIFTING and "allowed" in lax.reason


def test_same_seed_same_report(source: Path, tmp_path: Path) -> None:
    target = cnn(tmp_path / "t.onnx", change=scaled("w1", 1.1))

    def once(seed: int) -> Report:
        return msgspec.structs.replace(check(source, target, Options(seed=seed, **FEW)), timings={})

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_synthetic_inputs_are_named_as_such(source: Path) -> None:
    assert "synthetic" in check(source, source, Options(**FEW)).samples.origin


def test_other_layout_of_the_input(source: Path, data: Path, tmp_path: Path) -> None:
    for batch in ("N", 1):
        target = cnn(tmp_path / "t.onnx", batch=batch, layout="nhwc", output="Identity")
        report = check(source, target, Options(data=data, **FEW))
        assert report.verdict is Verdict.EQUIVALENT, report.reason
        back = check(target, source, Options(data=data, **FEW))
        assert back.verdict is Verdict.EQUIVALENT, back.reason


def test_missing_softmax_drifts(source: Path, data: Path, tmp_path: Path) -> None:
    report = check(source, cnn(tmp_path / "t.onnx", tail="Softmax"), Options(data=data, **FEW))
    assert report.verdict is Verdict.DRIFTING
    assert report.agreement is not None and report.agreement.top1 == 1.0
    assert report.agreement.kendall_tau == pytest.approx(1.0, abs=0.05)


def test_another_number_of_classes(source: Path, data: Path, tmp_path: Path) -> None:
    w = weights()
    shifted = {
        "w2": np.concatenate([np.zeros((1, 8), np.float32), w["w2"]]), "b2": np.append(np.float32(-9), w["b2"]),
    }
    target = cnn(tmp_path / "t.onnx", classes=11, change=shifted, centred=False)
    report = check(cnn(tmp_path / "s.onnx", centred=False), target, Options(data=data, **FEW))
    assert (report.verdict, report.exit_code) == (Verdict.DIVERGENT, 1)
    assert "[11]" in report.reason and "[10]" in report.reason
    assert report.agreement is not None and report.agreement.top1 == 0.0


def nan_model(path: Path, when: str) -> Path:
    """Log of the first pixel's mean: NaN for negative values."""
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"])]
    nodes += [node("Sub", ["f", "c"], ["d"]), node("Log", ["d"], ["y"])] if when == "always" else [
        node("Identity", ["f"], ["y"])]
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 3]}, {"c": np.float32([9.0])})


def test_nan_in_the_target_diverges_in_the_source_is_undecided(data: Path, tmp_path: Path) -> None:
    sound, broken = nan_model(tmp_path / "s.onnx", "never"), nan_model(tmp_path / "b.onnx", "always")
    report = check(sound, broken, Options(data=data, **FEW))
    assert (report.verdict, report.exit_code) == (Verdict.DIVERGENT, 1)
    assert "NaN" in report.reason
    assert report.agreement is not None and report.agreement.outputs[0].nonfinite > 0
    to_json(report)
    for target in (sound, broken):
        report = check(broken, target, Options(data=data, **FEW))
        assert (report.verdict, report.exit_code) == (Verdict.UNDECIDED, 3)
        assert "source" in report.reason and "NaN" in report.reason


def batchnorm(path: Path, training: bool) -> Path:
    names = ["x", "scale", "shift", "mean", "var"]
    ones = {n: np.ones(3, np.float32) * (0.25 if n == "mean" else 1) for n in names[1:]}
    outputs = ["n", "m", "v"] if training else ["n"]
    nodes = [
        node("BatchNormalization", names, outputs, training_mode=int(training)), node("Flatten", ["n"], ["f"]),
        node("Slice", ["f", "from", "to", "axis"], ["y"]),
    ]
    picks = {"from": np.array([0]), "to": np.array([20]), "axis": np.array([1])}
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 20]}, {**ones, **picks})


def test_batch_norm_left_in_training_mode(data: Path, tmp_path: Path) -> None:
    good, bad = batchnorm(tmp_path / "s.onnx", False), batchnorm(tmp_path / "t.onnx", True)
    report = check(good, bad, Options(data=data, gate="numeric", **FEW))
    assert report.verdict in (Verdict.DIVERGENT, Verdict.DRIFTING) and report.exit_code == 1
    # ORT's running statistics change in place, so that even a repetition differs
    assert "batch normalisation in training mode" in report.reason
    assert any("target answers differently" in n for n in report.notes)
    healthy = check(good, good, Options(data=data, gate="numeric", **FEW))
    assert healthy.verdict is Verdict.EQUIVALENT
    assert not any("batch" in n or "run to run" in n for n in healthy.notes)


def centred_on_batch(path: Path, by_batch: bool) -> Path:
    """Subtracts a mean: of the batch, as batch normalisation in training mode does, or a constant."""
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"])]
    nodes += [node("ReduceMean", ["f"], ["m"], axes=[0])] if by_batch else [node("Identity", ["half"], ["m"])]
    nodes += [node("Sub", ["f", "m"], ["y"])]
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 3]}, {"half": np.float32([0.5] * 3)})


def test_dependence_on_batch_peers(data: Path, tmp_path: Path) -> None:
    good, bad = centred_on_batch(tmp_path / "s.onnx", False), centred_on_batch(tmp_path / "t.onnx", True)
    report = check(good, bad, Options(data=data, gate="numeric", **FEW))
    assert report.exit_code == 1 and "depends on the other samples in the batch" in report.reason
    assert any("target's answer to a sample depends" in n for n in report.notes)


def noisy(path: Path, live: bool) -> Path:
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"])]
    if live:
        nodes += [node("RandomNormalLike", ["f"], ["r"]), node("Add", ["f", "r"], ["y"])]
    else:
        nodes += [node("Identity", ["f"], ["y"])]
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 3]})


def test_random_target_diverges_random_source_is_undecided(data: Path, tmp_path: Path) -> None:
    steady, random = noisy(tmp_path / "s.onnx", False), noisy(tmp_path / "r.onnx", True)
    report = check(steady, random, Options(data=data, gate="numeric", **FEW))
    assert report.exit_code == 1 and "run to run" in report.reason
    report = check(random, steady, Options(data=data, **FEW))
    assert (report.verdict, report.exit_code) == (Verdict.UNDECIDED, 3)
    assert "run to run" in report.reason


def several(path: Path, swapped: bool = False, extra: bool = False, drop: bool = False, rename: str = "",
            order: tuple[int, ...] = (0, 1), factor: float = 1.0) -> Path:
    """Two inputs (one of ids), two outputs of one shape."""
    rng = np.random.default_rng(0)
    tensors = {
        "table": rng.normal(size=(20, 6)).astype(np.float32), "w": rng.normal(size=(6, 6)).astype(np.float32) * factor,
        "axes": np.array([1]),
    }
    names = [rename + n for n in (("b", "a") if swapped else ("a", "b"))]
    nodes = [
        node("Gather", ["table", "ids"], ["e"]), node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        node("Add", ["m", "v"], ["s"]), node("MatMul", ["s", "w"], [names[0]]), node("Tanh", [names[0]], [names[1]]),
    ]
    outputs: dict[str, list[int | str]] = {rename + "ab"[i]: ["N", 6] for i in order}
    if extra:
        nodes.append(node("Neg", ["s"], ["more"]))
        outputs["more"] = ["N", 6]
    if drop:
        del outputs[rename + "b"]
    del tensors["axes"]
    return save(path, nodes, {"ids": ["N", 5], "v": ["N", 6]}, outputs, tensors, integers=["ids"])


def pairs(path: Path, n: int = 30) -> Path:
    rng = np.random.default_rng(1)
    np.savez(path, ids=rng.integers(0, 20, (n, 5)), v=rng.normal(size=(n, 6)).astype(np.float32))
    return path


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    data, source = pairs(tmp_path / "data.npz"), several(tmp_path / "s.onnx")
    report = check(source, several(tmp_path / "t.onnx", rename="o_", order=(1, 0)), Options(data=data))
    assert (report.verdict, report.gate) == (Verdict.EQUIVALENT, "numeric"), report.reason
    assert report.agreement is not None
    assert {(o.source, o.target) for o in report.agreement.outputs} == {("a", "o_a"), ("b", "o_b")}
    worse = check(source, several(tmp_path / "w.onnx", factor=1.1), Options(data=data))
    assert (worse.verdict, worse.exit_code) == (Verdict.DIVERGENT, 1)


def test_extra_missing_and_swapped_outputs(tmp_path: Path) -> None:
    data, source = pairs(tmp_path / "data.npz"), several(tmp_path / "s.onnx")
    extra = check(source, several(tmp_path / "e.onnx", extra=True), Options(data=data))
    assert extra.verdict is Verdict.EQUIVALENT and any("'more'" in n for n in extra.notes)
    missing = check(source, several(tmp_path / "m.onnx", drop=True), Options(data=data))
    assert missing.verdict is Verdict.DIVERGENT and "lacks the source's output 'b'" in missing.reason
    swapped = check(source, several(tmp_path / "x.onnx", swapped=True), Options(data=data))
    assert swapped.verdict is Verdict.DIVERGENT and "swapped" in swapped.reason


def test_baked_batch(data: Path, tmp_path: Path) -> None:
    def model(path: Path, shape: list[int]) -> Path:
        nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Reshape", ["p", "shape"], ["y"])]
        return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 3]}, {"shape": np.array(shape)})

    source, target = model(tmp_path / "s.onnx", [0, -1]), model(tmp_path / "t.onnx", [1, 3])
    report = check(source, target, Options(data=data, **FEW))
    assert (report.verdict, report.exit_code) == (Verdict.DIVERGENT, 1)
    assert "several samples at once" in report.reason


def test_fixed_batch_of_one_is_no_fault(source: Path, data: Path, tmp_path: Path) -> None:
    single = cnn(tmp_path / "t.onnx", batch=1)
    for pair in ((source, single), (single, source), (single, single)):
        report = check(*pair, Options(data=data, **FEW))
        assert report.verdict is Verdict.EQUIVALENT, report.reason


def test_a_target_need_not_take_batches_that_the_source_cannot_take(data: Path, tmp_path: Path) -> None:
    def model(path: Path, batch: int | str) -> Path:
        nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Reshape", ["p", "shape"], ["y"])]
        return save(path, nodes, {"x": [batch, 3, 16, 16]}, {"y": [batch, 3]}, {"shape": np.array([1, 3])})

    report = check(model(tmp_path / "s.onnx", 1), model(tmp_path / "t.onnx", "N"), Options(data=data, **FEW))
    assert report.verdict is Verdict.EQUIVALENT, report.reason


def test_fixed_batch_of_four(source: Path, data: Path, tmp_path: Path) -> None:
    report = check(source, cnn(tmp_path / "t.onnx", batch=4), Options(data=data, **FEW))
    assert report.verdict is Verdict.EQUIVALENT, report.reason


def test_models_with_mismatching_inputs(source: Path, tmp_path: Path) -> None:
    other = several(tmp_path / "o.onnx")
    with pytest.raises(InputDataError, match="inputs do not match"):
        check(source, other, Options(**FEW))


@pytest.mark.parametrize("content", [b"", b"not a model", None])
@pytest.mark.parametrize("side", [0, 1])
def test_a_model_that_cannot_be_opened_is_undecided(
    source: Path, tmp_path: Path, content: bytes | None, side: int
) -> None:
    bad = tmp_path / "bad.onnx"
    if content is not None:
        bad.write_bytes(content)
    report = check(*((bad, source) if side == 0 else (source, bad)), Options(**FEW))
    assert (report.verdict, report.exit_code, report.passed) == (Verdict.UNDECIDED, 3, None)
    assert "bad.onnx" in report.reason
    good = (report.target, report.source)[side]
    assert good.format == "onnx" and good.inputs


def test_a_runtime_that_fails_is_undecided(source: Path, data: Path, tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    target = save(tmp_path / "t.onnx", nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 10]}, {"shape": np.array([7, 10])})
    report = check(source, target, Options(data=data, **FEW))
    assert (report.verdict, report.exit_code) == (Verdict.UNDECIDED, 3)
    assert "t.onnx" in report.reason


def test_labels_gate_needs_labels(tmp_path: Path) -> None:
    data = tmp_path / "x.npy"
    np.save(data, np.random.default_rng(0).normal(size=(20, 3, 16, 16)).astype(np.float32))
    flat = save(tmp_path / "s.onnx", [node("Relu", ["x"], ["y"])], {"x": ["N", 3, 16, 16]}, {"y": ["N", 3, 16, 16]})
    assert check(flat, flat, Options(data=data)).gate == "numeric"
    with pytest.raises(UsageError, match="one score a class"):
        check(flat, flat, Options(data=data, gate="labels"))


def test_tolerance_for_an_unknown_output(source: Path) -> None:
    with pytest.raises(UsageError, match="no such output; outputs are y_"):
        check(source, source, Options(tolerance={"z": {"max_abs": 1}}, **FEW))


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 0}, {"rounds": 0}, {"max_mismatch": 1.5}, {"confidence": 1.0}, {"gate": "both"}, {"batch": 0}],
)
def test_options_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)) in str(caught.value)


def test_rounds_and_batch(source: Path, data: Path) -> None:
    report = check(source, source, Options(data=data, samples=20, rounds=2, batch=5))
    assert report.samples.rounds == 2
    assert 20 < report.samples.search + report.samples.heldout <= 40
    assert report.verdict is Verdict.EQUIVALENT


def test_progress_is_told(source: Path, data: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    check(source, source, Options(data=data, progress=lambda *a: seen.append(a)))
    assert ("comparing", 60, 60) in seen
