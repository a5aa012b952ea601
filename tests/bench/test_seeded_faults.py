"""The benchmark of seeded faults: what is crossed, gated, scored, resumed and told."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix import edits as ed
from fetafix.bench.faults import controls, mutants, run, settings, table, trial, truth
from fetafix.bench.faults.mutants import Barren, Mutant
from fetafix.bench.faults.nursery import Nursery
from fetafix.bench.faults.rows import Named, Row
from fetafix.bench.faults.settings import Gates, Settings
from fetafix.bench.faults.trial import Task
from fetafix.bench.zoo import MODELS
from fetafix.edits import apply
from fetafix.errors import ConfigError, UsageError
from fetafix.faults import catalogue
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Graph, Node
from fetafix.odds import Count, Counts
from tests import executor_tasks
from tests.commands import invoke
from tests.faults.sites import cnn, feeds_of
from tests.faults.support import with_shapes

SETTINGS = Settings(models=["LSTM"], codes=["wb-bias"], pairs=[("plain", "folded")])
ROW = Row(model="m", scale="small", code="wb-bias", category="WB", seed=0, kind="mutant", detected=True, localized=True,
          diagnosed=True, repaired=True, edited=4, beyond=1, seconds=2.0)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Nursery:
    return Nursery(SETTINGS, "LSTM", tmp_path_factory.mktemp("nursery"))


def graph() -> Graph:
    made = ed.prune(cnn())
    return with_shapes(made, feeds_of(made))


def op(of: Graph, kind: str) -> Node:
    return next(n for n in of.nodes if n.op == kind)


def test_the_shipped_configuration_is_the_whole_catalogue() -> None:
    shipped = settings.load(Path("configs/bench-faults.yaml"))
    assert shipped == Settings().checked(), "what it shows are the defaults"
    assert shipped.codes == list(catalogue()) and set(shipped.models) == set(MODELS)
    assert len(run.Plan(folder=Path(), settings=shipped).tasks) > 755


def test_a_configuration_that_is_wrong_is_told_by_line(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text("scale: small\nsampels: 3\n", "utf-8")
    with pytest.raises(ConfigError, match=r"line 2: sampels: unknown key 'sampels'; did you mean 'samples'\?"):
        settings.load(file)
    file.write_text("codes: [wb-biass]\n", "utf-8")
    with pytest.raises(UsageError, match="wb-bias"):
        settings.load(file)


def test_the_command_line_narrows() -> None:
    made = settings.narrowed(Settings(), "GRU, BERT", "lh_dilation,QP", "4,5", "full")
    assert made.models == ["GRU", "BERT"] and made.seeds == [4, 5] and made.scale == "full"
    assert made.codes[0] == "lh-dilation" and {catalogue()[c].category for c in made.codes[1:]} == {"QP"}
    for wrong in ({"models": "VGG"}, {"codes": "no-such"}, {"seeds": "x"}):
        with pytest.raises(UsageError):
            settings.narrowed(Settings(), **{"models": None, "codes": None, "seeds": None, "scale": None, **wrong})


def test_truth_is_what_differs_and_what_lies_beside_it() -> None:
    before = graph()
    relu, norm, conv = op(before, "Relu"), op(before, "BatchNormalization"), op(before, "Conv")
    touched = truth.between(before, apply(before, [ed.SetInput(norm.key, 1, np.ones(8, np.float32))]))
    assert touched.layers == {norm.label} and not touched.interface
    assert touched.right(norm.label) and touched.right(conv.label) and touched.right(relu.label)
    assert not touched.right(op(before, "Gemm").label) and not touched.right(None)
    nothing = truth.between(before, replace(before, nodes=tuple(before.nodes)))
    assert nothing.layers == frozenset() and not nothing.right(conv.label)


def test_edits_in_place_and_beyond() -> None:
    healthy = graph()
    relu, conv, gemm = op(healthy, "Relu"), op(healthy, "Conv"), op(healthy, "Gemm")
    mutant = apply(healthy, [ed.RemoveNode(relu.key)])
    fault = truth.between(healthy, mutant)
    clips = [ed.InsertNode(relu.input(0), Node("Clip", (relu.input(0), ""), ("clipped",), {}, "clip")),
             ed.InsertNode("clipped", Node("Abs", ("clipped",), ("positive",), {}, "abs"))]
    layers, beyond = truth.beyond(fault, mutant, apply(mutant, clips))
    assert {"clip", "abs"} <= set(layers) and beyond == []
    elsewhere = ed.SetInput(gemm.key, 2, np.zeros(10, np.float32))
    assert truth.beyond(fault, mutant, apply(mutant, [*clips, elsewhere]))[1] == [gemm.label]
    assert conv.label not in layers


def test_truth_of_a_missing_node_and_of_the_interface() -> None:
    before = graph()
    relu = op(before, "Relu")
    gone = truth.between(before, apply(before, [ed.RemoveNode(relu.key)]))
    assert gone.right(op(before, "BatchNormalization").label) and relu.label in gone.layers
    output = op(before, "Relu")
    more = truth.between(before, apply(before, [ed.SetOutputs((*before.output_names, output.key))]))
    assert more.layers == {output.label} and more.interface
    other = truth.between(before, apply(before, [ed.SetInputShape(before.input_names[0], (1, 3, 16, 16))]))
    assert other.interface and other.right(None) and not other.right(relu.label)


@pytest.mark.parametrize("name", controls.REWRITES)
def test_rewrites_change_nothing(name: str) -> None:
    made = _rewritable()
    changes = controls.edits(name, made)
    assert changes, "no place for it"
    feeds, evaluator = feeds_of(made), Evaluator()
    before, after = (evaluator.run(g, feeds, g.output_names) for g in (made, apply(made, changes)))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)


def _rewritable() -> Graph:
    """A small network with a place for every rewrite."""
    from tests.faults.support import Builder

    b = Builder(0)
    x = b.input((2, 3, 8, 8), "image")
    x = b.op("Relu", b.op("Conv", x, b.weight(4, 3, 3, 3), kernel_shape=(3, 3), pads=(1, 1, 1, 1)))
    sizes = np.array([1, 1, 2, 2], np.float32)
    x = b.op("Resize", x, "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    x = b.op("Resize", x, "", sizes, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    made = b.build(b.op("Softmax", b.op("Gemm", x, b.weight(5, 4), b.normal(5), transB=1), axis=-1))
    return with_shapes(made, feeds_of(made))


def test_a_mutant_passes_its_gate_and_leaves_no_mark(nursery: Nursery, tmp_path: Path) -> None:
    made = mutants.make(nursery, "wb-bias", 0, tmp_path)
    assert isinstance(made, Mutant) and made.gate == "labels" and made.answers is not None
    healthy = nursery.answers(made.target)
    assert nursery.differing(made.answers, healthy) and not nursery.differing(nursery.answers(made.source), healthy)
    assert mutants.make(nursery, "wb-bias", 0, tmp_path).faults == made.faults  # type: ignore[union-attr]
    import onnx

    before, after = (onnx.load(p) for p in (nursery.path(made.target), made.path))
    read = {i for n in after.graph.node for i in n.input}
    assert {t.name for t in after.graph.initializer} <= read
    assert after.metadata_props == before.metadata_props and after.producer_name == before.producer_name


def test_gates_refuse(nursery: Nursery, tmp_path: Path) -> None:
    none = mutants.make(nursery, "lh-dilation", 0, tmp_path)
    assert none == Barren("no place for it")
    strict = Settings(**{**msgspec.structs.asdict(SETTINGS), "gates": Gates(error=1e6, numeric=["wb-bias"])})
    other = Nursery(strict, "LSTM", nursery.folder)
    assert mutants.make(other, "wb-bias", 0, tmp_path) == Barren("no output is off by more than the gate")


def test_one_mutant_is_repaired_and_scored(nursery: Nursery, tmp_path: Path) -> None:
    row = trial.measure(nursery, Task("LSTM", "wb-bias"), tmp_path)
    assert row.missed == [] and row.findings[0].code == "wb-bias" and row.gate == "labels"
    assert row.error[0] > 1e-4 and row.error[1] <= row.limit and row.edited and not row.beyond  # type: ignore[operator]
    assert row.labels[1] == 0.0 and row.source != row.target
    assert [(c.suspected, c.kept) for c in row.counts if c.code == "wb-bias"] == [(1, 1)]


def test_scores_can_fail(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair that finds the wrong thing and writes the mutant again gets no point."""
    from fetafix.report import Finding, ModelInfo, Report, Samples, Verdict

    def idle(nursery: Nursery, source: Path, target: Path, out: Path, journal: Path | None = None) -> Report:
        out.write_bytes(target.read_bytes())
        if journal is not None:
            journal.touch()
        info = ModelInfo(path="", format="onnx")
        wrong = Finding(code="pp-bgr", category="PP", title="", target_layer="nowhere")
        return Report(verdict=Verdict.REPAIRED, reason="so", seed=0, samples=Samples(), source=info, target=info,
                      findings=[wrong])

    monkeypatch.setattr(trial, "repair", idle)
    row = trial.measure(nursery, Task("LSTM", "wb-bias"), tmp_path)
    assert row.missed == ["localized", "diagnosed", "repaired"] and not row.worse
    assert "first finding at nowhere" in row.reason and "first finding is pp-bgr" in row.reason
    control = trial.measure(nursery, Task("LSTM", "plain → folded", 0, True), tmp_path)
    assert control.detected


