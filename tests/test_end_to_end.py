"""check, localize and repair as a user runs them, on a small network that PyTorch exported, with faults edited in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fetafix.journal import read
from tests.commands import Done, invoke, run, state
from tests.networks import attribute, edited, export, floats, images, net, script, weight
from tests.small_models import node, save

KEYS: dict[str, set[str]] = {
    "": {"schema_version", "verdict", "reason", "seed", "samples", "source", "target", "agreement", "after", "findings",
         "repairs", "output", "journal", "timings", "gate", "passed", "notes", "command", "offers", "quantisation",
         "search", "reproductions", "exhibits"},
    "samples": {"search", "heldout", "origin", "skipped", "rounds", "stopped_early"},
    "source": {"path", "format", "sha256", "inputs", "outputs", "details"},
    "target": {"path", "format", "sha256", "inputs", "outputs", "details"},
    "agreement": {"samples", "top1", "top1_bounds", "top5", "kendall_tau", "max_abs", "mean_abs", "max_rel", "mean_rel",
                  "cosine", "sqnr_db", "noise_floor", "tolerance", "outputs", "mismatches", "tasks", "confidence"},
    "findings": {"code", "category", "title", "source_layer", "target_layer", "evidence", "local_error", "confidence",
                 "explanation", "advice"},
    "repairs": {"id", "code", "target_layer", "edits", "status", "before", "after", "why"},
    "output": {"path", "sha256"},
}


def _drift(model: onnx.ModelProto) -> None:
    weight("head.bias", lambda v: v + np.linspace(0, 0.002, v.size, dtype=np.float32))(model)


def _bias(model: onnx.ModelProto) -> None:
    weight("head.bias", lambda v: np.roll(v, 1))(model)


def _dilation(model: onnx.ModelProto) -> None:
    for name, value in (("dilations", [1, 1]), ("pads", [1, 1, 1, 1])):
        attribute(1, "Conv", name, value)(model)


def _behind(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Append nodes that turn `before` into the model's output."""
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.extend(nodes)


def _random(model: onnx.ModelProto) -> None:
    _behind(model, node("RandomNormalLike", ["before"], ["r"], scale=0.001), node("Add", ["before", "r"], ["scores"]))


def _peers(model: onnx.ModelProto) -> None:
    _behind(model, node("ReduceMean", ["before"], ["m"], axes=[0], keepdims=1),
            node("Sub", ["before", "m"], ["scores"]))


def _second_output(model: onnx.ModelProto) -> None:
    name = next(n for n in model.graph.node if n.op_type == "Add").output[0]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 12, 16, 16]))


def _nhwc(model: onnx.ModelProto) -> None:
    graph = model.graph
    for n in graph.node:
        n.input[:] = ["nchw" if i == "image" else i for i in n.input]
    graph.node.insert(0, node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]))
    for i, size in enumerate((16, 16, 3), 1):
        graph.input[0].type.tensor_type.shape.dim[i].dim_value = size


