"""Faults that the samples do not show: found beside them, reported as such, located, repaired and proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto

from fetafix import api
from fetafix.errors import UsageError
from fetafix.report import Report, Verdict
from tests.commands import invoke
from tests.small_models import node, save

RNG = np.random.default_rng(0)
Array = np.ndarray
Tensors = dict[str, Array]


def normal(*shape: int, scale: float | None = None) -> Array:
    spread = 1 / np.sqrt(np.prod(shape[1:])) if scale is None else scale
    return (RNG.normal(size=shape) * spread).astype(np.float32)


W1, B1, W2, B2 = normal(6, 3, 3, 3), normal(6, scale=0.1), normal(5, 6), normal(5, scale=0.1)
GRU = {"w": normal(1, 12, 3), "r": normal(1, 12, 4), "b": normal(1, 24, scale=0.5)}
GRU["b"][:, -4:] = 0  # then both forms of the gate agree on the first step, whose state is zero
IMAGES = RNG.normal(size=(40, 3, 8, 8)).astype(np.float32)


def network(path: Path, middle: Sequence[NodeProto], more: Tensors, side: int | str = 8, bias: float = 0.0) -> Path:
    """A Conv, some nodes from "c" to "r", and a classifier."""
    w, b = (np.abs(W1) / 10, np.abs(B1) + bias) if bias else (W1, B1)
    nodes = [node("Conv", ["x", "w1", "b1"], ["c"], kernel_shape=[3, 3], pads=[1] * 4), *middle,
             node("GlobalAveragePool", ["r"], ["g"]), node("Flatten", ["g"], ["f"]),
             node("Gemm", ["f", "w2", "b2"], ["scores"], transB=1)]
    sides = [side, side] if isinstance(side, int) else [f"{side}H", f"{side}W"]
    return save(path, nodes, {"x": ["N", 3, *sides]}, {"scores": ["N", 5]},
                {"w1": w, "b1": b.astype(np.float32), "w2": W2, "b2": B2, **more})


def clip(path: Path, healthy: bool) -> Path:
    bounds = {"lo": np.float32(0), "hi": np.float32(1.5)}
    more = {k: np.asarray(v) for k, v in bounds.items() if healthy or k == "lo"}
    return network(path, [node("Clip", ["c", *more], ["r"])], more)


def leaky(path: Path, healthy: bool, bias: float = 1.0) -> Path:
    return network(path, [node("LeakyRelu", ["c"], ["r"], alpha=0.3 if healthy else 0.01)], {}, bias=bias)


def ceil(path: Path, healthy: bool) -> Path:
    pool = node("AveragePool", ["c"], ["r"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=int(not healthy))
    return network(path, [pool], {}, side="any")


def gru(path: Path, healthy: bool) -> Path:
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
             node("GRU", ["t", "w", "r", "b"], ["y", "h"], hidden_size=4, linear_before_reset=int(healthy)),
             node("Squeeze", ["h", "axes"], ["s"]), node("Gemm", ["s", "w2", "b2"], ["scores"], transB=1)]
    more = {**GRU, "axes": np.array([0]), "w2": W2[:, :4].copy(), "b2": B2}
    return save(path, nodes, {"x": ["N", "T", 3]}, {"scores": ["N", 5]}, more)


def ties(path: Path, healthy: bool) -> Path:
    nodes = [node("Relu", ["x"], ["a"]), node("Add", ["a", "place"], ["b"]),
             node("ArgMax", ["b"], ["i"], axis=1, keepdims=0, select_last_index=int(not healthy)),
             node("Cast", ["i"], ["where"], to=1)]
    return save(path, nodes, {"x": ["N", 6, 8]}, {"where": ["N", 8]}, {"place": np.zeros((1, 6, 1), np.float32)})


def mixed(path: Path, healthy: bool) -> Path:
    """Every third sample of a batch gets the answer of the first: alone and in pairs all is well."""
    middle = [] if healthy else [
        node("Shape", ["f"], ["n"], end=1), node("Squeeze", ["n", "axes"], ["count"]),
        node("Range", ["zero", "count", "one"], ["at"]), node("Mod", ["at", "two"], ["back"]),
        node("Gather", ["f", "back"], ["g"], axis=0),
    ]  # fmt: skip
    more = {} if healthy else {n: np.array(v) for n, v in (("zero", 0), ("one", 1), ("two", 2), ("axes", [0]))}
    nodes = [node("Flatten", ["x"], ["f"]), *middle,
             node("Gemm", ["f" if healthy else "g", "w2", "b2"], ["scores"], transB=1)]
    return save(path, nodes, {"x": ["N", 2, 3]}, {"scores": ["N", 5]}, {"w2": W2, "b2": B2, **more})


QUIET = IMAGES * np.linspace(0.1, 0.4, 40, dtype=np.float32)[:, None, None, None]
CASES: dict[str, tuple[Callable[[Path, bool], Path], Array, str, str]] = {
    "Clip max": (clip, QUIET, "drifting", "r"),
    "slope": (leaky, IMAGES, "divergent", "r"),
    "ceil_mode": (ceil, IMAGES, "divergent", "r"),
    "GRU at length": (gru, RNG.normal(size=(40, 1, 3)).astype(np.float32), "divergent", "y"),
    "ties": (ties, RNG.normal(size=(40, 6, 8)).astype(np.float32) + 3, "divergent", "i"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path, str]:
    make, data, *_ = CASES[request.param]
    np.save(tmp_path / "x.npy", data)
    return make(tmp_path / "a.onnx", True), make(tmp_path / "b.onnx", False), tmp_path / "x.npy", request.param


def test_the_search_shows_it_and_repair_mends_it(case: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    source, target, data, name = case
    *_, verdict, layer = CASES[name]
    hidden = api.check(source, target, api.Options(data=data, search="off"))
    assert (hidden.verdict, hidden.search) == (Verdict.EQUIVALENT, None)
    options = api.Options(data=data, search="quick")
    found = api.localize(source, target, options)
    assert found.verdict == verdict and found.passed is (verdict == "drifting")
    assert found.agreement is not None and found.agreement.max_abs == 0.0 and "searched beside them" in found.reason
    assert found.search is not None and found.search.found and found.search.shown[0].inside
    assert {f.target_layer for f in found.findings} == {layer} and len(found.findings) == 1
    out = tmp_path / "fixed.onnx"
    mended = api.repair(source, target, options, api.RepairOptions(output=out, apply=True))
    assert (mended.verdict, mended.passed) == (Verdict.REPAIRED, True)
    assert any("found beside the samples" in n for n in mended.notes)
    again = api.localize(source, out, options)
    assert (again.verdict, again.findings) == (Verdict.EQUIVALENT, [])
    assert again.search is not None and (again.search.found, again.search.outside) == (0, 0)


def both(tmp_path: Path, make: Callable[[Path, bool], Path], data: Array) -> tuple[Path, Path, Path]:
    np.save(tmp_path / "x.npy", data)
    return make(tmp_path / "a.onnx", True), make(tmp_path / "b.onnx", False), tmp_path / "x.npy"


def test_outside_the_range_is_a_note_and_no_finding(tmp_path: Path) -> None:
    source, target, data = both(tmp_path, partial(leaky, bias=0.1), np.abs(IMAGES))
    report = api.repair(source, target, api.Options(data=data, search="quick"))
    assert (report.verdict, report.findings, report.repairs) == (Verdict.EQUIVALENT, [], [])
    assert report.search is not None and report.search.outside and not report.search.found
    assert any("outside the range of the data the models differ" in n for n in report.notes)


def test_a_batch_of_three(tmp_path: Path) -> None:
    """With two samples nothing runs more than two at a time, but the search."""
    source, target, data = both(tmp_path, mixed, RNG.normal(size=(2, 2, 3)).astype(np.float32))
    assert api.check(source, target, api.Options(data=data, search="off")).verdict is Verdict.EQUIVALENT
    report = api.check(source, target, api.Options(data=data, search="quick", gate="numeric"))
    assert (report.verdict, report.passed) == (Verdict.DRIFTING, False) and report.search is not None
    assert {s.what for s in report.search.shown} == {"in a batch of 3"}


def test_ties_are_settled_by_a_look_inside(tmp_path: Path) -> None:
    """Positive values tie only where they are equal, and the least change breaks that: `check` cannot tell why."""
    source, target, data = both(tmp_path, ties, np.abs(RNG.normal(size=(40, 6, 8))).astype(np.float32) + 1)
    report = api.check(source, target, api.Options(data=data))
    assert report.verdict is Verdict.EQUIVALENT and report.search is not None and report.search.unsure
    assert any("hangs on rounding" in n for n in report.notes)
    report = api.localize(source, target, api.Options(data=data))
    assert report.verdict is Verdict.DIVERGENT and [f.target_layer for f in report.findings] == ["i"]


def halves(path: Path, healthy: bool) -> Path:
    """Which half of a row is larger; another form of the same computes the second half with other roundings."""
    w = np.kron(np.eye(2), np.full((4, 1), 0.25)).astype(np.float32)
    scale = np.array([1, 1 if healthy else 3], np.float32)
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Mul", ["m", "s"], ["h"]), node("ArgMax", ["h"], ["i"], axis=1),
             node("Cast", ["i"], ["where"], to=1)]
    return save(path, nodes, {"x": ["N", 8]}, {"where": ["N", 1]}, {"w": w * scale, "s": 1 / scale})


def test_rounding_that_breaks_ties_is_no_fault(tmp_path: Path) -> None:
    source, target, data = both(tmp_path, halves, RNG.normal(size=(40, 8)).astype(np.float32))
    report = api.localize(source, target, api.Options(data=data))
    assert (report.verdict, report.findings) == (Verdict.EQUIVALENT, [])
    assert report.search is not None and report.search.unsure and not report.search.found


def test_a_fault_behind_a_visible_one(tmp_path: Path) -> None:
    """The bias of the head is wrong on every sample; once that is healed, the lost bound shows."""
    def broken(path: Path, healthy: bool) -> Path:
        made = clip(path, healthy)
        if healthy:
            return made
        bounds = {"lo": np.asarray(np.float32(0)), "b2": B2 + np.array([0.5, 0, 0, -0.3, 0], np.float32)}
        return network(path, [node("Clip", ["c", "lo"], ["r"])], bounds)

    order = np.random.default_rng(3).permutation(40)
    source, target, data = both(tmp_path, broken, QUIET[order])
    alone = api.localize(source, target, api.Options(data=data, search="off"))
    assert [f.code for f in alone.findings] == ["wb-bias"]
    report = api.repair(source, target, api.Options(data=data, search="quick"))
    assert [f.code for f in report.findings] == ["wb-bias", "lh-relu6-max"]
    assert report.verdict is Verdict.REPAIRED
    kept = api.localize(source, target, api.Options(data=data, keep_worst=tmp_path / "w.npz"))
    assert kept.search is not None and kept.search.kept == [str(tmp_path / "w.npz")]


def test_the_worst_inputs_are_kept_and_show_it_again(tmp_path: Path) -> None:
    source, target, _ = both(tmp_path, clip, QUIET)
    done = invoke(tmp_path, "localize", "a.onnx", "b.onnx", "--data", "x.npy", "--search", "quick", "--keep-worst",
                  "worst.npz", "--gate", "numeric")
    assert done.code == 1 and "searched" in done.stdout and "worst.npz" in done.stdout, done.text
    assert not (tmp_path / "worst-2.npz").exists()  # inputs within the range alone
    with np.load(tmp_path / "worst.npz") as kept:
        assert kept["x"].shape[1:] == (3, 8, 8) and np.abs(kept["x"]).max() <= np.abs(QUIET).max() * (1 + 1e-6)
    again = api.check(source, target, api.Options(data=tmp_path / "worst.npz", search="off"))
    assert again.verdict is not Verdict.EQUIVALENT


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    source, target, data = both(tmp_path, clip, QUIET)
    first, second = (api.check(source, target, api.Options(data=data, search="deep", seed=3)) for _ in range(2))

    def told(report: Report) -> tuple[object, ...]:
        return report.verdict, report.reason, report.search

    assert told(first) == told(second) and first.search is not None and first.search.found


@pytest.mark.parametrize("wrong", [{"search": "thorough"}, {"keep_worst": "worst.npy"}])
def test_options_that_make_no_sense(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        api.Options(**wrong)  # type: ignore[arg-type]
