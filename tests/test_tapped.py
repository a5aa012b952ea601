"""Where a lift is wrong or cannot be made, the native runtimes tell the introducing layers, and only those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fetafix import api, tapped
from fetafix.errors import LiftError
from fetafix.formats.base import Taps
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Array
from fetafix.options import Options
from fetafix.parallel import ModelProcess
from fetafix.report import Report, Verdict
from tests import unliftable


def worse(weight):  # type: ignore[no-untyped-def]
    return weight * 1.7 + 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tapped")
    unliftable.exported(made / "good.onnx")
    unliftable.exported(made / "left.onnx", left__0__weight=worse)
    unliftable.saved(made / "good.pt")
    unliftable.saved(made / "two.pt", left__0__weight=worse, head__bias=lambda b: b + 1)
    unliftable.pictures(made / "x.npy")
    return made


def run(command: str, folder: Path, source: str, target: str, **options: str) -> Report:
    wanted = Options(data=folder / "x.npy", samples=12, threads=1, trust=True, **options)  # type: ignore[arg-type]
    return getattr(api, command)(folder / source, folder / target, wanted)  # type: ignore[no-any-return]


def layers(report: Report) -> list[str | None]:
    assert {f.code for f in report.findings} <= {tapped.CODE}
    return [f.target_layer for f in report.findings]


def test_an_operator_that_cannot_be_exported(folder: Path) -> None:
    report = run("localize", folder, "good.onnx", "two.pt", target_arch="tests.unliftable:foreign")
    assert layers(report) == ["left.0", "head"]
    assert [f.source_layer for f in report.findings] == ["/left/left.0/Conv", "/head/Gemm"]
    assert all(f.evidence["proved_by_forcing"] for f in report.findings)
    notes = " ".join(report.notes)
    assert "no ONNX exporter can export it" in notes and "of the target in its own runtime" in notes


def test_an_operator_that_is_exported_wrongly(folder: Path) -> None:
    """The wrong lift is the lift's fault: the layer that it gets wrong is not blamed."""
    report = run("repair", folder, "good.onnx", "two.pt", target_arch="tests.unliftable:forked")
    assert layers(report) == ["left.0", "head"]
    assert "the lift is wrong, not your model" in " ".join(report.notes)
    assert report.verdict is Verdict.DIVERGENT and not report.repairs and report.output is None
    assert "Nothing can be repaired" in report.reason and report.exit_code == 1


def test_only_the_source_cannot_be_lifted(folder: Path) -> None:
    report = run("localize", folder, "good.pt", "left.onnx", source_arch="tests.unliftable:foreign")
    assert layers(report) == ["/left/left.0/Conv"] and report.findings[0].source_layer == "left.0"
    assert report.findings[0].evidence["compared"] == "in its ONNX view"


def test_neither_can_be_lifted(folder: Path) -> None:
    arch = "tests.unliftable:"
    report = run("localize", folder, "good.pt", "two.pt", source_arch=f"{arch}foreign", target_arch=f"{arch}forked")
    assert layers(report) == ["left.0", "head"]


def test_equal_models_are_not_looked_into(folder: Path) -> None:
    report = run("localize", folder, "good.onnx", "good.pt", target_arch="tests.unliftable:foreign")
    assert report.verdict is Verdict.EQUIVALENT and not report.findings


class Unforced:
    """The taps of a lifted file, for which nobody can force values."""

    how = "in its own runtime"

    def __init__(self, path: Path, feeds: Mapping[str, Array]) -> None:
        self._view = tapped.LiftedView(graph := load_graph(path), tapped.Names(graph, {}), feeds, Evaluator())

    def taps(self, forced: Mapping[str, Array]) -> Taps:
        if forced:
            raise LiftError("its layers cannot be forced")
        return self._view.taps({})


def test_without_forcing_only_the_first_is_named(folder: Path) -> None:
    feeds = {"x": np.load(folder / "x.npy")[:4]}
    bad = unliftable.exported(folder / "two.onnx", stem__0__weight=worse, head__bias=lambda b: b + 1)
    source = Unforced(folder / "good.onnx", feeds).taps({})
    _, found, behind, forced = tapped._search(source, Unforced(bad, feeds), {"y": "y"})
    assert [[t.layer for t in f.layers] for f in found] == [["/stem/stem.0/Conv"]]
    assert not forced and not found[0].proved and behind > 5


def test_forcing_what_is_not_the_fault_proves_nothing(folder: Path) -> None:
    """The fault lies in a branch; its join is fed wrongly, but never blamed."""
    feeds = {"x": np.load(folder / "x.npy")[:4]}
    view = tapped.LiftedView(graph := load_graph(folder / "left.onnx"), tapped.Names(graph, {}), feeds, Evaluator())
    source = Unforced(folder / "good.onnx", feeds).taps({})
    _, found, behind, forced = tapped._search(source, view, {"y": "y"})
    assert [[t.layer for t in f.layers] for f in found] == [["/left/left.0/Conv"]]
    assert forced and behind == 0 and found[0].proved


@pytest.mark.parametrize(("file", "arch"), [("good.onnx", None), ("good.pt", "foreign"), ("good.pt", "forked")])
def test_taps_change_no_output_and_forced_values_flow_on(folder: Path, file: str, arch: str | None) -> None:
    from fetafix.formats.base import OpenOptions

    x = np.load(folder / "x.npy")[:3]
    options = OpenOptions(threads=1, trust=True, arch=arch and f"tests.unliftable:{arch}")
    with ModelProcess(folder / file, options) as model:
        name, output = model.info().inputs[0].name, "y" if arch is None else "output"
        own = model.run({name: x[None]}, batched=False)[output][0]
        taps = model.tap({name: x})
        np.testing.assert_allclose(taps.values[output], own, rtol=1e-5, atol=1e-6)
        made = {o for t in taps.layers for o in t.outputs}
        assert output in made and name in taps.values
        assert all(i in made | {name} for t in taps.layers for i in t.inputs)
        conv = next(t for t in taps.layers if "left.0" in t.layer)
        forced = model.tap({name: x}, {conv.outputs[0]: np.zeros_like(taps.values[conv.outputs[0]])})
        assert not forced.values[conv.outputs[0]].any()
        assert np.abs(forced.values[output] - own).max() > 1e-3
        after = next(t for t in forced.layers if "left.1" in t.layer)
        assert not forced.values[after.outputs[0]].any()
        np.testing.assert_array_equal(model.run({name: x[None]}, batched=False)[output][0], own)