CHANGES = {"drift": [_drift], "bias": [_bias], "both": [_bias, _dilation], "random": [_random], "peers": [_peers],
           "second": [_second_output], "nhwc": [_nhwc], "nhwc-bias": [_nhwc, _bias], "healthy": []}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network in PyTorch and ONNX, edited copies, and samples."""
    folder = tmp_path_factory.mktemp("pair")
    module = net()
    export(module, folder / "source.onnx")
    script(module, folder / "healthy.pt")
    for name, changes in CHANGES.items():
        edited(folder / "source.onnx", folder / f"{name}.onnx", *changes)
    with torch.no_grad():
        module.head.bias.copy_(module.head.bias.roll(1))
        module.mid.bias.mul_(3)
    script(module, folder / "broken.pt")
    np.save(folder / "x.npy", floats(images()))
    return folder


def tell(place: Path, code: int, *args: object) -> dict[str, Any]:
    """The report of a run over the samples, which ends with this code and prints nothing but the report."""
    done = invoke(place, *args, "--data", "x.npy", "--json", "-")
    assert done.code == code, done.text
    assert done.stderr == ""
    return done.report


def clean(report: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in report.items() if k not in ("timings", "journal", "output")}


CHECKS = {
    "healthy.onnx": (0, "equivalent", True), "healthy.pt": (0, "equivalent", True),
    "nhwc.onnx": (0, "equivalent", True), "drift.onnx": (0, "drifting", True), "bias.onnx": (1, "divergent", False),
    "broken.pt": (1, "divergent", False),
}


@pytest.mark.parametrize("target", CHECKS)
def test_check(place: Path, target: str) -> None:
    code, verdict, passed = CHECKS[target]
    report = tell(place, code, "check", "source.onnx", target)
    assert (report["verdict"], report["passed"], report["gate"]) == (verdict, passed, "labels")
    assert report["schema_version"] == 1 and report["command"] == "check"
    assert report["findings"] == report["repairs"] == [] and report["after"] is report["output"] is None


def test_the_other_way_round(place: Path) -> None:
    report = tell(place, 0, "check", "healthy.pt", "source.onnx")
    assert (report["verdict"], report["source"]["format"], report["target"]["format"]) == (
        "equivalent", "torchscript", "onnx")


def test_gates(place: Path) -> None:
    assert tell(place, 1, "check", "source.onnx", "drift.onnx", "--gate", "numeric")["verdict"] == "drifting"
    assert tell(place, 0, "check", "source.onnx", "healthy.onnx", "--gate", "numeric")["verdict"] == "equivalent"
    lax = tell(place, 0, "check", "source.onnx", "bias.onnx", "--max-mismatch", 0.95)
    assert lax["verdict"] == "drifting" and "allowed: 0.95" in lax["reason"]


def test_sampling_stops_when_the_question_is_decided(place: Path) -> None:
    report = tell(place, 1, "check", "source.onnx", "bias.onnx", "--max-mismatch", 0.05)
    samples = report["samples"]
    assert samples["stopped_early"] and samples["search"] + samples["heldout"] == report["agreement"]["samples"] < 80
    assert not tell(place, 0, "check", "source.onnx", "healthy.onnx")["samples"]["stopped_early"]


def test_rounds_draw_more_samples(place: Path) -> None:
    one, three = (tell(place, 0, "check", "source.onnx", "healthy.onnx", "--samples", 20, "--rounds", n)
                  for n in (1, 3))
    assert (one["samples"]["rounds"], three["samples"]["rounds"]) == (1, 3)
    assert one["agreement"]["samples"] == 20 < three["agreement"]["samples"] <= 60


def test_synthetic_inputs_are_weaker_evidence(place: Path) -> None:
    done = run(place, "check", "source.onnx", "healthy.onnx", "--samples", 10)
    assert done.code == 0 and "synthetic (weaker evidence)" in done.text


def test_reports_have_the_promised_keys(place: Path) -> None:
    report = tell(place, 0, "repair", "source.onnx", "bias.onnx", "--no-plan")
    assert report.keys() == KEYS[""]
    assert report["findings"] and report["repairs"] and report["after"].keys() == KEYS["agreement"]
    for key in ("samples", "source", "target", "agreement"):
        assert report[key].keys() == KEYS[key]
    for key in ("findings", "repairs"):
        assert all(item.keys() == KEYS[key] for item in report[key])


@pytest.mark.parametrize("command", [["check"], ["localize"], ["repair", "--no-plan"]], ids=lambda c: c[0])
def test_the_same_seed_gives_the_same_report(place: Path, command: list[str]) -> None:
    code = 0 if command[0] == "repair" else 1
    first, second = (clean(tell(place, code, *command, "source.onnx", "both.onnx", "--seed", 4)) for _ in range(2))
    assert first == second


LOCATED = {
    "both.onnx": {("lh-dilation", "/mid/Conv", "/mid/Conv"), ("wb-bias", "/head/Gemm", "/head/Gemm")},
    "broken.pt": {("wb-bias", "/mid/Conv", "mid"), ("wb-bias", "/head/Gemm", "head")},
    "nhwc-bias.onnx": {("wb-bias", "/head/Gemm", "/head/Gemm")},
}


@pytest.mark.parametrize("target", LOCATED)
def test_localize_names_every_fault_in_both_models_terms(place: Path, target: str) -> None:
    before = state(place)
    report = tell(place, 1, "localize", "source.onnx", target)
    assert {(f["code"], f["source_layer"], f["target_layer"]) for f in report["findings"]} == LOCATED[target]
    assert state(place) == before


def test_healthy_pairs_have_no_finding(place: Path) -> None:
    for target in ("healthy.pt", "nhwc.onnx"):
        assert tell(place, 0, "localize", "source.onnx", target)["findings"] == []


def test_an_extra_output_is_found(place: Path) -> None:
    report = tell(place, 0, "localize", "source.onnx", "second.onnx")
    assert report["verdict"] == "equivalent"
    assert [f["code"] for f in report["findings"]] == ["cg-extra-output"]
    assert any("an output" in n and "that the source has not" in n for n in report["notes"])


def test_dependence_on_the_batch_and_on_chance_is_noted(place: Path) -> None:
    for target, code, words in (("peers", 1, "depends on the other samples"), ("random", 0, "from run to run")):
        report = tell(place, code, "check", "source.onnx", f"{target}.onnx")
        assert any(words in note for note in report["notes"])
    report = tell(place, 3, "check", "random.onnx", "source.onnx")
    assert report["verdict"] == "undecided" and "the source itself answers differently" in report["reason"]


def repair(place: Path, code: int, target: str, *args: object) -> dict[str, Any]:
    return tell(place, code, "repair", "source.onnx", target, *args)


def test_a_dry_run_writes_a_plan_and_no_model(place: Path, tmp_path: Path) -> None:
    before = state(place)
    pair = [place / "source.onnx", place / "bias.onnx", "--data", place / "x.npy"]
    done = run(tmp_path, "repair", *pair)
    assert done.code == 0 and "REPAIRED" in done.stdout and "dry run: --apply writes it" in done.text
    assert "plan written to bias.plan.json" in done.text
    assert state(place) == before and [p.name for p in tmp_path.iterdir()] == ["bias.plan.json"]
    _approve(tmp_path / "bias.plan.json", "wb-bias")
    kept = state(tmp_path)
    again = run(tmp_path, "repair", *pair)
    assert again.code == 0 and "bias.plan.json is a plan with decisions in it, which is kept" in again.text
    assert state(tmp_path) == kept
    (tmp_path / "bias.plan.json").unlink()
    assert run(tmp_path, "repair", *pair, "--no-plan").code == 0
    assert not list(tmp_path.iterdir())


def test_a_plan_is_not_written_where_nothing_is_to_be_done(place: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "repair", place / "source.onnx", place / "healthy.onnx", "--data", place / "x.npy", "--apply",
               "-o", "o.onnx")
    assert done.code == 0 and "EQUIVALENT" in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "format"), [("both.onnx", "onnx"), ("broken.pt", "torchscript")])
def test_apply_writes_the_target_in_its_own_format(place: Path, tmp_path: Path, target: str, format: str) -> None:
    before, out = state(place), tmp_path / f"fixed{Path(target).suffix}"
    report = repair(place, 0, target, "--apply", "-o", out, "--approved-by", "Ada")
    assert report["verdict"] == "repaired" and report["after"]["top1"] == 1.0 > report["agreement"]["top1"]
    assert [r["status"] for r in report["repairs"]].count("kept") == 2
    assert report["output"].keys() == KEYS["output"] and report["output"]["sha256"] == state(tmp_path)[str(out)]
    assert report["journal"] == f"{out}.journal.jsonl"
    assert state(place) == before
    assert {p.name for p in tmp_path.iterdir()} == {out.name, f"{out.name}.journal.jsonl"}
    again = tell(place, 0, "localize", "source.onnx", out, "--gate", "numeric")
    assert (again["verdict"], again["findings"], again["target"]["format"]) == ("equivalent", [], format)
    second = tell(place, 0, "repair", "source.onnx", out, "--apply")
    assert second["repairs"] == [] and second["output"] is None
    assert {p.name for p in tmp_path.iterdir()} == {out.name, f"{out.name}.journal.jsonl"}
    _check_journal(Path(report["journal"]), report)


def _check_journal(path: Path, report: dict[str, Any]) -> None:
    """Hashes, versions, the seed, everything tried with figures, and who approved."""
    entries = list(read(path))
    by_event = {e["event"]: e for e in entries}
    assert entries[0]["event"] == "start" and {"fetafix", "python", "onnxruntime"} <= entries[0]["versions"].keys()
    start = by_event["repair"]
    assert start["source"]["sha256"] == report["source"]["sha256"]
    assert start["target"]["sha256"] == report["target"]["sha256"]
    assert (start["options"]["seed"], start["options"]["samples"]) == (report["seed"], 100)
    assert by_event["judged"]["verdict"] == "divergent"
    tried = [e for e in entries if e["event"] == "tried"]
    assert all({"code", "edits", "before", "after"} <= e.keys() for e in tried)
    assert sum(e["chosen"] for e in tried) == 2 and len(tried) >= 2
    assert by_event["proof"]["before"]["top1"] < by_event["proof"]["after"]["top1"] == 1.0
    written = by_event["written"]
    assert written["output"] == report["output"] and written["approved_by"] == "Ada"


def _approve(path: Path, *codes: str) -> None:
    """Decide a plan as a person does in an editor."""
    data = json.loads(path.read_text())
    for entry in data["entries"]:
        entry["approved"] = entry["code"] in codes
    path.write_text(json.dumps(data, indent=2))


def test_only_what_was_approved_is_applied(place: Path, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "fixed.onnx"
    repair(place, 0, "both.onnx", "--save-plan", plan)
    assert {e["code"] for e in json.loads(plan.read_text())["entries"]} == {"wb-bias", "lh-dilation"}
    _approve(plan, "wb-bias")
    report = repair(place, 1, "both.onnx", "--apply", "--plan", plan, "-o", out, "--journal", tmp_path / "j")
    assert report["verdict"] == "partly_repaired" and report["passed"] is False
    assert [(r["code"], r["status"]) for r in report["repairs"]] == [("wb-bias", "kept")]
    old, new, source = (onnx.load(p) for p in (place / "both.onnx", out, place / "source.onnx"))
    values = [{t.name: t.raw_data for t in m.graph.initializer} for m in (old, new, source)]
    assert {k for k in values[0] if values[0][k] != values[1][k]} == {"head.bias"}
    assert values[1]["head.bias"] == values[2]["head.bias"]
    assert [n.SerializeToString() for n in old.graph.node] == [n.SerializeToString() for n in new.graph.node]
    planned = next(e for e in read(tmp_path / "j") if e["event"] == "plan")
    assert len(planned["approved"]) == len(planned["rejected"]) == 1


def test_labels_agree_again_while_numbers_still_drift(place: Path, tmp_path: Path) -> None:
    """Of a fault that changes labels and one that does not, only the first is approved: the labels gate passes."""
    shift = weight("mid.bias", lambda v: v + v.dtype.type(1e-4))
    target = edited(place / "source.onnx", tmp_path / "t.onnx", _bias, shift)
    plan, pair = tmp_path / "plan.json", ("repair", "source.onnx", target)
    tell(place, 0, *pair, "--save-plan", plan)
    data = json.loads(plan.read_text())
    assert {e["target_layer"] for e in data["entries"]} == {"/mid/Conv", "/head/Gemm"}
    for entry in data["entries"]:
        entry["approved"] = entry["target_layer"] == "/head/Gemm"
    plan.write_text(json.dumps(data))
    report = tell(place, 0, *pair, "--apply", "--plan", plan, "-o", tmp_path / "o.onnx")
    assert (report["verdict"], report["passed"], report["after"]["top1"]) == ("partly_repaired", True, 1.0)
    assert tell(place, 0, "check", "source.onnx", tmp_path / "o.onnx")["verdict"] == "drifting"


def test_noise_that_was_added_is_taken_out(place: Path, tmp_path: Path) -> None:
    target = edited(place / "source.onnx", tmp_path / "t.onnx", _bias, _random)
    tell(place, 0, "repair", "source.onnx", target, "--apply", "-o", tmp_path / "o.onnx")
    assert tell(place, 0, "check", "source.onnx", tmp_path / "o.onnx")["verdict"] == "equivalent"


@pytest.fixture
def project(place: Path, tmp_path: Path) -> Path:
    """A folder with a fetafix.yaml of two pairs."""
    text = f"""
