"""Patches on ONNX files: applied under other names, taken back bit by bit, refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from fetafix.api import Options, RepairOptions, check, repair
from fetafix.cli import cli
from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, InsertNode, SetAttribute, SetPreprocessing, prune
from fetafix.errors import OutputError, UsageError
from fetafix.graph.proto import load_graph
from fetafix.graph.structure import outline, unlike
from fetafix.ir import Node
from fetafix.patch import apply as use
from fetafix.patch import load, revert, save
from fetafix.patch.outcome import Wish
from fetafix.plan import entry
from fetafix.report import Verdict
from tests.patch.conversions import broken, network, nodes, patched, renamed, saved

OPTIONS = Options(samples=24, threads=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A patch of four repairs."""
    patch, store = patched()
    save(patch, tmp_path / "fix.patch", store)
    return tmp_path / "fix.patch"


def tensors(path: Path) -> dict[str, bytes]:
    return {t.name: numpy_helper.to_array(t).tobytes() for t in onnx.load(path).graph.initializer}


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["patch", *map(str, args)])


def test_another_conversion_is_mended_and_taken_back(file: Path, tmp_path: Path) -> None:
    graph = network()
    other = saved(renamed(broken(graph)), tmp_path / "other.onnx")
    before = other.read_bytes()
    done = use(file, other)
    out = tmp_path / "other.patched.onnx"
    assert (done.status, done.exit_code) == ("written", 0) and done.output is not None and done.output.path == str(out)
    assert [e.status for e in done.entries] == ["applied"] * 4
    assert {e.layer for e in done.entries} <= {n.name for n in onnx.load(other).graph.node}
    assert unlike(outline(graph), outline(prune(load_graph(out)))) == ""
    assert check(saved(graph, tmp_path / "src.onnx"), out, OPTIONS).verdict is Verdict.EQUIVALENT
    back = revert(file, out, Wish(out=tmp_path / "back.onnx"))
    assert [e.status for e in back.entries] == ["reverted"] * 4
    assert tensors(tmp_path / "back.onnx") == tensors(other)
    assert unlike(outline(load_graph(other)), outline(load_graph(tmp_path / "back.onnx"))) == ""
    assert other.read_bytes() == before and hashlib.sha256(out.read_bytes()).hexdigest() == done.output.sha256


def test_what_a_repair_keeps_becomes_a_patch(tmp_path: Path) -> None:
    graph = network()
    source = saved(graph, tmp_path / "src.onnx")
    target = saved(renamed(broken(graph), 1), tmp_path / "tgt.onnx")
    wanted = RepairOptions(apply=True, output=tmp_path / "fixed.onnx", save_patch=tmp_path / "fix.patch")
    report = repair(source, target, OPTIONS, wanted)
    assert report.verdict is Verdict.REPAIRED
    assert any("fetafix patch apply" in n and "cannot be taken back" not in n for n in report.notes)
    patch, _ = load(tmp_path / "fix.patch")
    kept = [r.id for r in report.repairs if r.status == "kept"]
    assert [e.id for e in patch.entries] == kept and not patch.irrevocable
    other = saved(renamed(broken(graph), 2), tmp_path / "other.onnx")
    assert use(tmp_path / "fix.patch", other).status == "written"
    assert check(source, tmp_path / "other.patched.onnx", OPTIONS).verdict is Verdict.EQUIVALENT
    assert revert(tmp_path / "fix.patch", tmp_path / "fixed.onnx").status == "written"
    assert tensors(tmp_path / "fixed.reverted.onnx") == tensors(target)


def test_a_dry_run_makes_a_patch_too_and_the_same_one(tmp_path: Path) -> None:
    graph = network()
    models = [saved(graph, tmp_path / "src.onnx"), saved(broken(graph), tmp_path / "tgt.onnx")]
    for name in ("1.patch", "2.patch"):
        repair(*models, OPTIONS, RepairOptions(save_patch=tmp_path / name))
    assert (tmp_path / "1.patch").read_bytes() == (tmp_path / "2.patch").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.patch", "2.patch", "src.onnx", "tgt.onnx"]


def test_a_misfit_writes_nothing_and_says_why(file: Path, tmp_path: Path) -> None:
    trained = saved(renamed(broken(network(1))), tmp_path / "trained.onnx")
    done = run("apply", file, trained)
    assert done.exit_code == 1 and "another training run" in done.output and "REFUSED" in done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fix.patch", "trained.onnx"]
    data = json.loads(run("apply", file, trained, "--json", "-").output)
    assert data["status"] == "refused" and data["output"] is None
    assert [e["status"] for e in data["entries"]] == ["fits", "fits", "refused", "fits"]


def test_what_fits_may_be_taken_alone(file: Path, tmp_path: Path) -> None:
    trained = saved(renamed(broken(network(1))), tmp_path / "trained.onnx")
    done = use(file, trained, Wish(partial=True))
    assert done.status == "written" and done.reason.startswith("3 of 4 repairs")
    healthy = network(1)
    kernel = nodes(healthy, "Conv")[1]
    left = outline(prune(load_graph(tmp_path / "trained.patched.onnx")))
    assert unlike(outline(healthy), left) != ""
    flipped = healthy.initializers[healthy.node(kernel).input(1)][:, :, ::-1, ::-1]
    wanted = {**healthy.initializers, healthy.node(kernel).input(1): np.ascontiguousarray(flipped)}
    assert unlike(outline(replace(healthy, initializers=wanted)), left) == ""


