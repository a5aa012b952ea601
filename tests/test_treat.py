"""Many faults in one model are healed together, masked ones in a later round; unrelated weights are not copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fetafix.edits import Edit, RemoveNode, SetAttribute, SetInput, SetOperator, apply
from fetafix.faults import catalogue
from fetafix.graph.align import Aligner, Alignment, InputTwin
from fetafix.ir import Graph
from fetafix.treat import Treatment, treat
from tests.faults.models import renamed, residual
from tests.faults.support import EVALUATOR, Builder

FAULTS = list(catalogue().values())
SOURCE = residual(seed=4)
X = np.random.default_rng(5).standard_normal((2, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner(SOURCE, {"image": X}, EVALUATOR)


def healed(aligner: Aligner, edits: Sequence[Edit]) -> Treatment:
    target = renamed(SOURCE)
    outputs = dict(zip(target.output_names, SOURCE.output_names, strict=True))

    def align(graph: Graph) -> Alignment:
        return aligner.align(graph, (InputTwin("v_image", "image"),), outputs)

    return treat(align, apply(target, edits), FAULTS)


def keys(op: str) -> list[str]:
    return [f"v_{n.key}" for n in SOURCE.nodes if n.op == op]


def weight(key: str) -> np.ndarray:
    return SOURCE.initializers[SOURCE.node(key.removeprefix("v_")).inputs[1]]


CONVS, RELUS, NORMS = keys("Conv"), keys("Relu"), keys("BatchNormalization")
EACH: dict[str, tuple[str, list[Edit]]] = {
    "flip": ("wb-kernel-flip", [SetInput(CONVS[0], 1, np.ascontiguousarray(weight(CONVS[0])[:, :, ::-1, ::-1]))]),
    "bias": ("wb-bias", [SetInput(CONVS[2], 2, None)]),
    "epsilon": ("lh-bn-eps", [SetAttribute(NORMS[1], "epsilon", 0.2)]),
    "activation": ("cg-act-missing", [RemoveNode(RELUS[1])]),
    "substitute": ("cg-op-substitution", [SetOperator(RELUS[3], "Tanh")]),
    "dilation": ("lh-dilation", [SetAttribute(CONVS[4], "dilations", (2, 2)),
                                 SetAttribute(CONVS[4], "pads", (2, 2, 2, 2))]),
    "transposed": ("wb-kernel-layout", [SetInput(CONVS[3], 1, np.ascontiguousarray(weight(CONVS[3]).swapaxes(2, 3)))]),
}


def same_answer(treatment: Treatment) -> bool:
    feeds = {"v_image": X}
    (found,) = EVALUATOR.run(treatment.target, feeds, treatment.target.output_names)
    (wanted,) = EVALUATOR.run(SOURCE, {"image": X}, SOURCE.output_names)
    return bool(np.abs(found - wanted).max() < 1e-5)


@pytest.mark.parametrize("name", EACH)
def test_one_fault_is_named_and_healed(aligner: Aligner, name: str) -> None:
    code, edits = EACH[name]
    treatment = healed(aligner, edits)
    assert [s.remedy.code for s in treatment.steps if s.remedy] == [code]
    assert treatment.remaining == ()
    assert same_answer(treatment)


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("seed", range(4))
def test_many_faults_are_all_healed(aligner: Aligner, count: int, seed: int) -> None:
    names = np.random.default_rng([count, seed]).permutation(sorted(EACH))[:count]
    treatment = healed(aligner, [e for n in names for e in EACH[n][1]])
    assert treatment.remaining == ()
    assert same_answer(treatment)
    codes = {s.code for step in treatment.steps if step.remedy for s, _ in step.remedy.steps}
    assert len(codes & {EACH[n][0] for n in names}) >= count - 1


def test_a_healthy_target_gets_no_step(aligner: Aligner) -> None:
    treatment = healed(aligner, [])
    assert treatment.steps == ()
    assert treatment.remaining == ()


def test_a_second_treatment_changes_nothing(aligner: Aligner) -> None:
    first = healed(aligner, EACH["flip"][1])
    outputs = dict(zip(first.target.output_names, SOURCE.output_names, strict=True))
    again = treat(lambda g: aligner.align(g, (InputTwin("v_image", "image"),), outputs), first.target, FAULTS)
    assert again.steps == ()
    assert again.target is first.target


def test_another_training_run_is_recognised_and_not_copied(aligner: Aligner) -> None:
    rng = np.random.default_rng(9)
    edits = [SetInput(k, 1, rng.standard_normal(weight(k).shape).astype(np.float32) * 0.3) for k in CONVS]
    treatment = healed(aligner, edits)
    assert treatment.unrelated
    assert "unrelated" in treatment.reason


def shaped(order: Sequence[int] = (0, 1, 2, 3, 4)) -> Graph:
    """A local response normalisation as torch spells it: reshaped by sizes that are joined at run time."""
    b = Builder(3)
    x = b.op("Relu", b.op("Conv", b.input((2, 3, 6, 6), "image"), b.weight(8, 3, 3, 3), b.normal(8),
                          kernel_shape=(3, 3), pads=(1, 1, 1, 1)))
    sizes = b.op("Shape", x)
    dims = [b.op("Gather", sizes, np.array([i], np.int64), axis=0) for i in range(4)]
    parts = [dims[0], np.array([1], np.int64), *dims[1:]]
    y = b.op("Reshape", b.op("Mul", x, x), b.op("Concat", *[parts[i] for i in order], axis=0))
    y = b.op("Pad", y, np.array([0, 0, 2, 0, 0, 0, 0, 2, 0, 0], np.int64))
    y = b.op("Reshape", b.op("AveragePool", y, kernel_shape=(5, 1, 1)), sizes)
    y = b.op("Div", x, b.op("Sqrt", b.op("Add", y, np.array(1, np.float32))))
    return b.build(b.op("Gemm", b.op("Flatten", y, axis=1), b.weight(10, 288), b.normal(10), transB=1))


def test_a_propagated_difference_is_no_second_fault() -> None:
    """A wrong shape leaves nothing behind it that can be fed with the source's activations."""
    source, target = shaped(), renamed(shaped((3, 1, 2, 0, 4)))
    feeds = {"image": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    found = Aligner(source, feeds, EVALUATOR)
    outputs = dict(zip(target.output_names, source.output_names, strict=True))

    def align(graph: Graph) -> Alignment:
        return found.align(graph, (InputTwin(target.input_names[0], "image"),), outputs)

    made = treat(align, target, FAULTS)
    assert [s.remedy.code for s in made.steps if s.remedy] == ["tss-concat-order"] and not made.remaining
