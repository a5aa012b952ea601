"""Which comparator judges which output, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.errors import UsageError
from fetafix.judge.tasks.base import View
from fetafix.judge.tasks.choice import Wish, choose, wishes
from tests.judge.tasks.test_detection import CHOSEN
from tests.judge.tasks.test_segmentation import LOGITS, SOFT

RNG = np.random.default_rng(0)
SCORES, VECTORS = RNG.normal(size=(4, 10)), RNG.normal(size=(4, 64))


def chosen(given: object = None, names: dict[str, str] | None = None, **outputs: np.ndarray) -> dict[str, str]:
    """Outputs of each comparator, and how sure it is: "boxes,scores" → "detection yes"."""
    views = [View(n, v, len(outputs) == 1) for n, v in outputs.items()]
    found = choose(views, wishes(given), names or {})
    return {",".join(a.outputs): f"{a.comparator.name} {a.claim.sure}" for a in found}


@pytest.mark.parametrize(("outputs", "wanted"), [
    ({"y": SCORES}, {"y": "classification yes"}),
    ({"y": SOFT}, {"y": "segmentation yes"}),
    (CHOSEN, {"boxes,scores,classes,count": "detection yes"}),
    ({"logits": RNG.normal(size=(4, 9, 50))}, {"logits": "tokens yes"}),
    ({"embedding": VECTORS}, {"embedding": "embedding yes"}),
    ({"landmarks": RNG.normal(size=(4, 10))}, {"landmarks": "regression yes"}),
    ({"y": RNG.normal(size=(4, 3, 9, 9))}, {"y": "segmentation maybe"}),
    ({"hidden": VECTORS}, {}), ({"y": RNG.normal(size=(4, 5, 64))}, {}), ({"image": RNG.normal(size=(4, 3, 9, 9))}, {}),
    ({"logits": RNG.normal(size=(4, 8, 50)), "pred_boxes": CHOSEN["boxes"]}, {"pred_boxes,logits": "detection yes"}),
    ({"probs": np.full((4, 5), 0.2), "mask": LOGITS[:4], "aux": VECTORS[:, :, None]},
     {"probs": "classification yes", "mask": "segmentation yes"}),
])
def test_the_choice_by_itself(outputs: dict[str, np.ndarray], wanted: dict[str, str]) -> None:
    assert chosen(**outputs) == wanted


def test_what_is_asked_for_is_taken() -> None:
    assert chosen("segmentation", y=RNG.normal(size=(4, 3, 9, 9))) == {"y": "segmentation asked"}
    assert chosen("y=numeric", y=SCORES) == {"y": "numeric asked"}
    assert chosen(["tokens"], y=RNG.normal(size=(4, 5, 64))) == {"y": "tokens asked"}
    assert chosen({"b": "embedding"}, a=SCORES, b=VECTORS) == {"a": "classification maybe", "b": "embedding asked"}


def test_the_target_s_names_serve_as_well() -> None:
    assert chosen("out=embedding", {"out": "y"}, y=VECTORS) == {"y": "embedding asked"}


def test_outputs_of_one_task_belong_together_where_the_task_says_so() -> None:
    asked = {"boxes": "detection", "scores": "detection", "classes": "detection"}
    assert chosen(asked, **CHOSEN) == {"boxes,scores,classes": "detection asked"}
    assert chosen({"a": "segmentation", "b": "segmentation,miou=0.5"}, a=LOGITS, b=LOGITS) == {
        "a": "segmentation asked", "b": "segmentation asked"}


def test_limits() -> None:
    view = [View("mask", LOGITS)]
    assert dict(choose(view, wishes("mask=segmentation,miou=0.5"), {})[0].limits) == {"miou": 0.5, "pixels": 0.98}
    assert dict(choose(view, wishes({"mask": {"task": "segmentation", "pixels": 1}}), {})[0].limits) == {
        "miou": 0.9, "pixels": 1.0}


@pytest.mark.parametrize(("given", "wanted"), [
    (None, ()), ("detection", (Wish("detection"),)), ("m=segmentation", (Wish("segmentation", "m"),)),
    (["a=numeric", "tokens,tokens=0.9"], (Wish("numeric", "a"), Wish("tokens", None, {"tokens": 0.9}))),
    ({"a": "numeric", "b": {"task": "tokens"}}, (Wish("numeric", "a"), Wish("tokens", "b"))),
    ("model/out:0=numeric", (Wish("numeric", "model/out:0"),)),
])
def test_how_wishes_read(given: object, wanted: tuple[Wish, ...]) -> None:
    assert wishes(given) == wanted


@pytest.mark.parametrize(("given", "words"), [
    ("detecton", "no task 'detecton'; did you mean 'detection'"), ("zzz", "known are classification, detection"),
    ("tokens,tokns=1", "no limit 'tokns'; did you mean 'tokens'"), ("tokens,tokens", "expected key=value"),
    ("tokens,tokens=all", "is a number, found 'all'"), (["tokens", "numeric"], "2 tasks are given for the whole model"),
    (["a=tokens", "a=numeric"], "2 tasks are given for 'a'"), ({"a": 3}, "a mapping with a key 'task'; found 3"),
    ({"a": {"miou": 1}}, "a mapping with a key 'task'"), ("classification,top1=1", "known are none"),
])
def test_wishes_that_make_no_sense(given: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        wishes(given)
    assert words in str(caught.value)


@pytest.mark.parametrize(("given", "words"), [
    ("z=tokens", "no such output; outputs are y"), ("detection", "needs boxes (N, K, 4)"),
    ("y=segmentation", "found 'y' float64['N', 10]"),
])
def test_outputs_that_do_not_suit(given: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(given, y=SCORES)
    assert words in str(caught.value)


@pytest.mark.parametrize(("gate", "given", "words"), [
    ("labels", None, "one score a class, and there is none ('y' float64['N', 5, 64])"),
    ("task", None, "say with --task what it is"), ("task", "numeric", "say with --task"), ("task", "tokens", ""),
    ("numeric", None, ""), (None, None, ""),
])
def test_a_gate_that_nothing_could_pass(gate: str | None, given: str | None, words: str) -> None:
    view = [View("y", RNG.normal(size=(4, 5, 64)))]
    if words:
        with pytest.raises(UsageError) as caught:
            choose(view, wishes(given), {}, gate)
        assert words in str(caught.value)
    else:
        choose(view, wishes(given), {}, gate)