@pytest.mark.parametrize("way", ["applied twice", "healthy", "reverted twice"])
def test_nothing_is_left_to_do(file: Path, tmp_path: Path, way: str) -> None:
    graph = network()
    if way == "reverted twice":
        done = revert(file, saved(renamed(broken(graph)), tmp_path / "m.onnx"))
        assert "as it is without the patch" in done.reason
    else:
        path = saved(renamed(broken(graph) if way == "applied twice" else graph), tmp_path / "m.onnx")
        if way == "applied twice":
            use(file, path, Wish(out=tmp_path / "once.onnx"))
            path = tmp_path / "once.onnx"
        done = use(file, path, Wish(out=tmp_path / "out.onnx"))
        assert "already as the patch makes it" in done.reason
    assert (done.status, done.exit_code, done.output) == ("in place", 0, None)
    assert not (tmp_path / "out.onnx").exists()


def test_another_model_is_refused(file: Path, tmp_path: Path) -> None:
    done = use(file, saved(broken(network(width=16)), tmp_path / "wide.onnx"))
    assert done.status == "refused" and "another model" in done.reason


def test_originals_are_never_written_over(file: Path, tmp_path: Path) -> None:
    model = saved(broken(network()), tmp_path / "m.onnx")
    for out in (model, file):
        before = out.read_bytes()
        with pytest.raises(OutputError):
            use(file, model, Wish(out=out))
        assert out.read_bytes() == before
    with pytest.raises(OutputError, match="no folder"):
        use(file, model, Wish(out=tmp_path / "nowhere" / "m.onnx"))


def _one(graph_edits: Sequence[Edit], tmp_path: Path) -> Path:
    graph = network()
    made = [(entry("one", graph_edits, ArrayStore()), tuple(graph_edits))]
    patch, store = patched(graph, made)
    save(patch, tmp_path / "one.patch", store)
    return tmp_path / "one.patch"


def test_preprocessing_is_handed_over(tmp_path: Path) -> None:
    file = _one([SetPreprocessing({"color": "bgr"})], tmp_path)
    model = saved(broken(network()), tmp_path / "m.onnx")
    done = use(file, model)
    assert done.status == "preprocessing" and done.preprocess is not None and done.preprocess["color"] == "bgr"
    assert any("color=bgr" in n for n in done.notes) and not (tmp_path / "m.patched.onnx").exists()
    assert use(file, model, Wish(preprocess="unit")).status == "preprocessing"
    with pytest.raises(UsageError, match="color=auto, found color=bgr"):
        use(file, model, Wish(preprocess="unit,color=bgr"))
    back = revert(file, model, Wish(preprocess="unit,color=bgr"))
    assert back.preprocess is not None and back.preprocess["color"] == "auto"


def test_preprocessing_and_the_model_at_once(tmp_path: Path) -> None:
    conv = nodes(broken(network()), "Conv")[0]
    file = _one([SetPreprocessing({"color": "bgr"}), SetAttribute(conv, "dilations", (2, 2)),
                 SetAttribute(conv, "pads", (2, 2, 2, 2))], tmp_path)
    done = use(file, saved(renamed(broken(network())), tmp_path / "m.onnx"))
    assert done.status == "written" and any("color=bgr" in n for n in done.notes)


def test_a_result_that_does_not_run_gets_no_name(tmp_path: Path) -> None:
    conv = nodes(broken(network()), "Conv")[1]
    wrong = InsertNode(conv, Node("Reshape", (conv, "s"), ("r",)), {"s": np.array([7, 7], np.int64)})
    model = saved(broken(network()), tmp_path / "m.onnx")
    done = use(_one([wrong], tmp_path), model)
    assert done.status == "refused" and not (tmp_path / "m.patched.onnx").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "one.patch"]


def test_what_cannot_be_taken_back_is_refused(tmp_path: Path) -> None:
    relu = nodes(network(), "Relu")[0]
    file = _one([InsertNode(relu, Node("Tanh", (relu,), ("t",)), consumers=())], tmp_path)
    done = revert(file, saved(network(), tmp_path / "m.onnx"))
    assert done.status == "refused" and "cannot be taken back" in done.reason


def test_show_tells_what_it_would_do(file: Path) -> None:
    text = run("show", file).output
    for word in ("4 repairs", "tgt.onnx", "Ada", "can be taken back", "set dilations = ", "fault-3"):
        assert word in text
    data = json.loads(run("show", file, "--json", "-").output)
    assert [e["code"] for e in data["entries"]] == [f"fault-{i}" for i in (1, 2, 3, 4)]


def test_the_command_line_writes_and_says_where(file: Path, tmp_path: Path) -> None:
    model = saved(renamed(broken(network())), tmp_path / "m.onnx")
    done = run("apply", file, model, "-o", tmp_path / "o.onnx", "--json", tmp_path / "o.json")
    assert done.exit_code == 0 and "WRITTEN" in done.output and str(tmp_path / "o.onnx") in done.output
    assert json.loads((tmp_path / "o.json").read_text())["output"]["path"] == str(tmp_path / "o.onnx")
    assert unlike(outline(network()), outline(prune(load_graph(tmp_path / "o.onnx")))) == ""
    assert run("apply", model, model).exit_code == 2
    assert run("apply", file, tmp_path / "missing.onnx").exit_code == 3
