"""What the judge makes of tasks: which gate holds, what weighs, when enough was seen, which repair is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fetafix.inputs.samples import SampleSet
from fetafix.judge.binding import Binding, Bindings
from fetafix.judge.comparison import Comparison, compare
from fetafix.judge.noise import Floor, Noise
from fetafix.judge.tasks.base import View
from fetafix.judge.tasks.choice import choose, wishes
from fetafix.judging import Judge, Judgement, Opponent
from fetafix.options import Options
from fetafix.probing import Probe
from fetafix.repair import better
from fetafix.report import ModelInfo, Verdict

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 10)) * 3
SOFT = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
MASK = np.kron(RNG.normal(size=(40, 3, 4, 4)) * 4, np.ones((1, 1, 4, 4)))
VECTORS, HIDDEN = RNG.normal(size=(40, 16)), RNG.normal(size=(40, 5, 64))
_LOW = np.arange(16.0).reshape(1, 8, 2) * np.ones((40, 1, 1))
BOXES = {"boxes": np.concatenate([_LOW, _LOW + 1.0], 2), "scores": np.tile(np.linspace(0.7, 0.9, 8), (40, 1))}
Outputs = Mapping[str, np.ndarray]


def judge(source: Outputs, noise: float = 1e-6, **options: Any) -> Judge:
    views = [View(n, v[:16], len(source) == 1) for n, v in source.items()]
    tasks = choose(views, wishes(options.get("task")), {})
    floors = Noise({n: Floor(noise, noise) for n in source})
    probe = Probe({n: v[:4] for n, v in source.items()}, floors)
    return Judge(Options(**options), ModelInfo(path="s", format=""), probe, tuple(source), tasks)


def opponent(source: Outputs) -> Opponent:
    bound = Bindings((), tuple(Binding(n, n, "by name") for n in source))
    info, probe = ModelInfo(path="t", format=""), Probe({}, Noise())
    return Opponent(None, info, SampleSet({}, {}, ()), bound, probe)  # type: ignore[arg-type]


def compared(j: Judge, source: Outputs, target: Outputs, n: int = 40) -> Comparison:
    rows = ({k: v[:n] for k, v in outputs.items()} for outputs in (source, target))
    return compare(opponent(source).bindings.outputs, j.tasks, *rows, j.probe.noise)


def judged(source: Outputs, target: Outputs, **options: Any) -> Judgement:
    j = judge(source, **options)
    return j.judgement(compared(j, source, target), opponent(source), [])


@pytest.mark.parametrize(("source", "options", "gate", "weighing"), [
    ({"y": SOFT}, {}, "labels", ["y"]), ({"mask": MASK}, {}, "task", ["mask"]), ({"y": HIDDEN}, {}, "numeric", []),
    ({"y": MASK}, {}, "numeric", []), ({"y": MASK}, {"gate": "task"}, "task", ["y"]),
    ({"y": MASK}, {"task": "segmentation"}, "task", ["y"]), ({"mask": MASK}, {"gate": "numeric"}, "numeric", ["mask"]),
    ({"a": SOFT, "mask": MASK}, {}, "task", ["a", "mask"]),
    ({"a": SOFT, "mask": MASK}, {"gate": "labels"}, "labels", ["a"]),
    ({"a": SOFT, "b": SOFT}, {}, "labels", ["a", "b"]), ({"a": SOFT, "b": HIDDEN}, {}, "numeric", ["a"]),
    ({"a": SOFT, "b": HIDDEN}, {"task": "b=numeric"}, "task", ["a"]),
    ({"a": SOFT, "b": HIDDEN}, {"gate": "task"}, "task", ["a"]), ({"y": SOFT}, {"task": "numeric"}, "numeric", []),
    ({"a": SOFT, "b": SCORES}, {}, "numeric", ["a", "b"]),
    ({"a": MASK, "b": HIDDEN}, {"task": "a=segmentation"}, "task", ["a"]),
])
def test_gates_and_what_weighs(source: Outputs, options: dict[str, Any], gate: str, weighing: list[str]) -> None:
    found = judge(source, **options)
    assert (found.gate, [o for t in found.weighing for o in t.outputs]) == (gate, weighing)
    assert set(found.by_numbers) == set(source) - set(weighing)


def test_a_guess_decides_nothing() -> None:
    """Score maps by shape alone: their classes are told, and numbers decide as they did."""
    worse = {"y": MASK[:, ::-1]}
    found = judged({"y": MASK}, worse)
    told = found.agreement.tasks[0]
    assert (told.task, told.sure, told.weighs, found.answers, found.likeness) == ("segmentation", "maybe", False, 0, 0)
    assert found.ruling.verdict is Verdict.DIVERGENT and "answers" not in found.ruling.reason
    drift = judged({"y": MASK}, {"y": MASK + 1e-3})
    assert drift.ruling.verdict is Verdict.DIVERGENT and drift.agreement.tasks[0].share == 1.0


def test_noise_is_no_other_answer() -> None:
    """A quantity that hardly varies moves by many of its spreads within the noise."""
    pose = 7.0 + RNG.normal(size=(40, 3)) * 1e-7
    found = judged({"pose": pose}, {"pose": pose + 1e-5}, task="pose=regression,spreads=0", noise=1e-5)
    assert (found.ruling.verdict, found.answers) == (Verdict.EQUIVALENT, 1.0), found.ruling.reason


def test_noise_as_large_as_the_values_says_nothing() -> None:
    """Where rounding exchanges the rows of a list, any numbers are within the noise, but not any boxes are found."""
    found = judged(BOXES, {**BOXES, "boxes": BOXES["boxes"] + 0.5}, noise=50.0)
    assert all(o.within for o in found.agreement.outputs)
    assert (found.ruling.verdict, found.answers) == (Verdict.DIVERGENT, 0.0)


def test_a_user_s_tolerance_is_for_numbers_only() -> None:
    found = judged({"mask": MASK}, {"mask": MASK[:, ::-1]}, tolerance={"mask": 1e6})
    assert found.agreement.outputs[0].within and (found.ruling.verdict, found.answers) == (Verdict.DIVERGENT, 0.0)
    asked = judged({"mask": MASK}, {"mask": MASK[:, ::-1]}, tolerance={"mask": 1e6}, gate="numeric")
    assert (asked.ruling.verdict, asked.ruling.passed) == (Verdict.EQUIVALENT, True), asked.ruling.reason


@pytest.mark.parametrize(("source", "wrong", "n", "settled"), [
    ({"mask": MASK}, {"mask": MASK[:, ::-1]}, 4, True), ({"mask": MASK}, {"mask": MASK + 0.01}, 16, False),
    ({"mask": MASK}, {"mask": MASK + 0.01}, 40, True), ({"embedding": VECTORS}, {"embedding": -VECTORS}, 4, True),
    ({"embedding": VECTORS}, {"embedding": VECTORS * 1.01}, 39, False),
    ({"pose": VECTORS[:, :3]}, {"pose": VECTORS[:, :3] + 9}, 8, True),
    ({"pose": VECTORS[:, :3]}, {"pose": VECTORS[:, :3] + 0.06}, 8, False),
])
def test_when_enough_was_seen(source: Outputs, wrong: Outputs, n: int, settled: bool) -> None:
    """One other answer of a sample that no further one can save settles it; agreement takes all samples."""
    j = judge(source)
    assert j.settled(compared(j, source, wrong, n), opponent(source), 40) is settled


def test_outputs_without_an_answer_settle_it_by_their_numbers() -> None:
    source = {"mask": MASK, "b": HIDDEN}
    j = judge(source, task="b=numeric")
    worse = {"mask": MASK, "b": HIDDEN + 1}
    assert j.gate == "task" and j.settled(compared(j, source, worse, 8), opponent(source), 40)
    assert not j.settled(compared(j, source, source, 40), opponent(source), 40)


def near(count: int, strength: float) -> Judgement:
    """The first `count` maps are wrong altogether, the others have lost a corner of some size."""
    target = MASK.copy()
    target[:count] = target[:count, ::-1]
    target[count:, :, : round(16 * strength)] = 0
    return judged({"mask": MASK}, {"mask": target})


def test_the_repair_wins_whose_answers_agree_more_often_then_more_nearly_then_whose_numbers_do() -> None:
    assert better(near(3, 0.0), near(6, 0.0)) and not better(near(6, 0.0), near(3, 0.0))
    all_wrong, half = near(0, 0.9), near(0, 0.5)
    assert all_wrong.answers == half.answers == 0.0 and half.likeness > all_wrong.likeness
    assert better(half, all_wrong) and not better(all_wrong, half)
    one, other = (judged({"mask": MASK}, {"mask": MASK + d}) for d in (1e-3, 1e-2))
    assert one.answers == other.answers == one.likeness == other.likeness == 1.0
    assert better(one, other) and not better(other, one)


def test_numbers_do_not_outweigh_answers() -> None:
    """Boxes in another order are far off by their numbers, and right; a small shift is near, and wrong."""
    turned = {k: v[:, ::-1] for k, v in BOXES.items()}
    shifted = {**BOXES, "boxes": BOXES["boxes"] + 0.5}
    right, wrong = judged(BOXES, turned), judged(BOXES, shifted)
    numbers = [max(o.rel_l2 or 0.0 for o in j.agreement.outputs) for j in (right, wrong)]
    assert numbers[0] > numbers[1] and better(right, wrong) and not better(wrong, right)
    assert (right.ruling.verdict, wrong.ruling.verdict) == (Verdict.DRIFTING, Verdict.DIVERGENT)
