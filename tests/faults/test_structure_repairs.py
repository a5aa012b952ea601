"""Faults of structure and of weights' order in files: named, mended in the file itself, proved on held-out samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from fetafix import api
from fetafix.edits import Edit, RemoveNode, Rewire, SetInput, apply, prune
from fetafix.faults import get
from fetafix.graph.expand import expanded
from fetafix.graph.joins import spelled_out
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Graph
from fetafix.report import Report, Verdict
from tests.faults import structures as nets
from tests.faults.models import renamed


def repaired(folder: Path, source: Graph, target: Graph) -> Report:
    """Both as ONNX files with a free batch, through the whole repair; then again, to see that nothing is left."""
    paths = [folder / "a.onnx", folder / "b.onnx", folder / "c.onnx"]
    for path, graph in zip(paths, (source, prune(target)), strict=False):
        free = tuple(replace(v, shape=("N", *(v.shape or ())[1:])) for v in graph.inputs)
        onnx.save(model_from_graph(replace(graph, inputs=free, shapes={})), str(path))
    options = api.Options(samples=12)
    report = api.repair(*paths[:2], options, api.RepairOptions(output=paths[2], apply=True))
    again = api.repair(paths[0], paths[2], options, api.RepairOptions(output=folder / "d.onnx", apply=True))
    assert (again.verdict, again.findings, again.output) == (Verdict.EQUIVALENT, [], None)
    return report


def found(report: Report) -> set[tuple[str, str | None]]:
    assert report.verdict is Verdict.REPAIRED, report.reason
    return {(f.code, f.target_layer) for f in report.findings}


def test_a_shared_tensor_and_a_constant_along_the_wrong_axis(tmp_path: Path) -> None:
    source = nets.slopes(2)
    target = renamed(source)
    slopes = target.initializers[target.node("v_t1").inputs[1]]
    third, last = (n for n in target.nodes if n.op == "Conv" and target.initializers[n.inputs[1]].shape[1] == 6)
    edits: list[Edit] = [SetInput("v_t1", 1, slopes.ravel()), Rewire(last.key, 1, third.inputs[1])]
    report = repaired(tmp_path, source, apply(target, edits))
    assert found(report) == {("tss-broadcast", "v_prelu_1"), ("wb-initializer-alias", last.name)}
    mended = onnx.load(tmp_path / "c.onnx").graph
    layers = [n for n in mended.node if n.op_type == "Conv"]
    assert len({n.input[1] for n in layers}) == len(layers)


def test_groups_in_another_order_and_a_map_padded_twice(tmp_path: Path) -> None:
    source = nets.grouped(1)
    target = renamed(source)
    rng = np.random.default_rng(3)
    mixed = get("wb-group-interleave").inject(target, rng)
    assert mixed
    padded = get("cg-pad-duplicated").inject(apply(target, mixed), rng)
    assert padded
    report = repaired(tmp_path, source, apply(target, [*mixed, *padded]))
    assert {code for code, _ in found(report)} == {"wb-group-interleave", "cg-pad-duplicated"}
    ops = [n.op_type for n in onnx.load(tmp_path / "c.onnx").graph.node]
    assert "Slice" not in ops
    assert len(ops) <= len(source.nodes) + 1  # the Pad may stay, if the layer's own pads go


def test_a_branch_lost_before_a_normalisation_that_is_spelled_out(tmp_path: Path) -> None:
    """The target is of an older operator set, and goes on with the identity alone; all behind it was dead code."""
    source = nets.mixer(0)
    target = expanded(renamed(source), 16)
    join = next(n for n in target.nodes if n.op == "Add" and all(not target.fixed(t) for t in n.inputs))
    branch = next(i for i, t in enumerate(join.inputs) if target.producers[t].op == "MatMul")
    edit = RemoveNode(join.key, 1 - branch)
    report = repaired(tmp_path, source, replace(apply(target, [edit]), opset={"": 16}))
    assert [f.code for f in report.findings] == ["cg-residual"], report.findings
    assert report.verdict is Verdict.REPAIRED, report.reason


def test_a_gate_that_was_lost_before_its_only_reader(tmp_path: Path) -> None:
    source = nets.mixer(0)
    target = renamed(source)
    gate = [n for n in target.nodes if n.op == "Mul" and spelled_out(target, n)][-1]
    (slot,) = (i for i, t in enumerate(gate.inputs) if target.producers[t].op != "Sigmoid")
    report = repaired(tmp_path, source, apply(target, [RemoveNode(gate.key, slot)]))
    assert [f.code for f in report.findings] == ["cg-act-missing"], report.findings
    assert report.verdict is Verdict.REPAIRED, report.reason
