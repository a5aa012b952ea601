"""Pairs with a quantised model, from the files to the report: what int8 explains, and faults that it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fetafix.api import Options, RepairOptions, check, localize, repair
from fetafix.edits import apply
from fetafix.faults import catalogue
from fetafix.graph.proto import load_graph, model_from_graph
from fetafix.render import text
from fetafix.report import Report, Verdict, from_json, to_json
from tests import quantised as made
from tests.faults.support import with_shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network, its int8 form, and samples like those it was calibrated on."""
    made_in = tmp_path_factory.mktemp("pair")
    graph = made.NETWORKS["residual"]()
    made.save(graph, made_in / "net.onnx")
    made.quantise(graph, "int8 per channel", made_in).rename(made_in / "int8.onnx")
    np.save(made_in / "samples.npy", made.feeds(graph, 1, 48)["image"])
    return made_in


def options(folder: Path, **more: object) -> Options:
    return Options(data=folder / "samples.npy", samples=48, **more)  # type: ignore[arg-type]


def broken(folder: Path, code: str, seed: int) -> Path:
    """The int8 file with a fault of this type."""
    graph = load_graph(folder / "int8.onnx")
    shaped = with_shapes(graph, made.feeds(graph, 0))
    edits = catalogue()[code].inject(shaped, np.random.default_rng(seed))
    assert edits
    path = folder / f"{code}-{seed}.onnx"
    onnx.save(model_from_graph(replace(apply(shaped, edits), shapes={}), 9), str(path))
    return path


def test_a_sound_int8_model_is_told_apart_from_a_faulty_one(folder: Path) -> None:
    report = localize(folder / "net.onnx", folder / "int8.onnx", options(folder, gate="numeric"))
    found = report.quantisation
    assert report.verdict is Verdict.DRIFTING and not report.passed and report.exit_code == 1
    assert report.findings == [] and "no fault: every layer differs by no more than its int8 numbers" in report.reason
    assert found is not None and found.of == "target" and found.within
    assert found.activations.keys() == {"int8"} and found.weights["int8"] >= 7
    left = [row.unexplained for row in found.layers]
    assert left == sorted(left, reverse=True) and {row.rounds for row in found.layers} == {"weight", "activation"}
    assert all(row.unexplained**2 == pytest.approx(max(0, row.measured**2 - row.explained**2)) for row in found.layers)
    assert from_json(to_json(report)).quantisation == found


def test_the_text_shows_the_worst_layers_and_all_of_them_if_wanted(folder: Path) -> None:
    report = localize(folder / "net.onnx", folder / "int8.onnx", options(folder, gate="numeric"))
    assert report.quantisation is not None
    short, long = text.render(report), text.render(report, verbose=True)
    worst, last = report.quantisation.layers[0], report.quantisation.layers[-1]
    assert f"{worst.target_layer} ({worst.rounds})" in short
    assert f"{last.target_layer} ({last.rounds})" in long and short.count("explained") < long.count("explained")


def test_check_says_who_can_tell(folder: Path) -> None:
    report = check(folder / "net.onnx", folder / "int8.onnx", options(folder, gate="numeric"))
    assert report.quantisation is None
    assert any("the target is quantised: fetafix localize" in note for note in report.notes)


def test_float_pairs_have_no_such_part(folder: Path) -> None:
    report = localize(folder / "net.onnx", folder / "net.onnx", options(folder))
    assert report.verdict is Verdict.EQUIVALENT and report.quantisation is None


def test_a_quantised_source_is_explained_too(folder: Path) -> None:
    report = localize(folder / "int8.onnx", folder / "net.onnx", options(folder, tolerance={"t20": {"max_abs": 1e-6}},
                                                                             gate="numeric"))
    assert report.findings == [] and report.quantisation is not None, report.reason
    assert (report.quantisation.of, report.quantisation.within) == ("source", True)
    assert "the source's int8 numbers explain" in report.reason


@pytest.mark.parametrize(("code", "seed"), [("qp-scale-axis", 2), ("qp-range", 2), ("qp-zero-point", 3),
                                            ("id-int8-range", 0)])
def test_a_fault_is_mended_in_the_file_which_stays_quantised(folder: Path, code: str, seed: int) -> None:
    path, out = broken(folder, code, seed), folder / f"mended-{code}.onnx"
    report = repair(folder / "net.onnx", path, options(folder, max_mismatch=0.1),
                    RepairOptions(apply=True, output=out, journal=folder / f"{code}.jsonl"))
    assert [f.code for f in report.findings] == [code]
    assert report.verdict is Verdict.REPAIRED and report.passed, report.reason
    assert report.quantisation is not None and report.quantisation.within
    healthy, mended = load_graph(folder / "int8.onnx"), load_graph(out)
    assert sorted(n.op for n in mended.nodes) == sorted(n.op for n in healthy.nodes)
    again = localize(folder / "net.onnx", out, options(folder, max_mismatch=0.1))
    assert again.findings == [] and again.quantisation is not None and again.quantisation.within


@pytest.fixture(scope="module")
def lite(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("tflite_models")


def of_tflite(lite: Path, target: str) -> Report:
    samples = lite / "images.npy"
    if not samples.exists():
        np.save(samples, np.load(lite / "samples.npz")["images"])
    return localize(lite / "float.tflite", lite / target, Options(data=samples, samples=40, gate="numeric"))


@pytest.mark.parametrize("name", ["int8", "dynamic", "fp16"])
def test_tflite_converted_to_fewer_bits_has_no_fault(lite: Path, name: str) -> None:
    report = of_tflite(lite, f"{name}.tflite")
    assert report.findings == [], [(f.code, f.target_layer) for f in report.findings]
    if name != "fp16":
        assert report.quantisation is not None and report.quantisation.within
