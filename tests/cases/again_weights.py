"""Weights that converters wrote in a wrong order, form or place, made again in PyTorch's faithful export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from tests.cases.case import Pair, case
from tests.cases.networks import (
    Change,
    Function,
    around,
    edited,
    exported,
    pair,
    samples,
    tensor,
)

Array = np.ndarray[Any, Any]


def _made(folder: Path, layer: nn.Module, *changes: Change) -> Pair:
    x = samples()
    source = exported(around(layer), folder / "source.onnx", x)
    return pair(folder, source, edited(source, folder / "target.onnx", *changes), x)


def _last_gemm(change: Callable[[Array], Array]) -> Change:
    return tensor("Gemm", 1, change)


@case("MMdnn#595", "again (MMdnn)", "tss-flatten-order")
def flattened_in_another_layout(folder: Path) -> Pair:
    """The dense layer's rows in the order of channels last, behind a Flatten of channels first."""
    def rows(w: Array) -> Array:
        return w.reshape(10, 12, 16, 16).transpose(0, 2, 3, 1).reshape(10, -1)

    return _made(folder, nn.Identity(), _last_gemm(rows))


@case("onnxruntime#32228", "again (onnxruntime)", "tss-transB")
def square_matrix_transposed(folder: Path) -> Pair:
    """A square weight of a fully connected layer, transposed: every shape still fits."""
    layer = nn.Sequential(nn.Flatten(2), nn.Linear(256, 256), nn.Unflatten(2, (16, 16)))
    return _made(folder, layer, tensor("MatMul", 1, lambda w: w.T))


@case("onnx2torch#256", "again (onnx2torch)", "wb-rnn-gate-order")
def recurrent_gates(folder: Path) -> Pair:
    """PyTorch orders an LSTM's gates i, f, g, o and ONNX i, o, f, c: written without reordering."""
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(128, 16, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x.permute(0, 2, 1, 3).flatten(2))[0][:, None] * 4.0

    def gates(block: int) -> Callable[[Array], Array]:
        def back(w: Array) -> Array:
            parts = np.split(w, 4 * block, axis=1)
            order = [k for b in range(block) for k in (4 * b, 4 * b + 2, 4 * b + 3, 4 * b + 1)]
            return np.concatenate([parts[k] for k in order], axis=1)

        return back

    return _made(folder, Rows(), tensor("LSTM", 1, gates(1)), tensor("LSTM", 2, gates(1)), tensor("LSTM", 3, gates(2)))


@case("onnx2tf#16", "again (onnx2tf)", "wb-bias")
def bias_dropped(folder: Path) -> Pair:
    """A convolution's bias was not carried over."""
    def drop(model: onnx.ModelProto) -> None:
        node = [n for n in model.graph.node if n.op_type == "Conv"][1]
        held = next(t for t in model.graph.initializer if t.name == node.input[2])
        del node.input[2]
        model.graph.initializer.remove(held)

    return _made(folder, nn.Conv2d(8, 8, 3, padding=1), drop)


@case("executorch#17423", "again (executorch)", "wb-dw-multiplier", "wb-weights", "wb-kernel-layout")
def depthwise_multiplier(folder: Path) -> Pair:
    """A depthwise convolution with two outputs a channel, which were written multiplier first."""
    def order(w: Array) -> Array:
        return w.reshape(8, 2, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)

    layer = nn.Conv2d(8, 16, 3, padding=1, groups=8)
    return _made(folder, layer, tensor("Conv", 1, order, which=1), tensor("Conv", 2, order, which=1))


@case("litert-torch#1238", "again (litert-torch)", "wb-stride-lost", "wb-kernel-layout", "wb-weights")
def strides_of_a_constant(folder: Path) -> Pair:
    """A constant that was a transposed view: its bytes were written in memory order under its own shape."""
    def memory(w: Array) -> Array:
        return np.ascontiguousarray(w.T).reshape(w.shape)

    return _made(folder, nn.Conv2d(8, 8, 3, padding=1), tensor("Conv", 1, memory, which=1))


@case("optimizer#178", "again (onnx's optimiser)", "wb-bn-fold")
def bias_lost_in_the_fold(folder: Path) -> Pair:
    """BatchNormalization folded into a convolution whose own bias was forgotten."""
    torch.manual_seed(2)
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    for p in (layer[1].running_mean, layer[1].weight, layer[1].bias):
        nn.init.uniform_(p, 0.5, 1.5)
    nn.init.constant_(layer[0].bias, 0.4)
    x = samples()
    unfolded = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    source = exported(around(layer), folder / "source.onnx", x, **unfolded)
    wrong, bias = around(layer), layer[0].bias.detach().clone()
    with torch.no_grad():
        layer[0].bias.zero_()
    target = exported(wrong, folder / "target.onnx", x)
    with torch.no_grad():
        layer[0].bias.copy_(bias)
    return pair(folder, source, target, x)


@case("onnx-tensorrt#974", "again (onnx-tensorrt)", "wb-initializer-alias", "wb-weights")
def shared_name(folder: Path) -> Pair:
    """Two tensors of one name: the second layer got the first one's weights."""
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1))

    def alias(model: onnx.ModelProto) -> None:
        first, second = [n for n in model.graph.node if n.op_type == "Conv"][1:3]
        held = next(t for t in model.graph.initializer if t.name == second.input[1])
        second.input[1] = first.input[1]
        model.graph.initializer.remove(held)

    return _made(folder, layer, alias)


@case("tensorflow-onnx#2394", "again (tf2onnx)", "wb-precision")
def half_precision_weights(folder: Path) -> Pair:
    """Weights that went through half precision and came back as single."""
    def half(w: Array) -> Array:
        bits = np.ascontiguousarray(w, np.float32).view(np.uint32) & 0xFFFF0000
        return bits.view(np.float32)

    return _made(folder, Function(lambda x: x * 1.0), *(tensor("Conv", 1, half, k) for k in range(2)))
