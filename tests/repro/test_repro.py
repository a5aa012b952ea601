"""Reproductions: each script runs with numpy and onnxruntime alone, and shows the difference that was found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fetafix import repro
from fetafix.errors import OutputError
from fetafix.faults import Interface, catalogue, get
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Graph
from fetafix.report import Finding, ModelInfo
from fetafix.repro import Reproduction, words
from fetafix.repro.case import Case, of_interface, of_segment
from tests.commands import invoke
from tests.faults import sites
from tests.faults.models import renamed
from tests.faults.support import NHWC, Builder, feeds_for

INFO = ModelInfo(path="somewhere/a.onnx", format="onnx", sha256="0" * 64, details={"opset": 17, "producer": "pytorch"})
OTHER = ModelInfo(path="b.pt", format="torchscript", sha256="1" * 64)


def target(code: str, graph: Graph, seed: int = 0) -> Graph:
    found = sites.broken(get(code), graph, seed)
    assert found is not None
    return found[0]


def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, run where a user has nothing but numpy and onnxruntime: fetafix cannot be imported."""
    blocked = "import sys, runpy; sys.modules['fetafix'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-c", blocked, str(folder / "show.py")], cwd="/", text=True,
                          capture_output=True, check=False)


def written(folder: Path, case: Case | None, code: str = "wb-bias") -> Path:
    assert case is not None and case.error > case.tolerance
    finding = Finding(code=code, category=get(code).category, title=get(code).name,
                      target_layer="a/Conv", explanation="so")
    return Path(repro.write(folder, [Reproduction(finding, case)], INFO, OTHER)[0])


def gemm(seed: int = 0) -> Graph:
    b = Builder(seed)
    x = b.op("Gemm", b.input((4, 6), "x"), b.weight(5, 6), b.normal(5), transB=1)
    return b.build(b.op("Relu", x))


