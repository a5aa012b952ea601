"""Weights of Keras's recurrent layers from ONNX's stacked tensors: the gates' order, transposition, and both biases."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.recurrent import recurrent, rewritten
from fetafix.formats.transfer import SetConstant
from fetafix.ir import Array, Node

RNG = np.random.default_rng(0)
KERAS = {"LSTM": "ifco", "GRU": "zrh"}
ONNX = {"LSTM": "iofc", "GRU": "zrh"}


def stacked(op: str, kernel: Array) -> Array:
    """A Keras kernel (inputs, gates·hidden) as one direction of ONNX's W, block by block by its gate's letter."""
    blocks = dict(zip(KERAS[op], np.split(kernel, len(KERAS[op]), axis=1), strict=True))
    return np.concatenate([blocks[g].T for g in ONNX[op]])


def change(op: str, slot: int, old: Array | None, new: Array | None) -> SetConstant:
    return SetConstant(Node(op, ("x", "w", "r", "b"), ("y",)), slot, "w", old, new)


@pytest.mark.parametrize("op", KERAS)
@pytest.mark.parametrize("direction", [0, 1])
def test_a_kernel_of_either_direction(op: str, direction: int) -> None:
    gates = len(KERAS[op])
    held = {name: RNG.standard_normal((3, gates * 2)).astype(np.float32) for name in ("kernel", "kernel_1")}
    wanted = RNG.standard_normal((3, gates * 2)).astype(np.float32)
    old = np.stack([stacked(op, v) for v in held.values()])
    new = old.copy()
    new[direction] = stacked(op, wanted)
    made = rewritten(held, change(op, 1, old, new))
    assert list(made) == [list(held)[direction]]
    np.testing.assert_array_equal(made[list(held)[direction]], wanted)


def test_an_lstm_has_one_bias_for_two() -> None:
    held = {"kernel": np.zeros((3, 8), np.float32), "bias": RNG.standard_normal(8).astype(np.float32)}
    wanted = RNG.standard_normal(8).astype(np.float32)
    old, new = (np.concatenate([stacked("LSTM", b[None])[:, 0], np.zeros(8, np.float32)])[None]
                for b in (held["bias"], wanted))
    np.testing.assert_array_equal(rewritten(held, change("LSTM", 3, old, new))["bias"], wanted)


def test_a_gru_with_reset_after_has_both() -> None:
    held = {"bias": RNG.standard_normal((2, 6)).astype(np.float32)}
    old, wanted = held["bias"].reshape(1, 12), RNG.standard_normal((2, 6)).astype(np.float32)
    np.testing.assert_array_equal(rewritten(held, change("GRU", 3, old, wanted.reshape(1, 12)))["bias"], wanted)


def test_what_the_layer_does_not_hold_is_refused() -> None:
    old = RNG.standard_normal((1, 8, 3)).astype(np.float32)
    with pytest.raises(Unsupported, match="no weight of the layer"):
        rewritten({"kernel": np.zeros((3, 8), np.float32)}, change("LSTM", 1, old, old + 1))
    with pytest.raises(Unsupported, match="all their weights"):
        rewritten({}, change("LSTM", 1, old, None))


def test_other_constants_are_left_to_others() -> None:
    assert not recurrent(change("Gemm", 1, None, None)) and not recurrent(change("LSTM", 5, None, None))