pairs:
  - name: healthy
    source: {place}/source.onnx
    target: {place}/healthy.pt
    data: {place}/x.npy
  - name: broken
    source: {place}/source.onnx
    target: {{model: {place}/bias.onnx}}
    data: {place}/x.npy
    samples: 40
    gate: numeric
    tolerance: {{scores: {{max_abs: 0.01}}}}
"""
    (tmp_path / "fetafix.yaml").write_text(text)
    return tmp_path


def test_the_models_of_the_configuration(project: Path) -> None:
    unclear = run(project, "repair", "--apply")
    assert unclear.code == 2 and "2 pairs (healthy, broken): choose one with --pair NAME" in unclear.text
    wrong = run(project, "check", "--pair", "brocken")
    assert wrong.code == 2 and "no pair 'brocken'" in wrong.text
    assert run(project, "check", "--pair", "healthy").code == 0
    done: Done = run(project, "repair", "--apply", "--pair", "broken", "-o", "o.onnx", "--json", "-")
    assert done.code == 0 and done.report["verdict"] == "repaired" and done.report["agreement"]["tolerance"] == 0.01
    assert done.report["samples"]["search"] + done.report["samples"]["heldout"] == 40
    assert {p.name for p in project.iterdir()} == {"fetafix.yaml", "o.onnx", "o.onnx.journal.jsonl"}


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Two inputs in another order, two outputs under other names and exchanged; then one of them broken."""
    rng = np.random.default_rng(0)
    w = {"u": rng.normal(size=(6, 4)).astype(np.float32), "v": rng.normal(size=(5, 4)).astype(np.float32)}

    def model(name: str, inputs: list[str], outputs: tuple[str, str], flip: bool, scale: float = 1.0) -> Path:
        total, product = outputs
        nodes = [node("MatMul", ["left", "u"], ["a"]), node("MatMul", ["right", "v"], ["b"]),
                 node("Add", ["a", "b"], [total]), node("Mul", ["a", "b"], [product])]
        shapes = {"left": ["N", 6], "right": ["N", 5]}
        ends = {total: ["N", 4], product: ["N", 4]}
        return save(tmp_path / name, nodes, {i: shapes[i] for i in inputs},
                    dict(reversed(ends.items())) if flip else ends, {**w, "v": w["v"] * np.float32(scale)})

    model("a.onnx", ["left", "right"], ("total", "product"), False)
    model("b.onnx", ["right", "left"], ("out_0", "out_1"), True)
    model("c.onnx", ["right", "left"], ("out_0", "out_1"), True, 1.5)
    np.savez(tmp_path / "x.npz", left=rng.normal(size=(40, 6)), right=rng.normal(size=(40, 5)))
    same = run(tmp_path, "check", "a.onnx", "b.onnx", "--data", "x.npz", "--json", "-")
    assert (same.code, same.report["verdict"], same.report["gate"]) == (0, "equivalent", "numeric"), same.text
    assert {(o["source"], o["target"]) for o in same.report["agreement"]["outputs"]} == {
        ("total", "out_0"), ("product", "out_1")}
    mended = run(tmp_path, "repair", "a.onnx", "c.onnx", "--data", "x.npz", "--apply", "-o", "o.onnx", "--json", "-")
    assert (mended.code, mended.report["verdict"]) == (0, "repaired"), mended.text
    assert run(tmp_path, "check", "a.onnx", "o.onnx", "--data", "x.npz").code == 0
