"""The error layer by layer: what a target carries, where it is introduced, what a repair leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from fetafix import api
from fetafix.exhibiting.layers import alone
from fetafix.exhibits import LayerError
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Graph, Node, Value
from fetafix.options import Options
from fetafix.report import Report, from_json, to_json
from tests import small_models
from tests.small_models import node, save

LAYERS = ["c", "r", "p", "f", "y"]


def roll(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name in ("b1", "b2"):
            value = np.roll(onnx.numpy_helper.to_array(tensor), 1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, the same with two biases rolled, another one, and one in NHWC whose input is read in another order."""
    folder = tmp_path_factory.mktemp("layers")
    small_models.cnn(folder / "source.onnx")
    small_models.cnn(folder / "nhwc.onnx", layout="nhwc", change={"b1": np.zeros(8, np.float32)})
    small_models.cnn(folder / "other.onnx", seed=3)
    model = onnx.load(folder / "source.onnx")
    roll(model)
    onnx.save(model, folder / "target.onnx")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.random((24, 3, 16, 16), np.float32) * rng.random((24, 3, 1, 1), np.float32))
    return folder


def run(place: Path, command: str, target: str, **changes: Any) -> Report:
    usual = {"data": place / "x.npy", "samples": 24, "threads": 1, "search": "off", "exhibits": True}
    wanted = Options(**usual | changes)
    return getattr(api, command)(place / "source.onnx", place / target, wanted)  # type: ignore[no-any-return]


def rows(report: Report) -> dict[str, LayerError]:
    assert report.exhibits is not None
    made = {r.target_layer: r for r in report.exhibits.layers}
    assert len(made) == len(report.exhibits.layers)
    return made


def test_what_is_introduced_and_what_is_carried_on(place: Path) -> None:
    report = run(place, "localize", "target.onnx")
    made = rows(report)
    assert [f.code for f in report.findings] == ["wb-bias", "wb-bias"]
    assert [n for n in made if n in LAYERS] == LAYERS and all(r.source_layer == n for n, r in made.items())
    assert {n: r.findings for n, r in made.items() if r.guilty} == {"c": [0], "y": [1]}
    first, second = report.findings
    assert made["c"].introduced == first.local_error and made["y"].introduced == second.local_error
    assert made["c"].carried == pytest.approx(made["c"].introduced)
    for name in ("r", "p", "f"):
        assert made[name].carried > 0.01 and made[name].introduced < 1e-6  # type: ignore[operator]
    assert all(r.after is None for r in made.values())


def test_what_a_repair_leaves(place: Path) -> None:
    made = rows(run(place, "repair", "target.onnx"))
    assert all(r.after is not None and r.after < 1e-6 for r in made.values())
    assert made["y"].carried > 0.01 and made["y"].op == "Gemm"  # type: ignore[operator]


def test_layouts_are_seen_through(place: Path) -> None:
    report = run(place, "localize", "nhwc.onnx")
    made = rows(report)
    assert {n for n, r in made.items() if r.guilty} == {"c"} and made["x"].carried == 0 and made["x"].op == "Transpose"


def test_an_input_that_is_prepared_otherwise(place: Path) -> None:
    np.save(place / "bytes.npy", np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8))
    report = run(place, "repair", "source.onnx", data=place / "bytes.npy", source_preprocess="scale=0.00392",
                 target_preprocess="raw", trust=True)
    assert report.exhibits is not None and [f.category for f in report.findings] == ["PP"]
    first = report.exhibits.layers[0]
    assert (first.target_layer, first.op, first.guilty, first.findings) == ("x", "input", True, [0])
    assert first.carried > 10 and first.after < 1e-3  # type: ignore[operator]
    assert all(r.introduced < 1e-5 for r in report.exhibits.layers[1:])  # type: ignore[operator]
    assert report.exhibits.neighbourhoods[0].target is None


def test_unrelated_networks(place: Path) -> None:
    report = run(place, "localize", "other.onnx")
    assert all(r.introduced is not None for r in rows(report).values())


def test_the_same_seed_shows_the_same_and_costs_nothing_unasked(place: Path) -> None:
    for command in ("check", "repair"):
        first, second, without = (run(place, command, "target.onnx", exhibits=e) for e in (True, True, False))
        bare = [msgspec.structs.replace(r, timings={}) for r in (first, second)]
        assert to_json(bare[0]) == to_json(bare[1]) and from_json(to_json(first)) == first
        assert without.exhibits is None and "exhibits" not in without.timings
        assert msgspec.structs.replace(bare[0], exhibits=None) == msgspec.structs.replace(without, timings={})


def test_a_target_that_cannot_run_to_its_end() -> None:
    value = Value("x", np.dtype(np.float32), (2, 3))
    nodes = (Node("Relu", ("x",), ("a",)), Node("Sigmoid", ("a",), ("b",)), Node("Reshape", ("b", "s"), ("c",)),
             Node("Relu", ("c",), ("d",)))
    graph = Graph(nodes, {"s": np.array([4, 4])}, (value,), (Value("d", value.dtype),), {"": 17})
    feeds = {"x": np.ones((2, 3), np.float32)}
    assert [n for n, _ in alone(graph, feeds, Evaluator())] == ["x", "a", "b"]
    whole = replace(graph, initializers={"s": np.array([3, 2])})
    assert [n for n, _ in alone(whole, feeds, Evaluator())] == ["x", "a", "b", "c", "d"]


def test_a_deep_network(tmp_path: Path) -> None:
    """Eighty layers, one of them wrong."""
    depth, rng = 80, np.random.default_rng(0)
    scales = {f"s{i}": rng.uniform(0.9, 1.1, 6).astype(np.float32) for i in range(depth)}
    for name, change in (("source", {}), ("target", {"s60": scales["s60"][::-1].copy()})):
        nodes = [n for i in range(depth // 2) for n in (
            node("Mul", [f"t{2 * i}", f"s{2 * i}"], [f"t{2 * i + 1}"]),
            node("Sin", [f"t{2 * i + 1}"], [f"t{2 * i + 2}"]))]
        save(tmp_path / f"{name}.onnx", nodes, {"t0": (None, 6)}, {f"t{depth}": (None, 6)}, scales | change)
    np.save(tmp_path / "x.npy", rng.normal(size=(8, 6)).astype(np.float32))
    report = api.localize(tmp_path / "source.onnx", tmp_path / "target.onnx",
                          Options(data=tmp_path / "x.npy", exhibits=True, search="off"))
    assert report.exhibits is not None and len(report.exhibits.layers) == depth
    assert [r.target_layer for r in report.exhibits.layers if r.guilty] == ["t61"]
    assert [r.target_layer for r in report.exhibits.layers] == [f"t{i + 1}" for i in range(depth)]
