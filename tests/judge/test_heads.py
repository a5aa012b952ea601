from __future__ import annotations

import numpy as np
import pytest

from fetafix.judge.heads import head

RNG = np.random.default_rng(0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


LOGITS = RNG.normal(size=(8, 10)) * 3
BINARY = RNG.normal(size=(8, 1)) @ np.array([[1.0, -1.0]]) + RNG.normal(size=(8, 2)) * 0.1
BOX = np.array([10.0, 20.0, 200.0, 180.0]) + RNG.normal(size=(8, 4))
UNIT = LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("y", LOGITS, "yes"),
        ("y", LOGITS[:, :, None, None], "yes"),
        ("y", softmax(LOGITS), "yes"),
        ("y", softmax(BINARY), "yes"),
        ("y", BINARY, "yes"),
        ("y", RNG.normal(size=(8, 2)) + np.array([0, 3]), "maybe"),
        ("logits", RNG.normal(size=(8, 2)), "yes"),
        ("gaze_angles", RNG.normal(size=(8, 2)), "no"),
        ("y", BOX, "maybe"),
        ("bbox", BOX, "no"),
        ("y", UNIT, "no"),
        ("y", np.maximum(LOGITS, 0), "no"),
        ("y", RNG.normal(size=(8, 1)), "no"),
        ("y", RNG.normal(size=(2, 4420, 4)), "no"),
        ("scores", RNG.normal(size=(2, 4420, 2)), "no"),
        ("label", np.arange(8), "no"),
        ("y", RNG.integers(0, 255, (8, 10)).astype(np.uint8), "yes"),
        ("y", RNG.integers(0, 255, (8, 10)), "no"),
        ("y", np.full((4, 10), np.nan), "maybe"),
    ],
)
def test_heads(name: str, values: np.ndarray, expected: str) -> None:
    found = head(name, values.astype(np.float32) if values.dtype.kind == "f" else values)
    assert found.classifier == expected, found.why
    assert found.why


def test_of_several_outputs_logits_need_more_evidence() -> None:
    assert head("y", LOGITS, alone=False).classifier == "maybe"
    assert head("y", softmax(LOGITS), alone=False).classifier == "yes"
    assert head("logits", LOGITS, alone=False).classifier == "yes"


def test_one_sample_is_enough_for_many_classes() -> None:
    assert head("y", LOGITS[:1]).classifier == "yes"
    assert head("y", BINARY[:1]).classifier == "maybe"


@pytest.mark.parametrize("classes", [2, 10, 1001])
def test_probabilities_in_codes_are_probabilities(classes: int) -> None:
    """1001 scores in steps of 1/256: most become 0, and a row no longer sums to 1."""
    sharp = softmax(RNG.normal(size=(8, classes)) * 4)
    coded = np.minimum(np.rint(sharp * 256), 255) / 256
    assert head("y", coded, step=1 / 256).classifier == "yes"
    assert "sum to 1" in head("y", coded, step=1 / 256).why
    assert head("y", np.full((8, classes), 0.9), step=1 / 256).why != head("y", coded, step=1 / 256).why