def test_measured_once_and_resumed(nursery: Nursery, tmp_path: Path) -> None:
    nursery.made  # noqa: B018 - its files are there
    (tmp_path / run.ZOO).symlink_to(nursery.folder)
    plan = run.Plan(folder=tmp_path, settings=SETTINGS, limit=2)
    rows = [row for row, _, _ in run.faults(plan)]
    assert [(r.code, r.kind, r.detected) for r in rows] == [
        ("plain → folded", "control", False), ("folded → plain", "control", False)]
    with pytest.raises(UsageError, match="--resume"):
        next(run.faults(plan))
    again = list(islice(run.faults(plan, resume=True), 2))
    assert [row for row, _, _ in again] == rows and again[0][1:] == (1, 4)


@pytest.mark.parametrize("problem", [TimeoutError("given up after 1 s"), IndexError("tuple index out of range")])
def test_a_failure_is_a_result(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fails(*_: object) -> Row:
        raise problem

    monkeypatch.setattr(trial, "measure", fails)
    (tmp_path / run.ZOO).symlink_to(nursery.folder)
    plan = run.Plan(folder=tmp_path, settings=SETTINGS)
    assert run.work(plan.work(plan.tasks[0])).reason == f"{type(problem).__name__}: {problem}"


def test_a_task_whose_processes_die_is_a_result(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "work", executor_tasks.dying)
    (tmp_path / run.ZOO).symlink_to(nursery.folder)
    (row, _, _), *_ = run.faults(run.Plan(folder=tmp_path, settings=SETTINGS, limit=1))
    assert row.reason.startswith("LostTask: each of the 3 processes")


def test_the_table_tells_rates_alarms_and_misses() -> None:
    bad = msgspec.structs.replace(ROW, seed=1, diagnosed=False, reason="first finding is pp-bgr", seconds=4.0)
    alarm = Row(model="m", scale="small", code="plain → folded", category="control", seed=0, kind="control",
                detected=True, findings=[Named("wb-bias", "a")], reason="so")
    none = Row(model="m", scale="small", code="qp-range", category="QP", seed=0, kind="none", reason="no place for it")
    text = table.markdown([ROW, bad, alarm, none])
    assert "| WB | 2 | 100.0% | 100.0% | 50.0% | 100.0% | 75.0% | 0 | 3.0 s | 4.0 s |" in text
    assert "1 negative controls, 1 false alarm." in text and "- m, plain → folded: wb-bias at a: so" in text
    assert "- wb-bias in m, seed 1 ( → ): not diagnosed: first finding is pp-bgr" in text
    assert "- qp-range: no place for it" in text


def test_what_was_counted_is_what_fetafix_ships(tmp_path: Path) -> None:
    one = Count(code="wb-bias", source="onnx", target="onnx", evidence="Conv", suspected=1, kept=1)
    other = msgspec.structs.replace(one, kept=0)
    table.write(tmp_path, [ROW, *(msgspec.structs.replace(ROW, counts=[c]) for c in (one, other))])
    shipped = msgspec.json.decode((tmp_path / run.ODDS).read_bytes(), type=Counts)
    assert shipped.runs == 2 and shipped.counts == [msgspec.structs.replace(one, suspected=2)]


def test_the_command_refuses_before_the_work(tmp_path: Path) -> None:
    done = invoke(tmp_path, "bench", "faults", "out", "--models", "VGG16")
    assert done.code == 2 and "MobileNetV2" in done.text and not (tmp_path / "out").exists()
