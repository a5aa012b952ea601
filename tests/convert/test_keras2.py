"""Keras 2's layers of TensorFlow functions are rebuilt as what they compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def made(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("keras2")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_rebuilt_model_answers_as_the_functions_do(made: Path, suffix: str) -> None:
    answers = np.load(made / "answers.npz")
    assert np.abs(answers["expected"]).max() > 0.1
    np.testing.assert_allclose(answers[suffix], answers["expected"], rtol=1e-4, atol=1e-5)


def test_weights_are_the_layers_own(made: Path) -> None:
    kinds = json.loads((made / "layers.json").read_text())
    assert [k for k in kinds if k in ("Conv2D", "DepthwiseConv2D", "Dense")] == [
        "Conv2D", "DepthwiseConv2D", "Conv2D", "Dense"]
    assert "Add" not in kinds and "Multiply" not in kinds  # biases are in the layers, a factor of one is none


def test_subscripts_take_what_they_took(made: Path) -> None:
    answers = np.load(made / "sliced.npz")
    assert np.array_equal(answers["made"], answers["expected"]) and answers["made"].shape == (3, 4, 1, 2)


def test_what_is_not_known_is_named(made: Path) -> None:
    assert "tf.signal.fft2d" in (made / "refusal.txt").read_text()