SEGMENTS = {
    "wb-bias": lambda: sites.segment(gemm(), target("wb-bias", gemm()), feeds=feeds_for(gemm(), 1)),
    "cg-act-missing": lambda: sites.segment(sites.cnn(), target("cg-act-missing", sites.cnn())),
    "wb-kernel-flip": lambda: sites.segment(sites.cnn(), renamed(target("wb-kernel-flip", sites.cnn()))),
    "NHWC": lambda: sites.segment(sites.cnn(), renamed(target("wb-kernel-flip", sites.cnn(nhwc=True))), perm=NHWC),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_segment_is_shown_by_its_script(tmp_path: Path, name: str) -> None:
    site = SEGMENTS[name]()
    case = of_segment(site, ())
    folder = written(tmp_path / "out", case)
    assert case is not None and case.expected.shape[0] == 1  # of the batch, the sample that shows it
    done = shown(folder)
    assert done.returncode == 1 and done.stderr == ""
    relative = float(done.stdout.split()[-1])
    assert relative == pytest.approx(case.error, rel=1e-2) and relative > 1e-3
    assert {p.name for p in folder.iterdir()} == {
        "source.onnx", "target.onnx", "inputs.npz", "outputs.npz", "show.py", "README.md"}
    assert len((folder / "show.py").read_text().splitlines()) <= 14
    with np.load(folder / "outputs.npz") as outputs:
        assert np.array_equal(outputs["expected"], case.expected) and np.array_equal(outputs["actual"], case.actual)
    for side in ("source", "target"):
        onnx.checker.check_model(onnx.load(folder / f"{side}.onnx"), full_check=False)


def test_a_healthy_target_in_its_place_ends_the_difference(tmp_path: Path) -> None:
    """What a developer of the converter does: convert again, and run the script."""
    folder = written(tmp_path / "out", of_segment(SEGMENTS["wb-bias"](), ()))
    names = [(v.name, n) for v, n in zip(onnx.load(folder / "target.onnx").graph.input, ("x",), strict=True)]
    assert names == [("x", "x")]
    (folder / "target.onnx").write_bytes((folder / "source.onnx").read_bytes())
    assert shown(folder).returncode == 0


def test_one_of_two_faults_is_shown_alone(tmp_path: Path) -> None:
    healthy = gemm()
    first = target("wb-bias", healthy)
    lost = replace(first, nodes=first.nodes[:1], outputs=(replace(first.outputs[0], name=first.nodes[0].key),))
    site = sites.segment(healthy, lost, feeds=feeds_for(healthy, 1))
    bias = next(s for s in get("wb-bias").detect(site))
    mending = next(iter(get("wb-bias").propose(site, bias)))
    both, alone = of_segment(site, ()), of_segment(site, mending)
    assert both is not None and alone is not None
    assert alone.actual is not None and np.array_equal(np.maximum(alone.actual, 0), alone.expected)
    assert both.actual is not None and not np.array_equal(np.maximum(both.actual, 0), both.expected)


def test_a_target_that_cannot_run(tmp_path: Path) -> None:
    healthy = sites.cnn(flatten="Reshape")
    site = sites.interface(healthy, target("id-baked-batch", healthy))
    case = of_interface(site)
    assert case is not None and (case.actual is None or case.actual.shape != case.expected.shape)
    done = shown(written(tmp_path / "out", case, "id-baked-batch"))
    assert done.returncode == 1 and "shape" in done.stdout


def interface(code: str) -> Interface:
    return sites.interface(sites.cnn(), target(code, sites.cnn()))


@pytest.mark.parametrize("code", ["op-softmax", "pp-bgr"])
def test_faults_of_the_interface_show_in_the_whole_models(tmp_path: Path, code: str) -> None:
    case = of_interface(interface(code)) if code == "op-softmax" else of_interface(_prepared())
    folder = written(tmp_path / "out", case, code)
    assert case is not None and case.whole and "the whole models" in (folder / "README.md").read_text()
    assert shown(folder).returncode == 1


def _prepared() -> Interface:
    """The same model, whose images come with their colours reversed."""
    feeds = sites.feeds_of(sites.cnn())
    return sites.interface(sites.cnn(), sites.cnn(), feeds, {n: v[:, ::-1].copy() for n, v in feeds.items()})


def test_the_report_names_known_issues_versions_and_models(tmp_path: Path) -> None:
    folder = written(tmp_path / "out", of_segment(SEGMENTS["wb-bias"](), ()))
    text = (folder / "README.md").read_text()
    assert "https://github.com/microsoft/MMdnn/issues/792" in text and "onnx2tf#5" in text
    assert re.search(r"onnxruntime: \d", text) and "a.onnx (onnx, opset 17, producer pytorch)" in text
    assert "b.pt (torchscript; seen here through its ONNX view)" in text
    index = (tmp_path / "out" / "README.md").read_text()
    assert "python 1-wb-bias/show.py" in index and "# 1 difference of" in index


@pytest.mark.parametrize("code", catalogue())
def test_known_issues_of_every_fault_type_can_be_listed(code: str) -> None:
    from fetafix.faults import document

    seen = document(code).get("Seen in", "")
    lines = words.issues(seen).splitlines()
    assert lines and all(line.startswith("- ") and len(line) > 4 for line in lines)


def test_nothing_is_replaced_and_nothing_is_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    for path, what in ((tmp_path / "taken", "an empty folder"), (tmp_path / "taken" / "notes.txt", "found a file"),
                       (tmp_path / "none" / "deeper", "no folder that can be written")):
        with pytest.raises(OutputError, match=what):
            repro.free(path)
    assert repro.free(tmp_path / "new") == tmp_path / "new"
    case = of_segment(SEGMENTS["wb-bias"](), ())
    assert case is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        written(tmp_path / "new", case)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_finding_without_reproduction_says_why(tmp_path: Path) -> None:
    finding = Finding(code="wb-weights", category="WB", title="Weights")
    assert repro.write(tmp_path / "out", [Reproduction(finding, None, "too large")], INFO, OTHER) == [""]
    assert "no reproduction: too large" in (tmp_path / "out" / "README.md").read_text()


def test_from_the_command_line(tmp_path: Path) -> None:
    """Two faults far apart, in a model with other names: two folders, two scripts that show them."""
    healthy = sites.cnn()
    both = renamed(target("wb-bias", target("cg-act-missing", healthy, 1), 4))
    for name, graph in (("a.onnx", healthy), ("b.onnx", both)):
        onnx.save(model_from_graph(graph), str(tmp_path / name))
    np.save(tmp_path / "x.npy", sites.images((24, 3, 16, 16)))
    pair = ["a.onnx", "b.onnx", "--data", "x.npy", "--gate", "numeric"]
    command = ["localize", *pair, "--repro", "shown", "--json", "-"]
    done = invoke(tmp_path, *command)
    assert done.code == 1, done.text
    report = json.loads(done.stdout)
    assert {f["code"] for f in report["findings"]} == {"wb-bias", "cg-act-missing"}
    assert len(report["reproductions"]) == 2
    for folder in report["reproductions"]:
        assert shown(tmp_path / folder).returncode == 1
    again = invoke(tmp_path, *command)
    assert again.code == 2 and "expected an empty folder or none" in again.text
