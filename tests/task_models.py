"""Small ONNX networks for every kind of answer, healthy, with a slight drift, and with a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from tests.small_models import Shape, node, save

Tensors = dict[str, np.ndarray]
SIZE = 16


@dataclass(frozen=True)
class Net:
    """A network on a convolution with ReLU: what follows that (its result is "r"), its outputs, its tensors."""

    tail: tuple[NodeProto, ...]
    outputs: Mapping[str, Shape]
    tensors: Tensors
    integers: tuple[str, ...] = ()


def images(path: Path, n: int = 40) -> Path:
    """Images of large blocks, each in colours of its own."""
    rng = np.random.default_rng(5)
    coarse = rng.normal(size=(n, 3, 4, 4)) + rng.normal(size=(n, 3, 1, 1)) * 2
    np.save(path, np.kron(coarse, np.ones((1, 1, 4, 4))).astype(np.float32))
    return path


def _pooled(*more: NodeProto) -> tuple[NodeProto, ...]:
    pool = node("AveragePool", ["r"], ["p"], kernel_shape=[8, 8], strides=[8, 8])
    return (pool, node("Flatten", ["p"], ["f"]), *more)


def _f32(**tensors: np.ndarray) -> Tensors:
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in tensors.items()}


def segmentation(rng: np.random.Generator) -> Net:
    tail = (node("Conv", ["r", "w2", "b2"], ["mask"]),)
    return Net(tail, {"mask": ["N", 4, SIZE, SIZE]}, _f32(w2=rng.normal(size=(4, 8, 1, 1)), b2=rng.normal(size=4)))


def detection(rng: np.random.Generator) -> Net:
    low = np.stack(np.meshgrid(np.arange(3), np.arange(3)), -1).reshape(1, 9, 2) / 3.0
    anchors = np.concatenate([low, low + 0.2], -1)
    tail = _pooled(
        node("Gemm", ["f", "wb", "bb"], ["d"]), node("Tanh", ["d"], ["dt"]), node("Reshape", ["dt", "four"], ["dr"]),
        node("Mul", ["dr", "small"], ["ds"]), node("Add", ["ds", "anchors"], ["boxes"]),
        node("Gemm", ["f", "ws", "bs"], ["l"]), node("Reshape", ["l", "three"], ["lr"]),
        node("Sigmoid", ["lr"], ["scores"]))
    tensors = _f32(
        wb=rng.normal(size=(32, 36)) * 0.3, bb=rng.normal(size=36), ws=rng.normal(size=(32, 27)) * 0.5,
        bs=rng.normal(size=27) - 1, anchors=anchors, small=np.array([0.02]))
    shapes = {"four": np.array([-1, 9, 4]), "three": np.array([-1, 9, 3])}
    return Net(tail, {"boxes": ["N", 9, 4], "scores": ["N", 9, 3]}, {**tensors, **shapes})


def tokens(rng: np.random.Generator) -> Net:
    tail = _pooled(node("Gemm", ["f", "w2", "b2"], ["g"]), node("Reshape", ["g", "shape"], ["logits"]))
    tensors = {**_f32(w2=rng.normal(size=(32, 60)), b2=rng.normal(size=60)), "shape": np.array([-1, 6, 10])}
    return Net(tail, {"logits": ["N", 6, 10]}, tensors)


def ids(rng: np.random.Generator) -> Net:
    made = tokens(rng)
    return Net((*made.tail, node("ArgMax", ["logits"], ["tokens"], axis=2, keepdims=0)), {"tokens": ["N", 6]},
               made.tensors, ("tokens",))


def embedding(rng: np.random.Generator) -> Net:
    tail = _pooled(node("Gemm", ["f", "w2", "b2"], ["g"]), node("LpNormalization", ["g"], ["y"], axis=1, p=2))
    return Net(tail, {"y": ["N", 16]}, _f32(w2=rng.normal(size=(32, 16)), b2=rng.normal(size=16)))


def regression(rng: np.random.Generator) -> Net:
    return Net(_pooled(node("Gemm", ["f", "w2", "b2"], ["pose"])), {"pose": ["N", 3]},
               _f32(w2=rng.normal(size=(32, 3)), b2=rng.normal(size=3)))


def several(rng: np.random.Generator) -> Net:
    """A class map and an embedding, by one network."""
    mask, vector = segmentation(rng), embedding(rng)
    renamed = {"w2": "w3", "b2": "b3"}
    head = node("Conv", ["r", "w3", "b3"], ["mask"])
    return Net((*vector.tail, head), {**mask.outputs, **vector.outputs},
               {**vector.tensors, **{renamed[k]: v for k, v in mask.tensors.items()}})


NETS: Mapping[str, Callable[[np.random.Generator], Net]] = {
    "segmentation": segmentation, "detection": detection, "tokens": tokens, "ids": ids, "embedding": embedding,
    "regression": regression, "several": several,
}


def write(path: Path, name: str, drift: float = 0.0, relu: bool = True) -> Path:
    """A network of `NETS`. drift: added to the first layer's biases. relu: False drops its activation."""
    rng = np.random.default_rng(3)
    first = _f32(w1=rng.normal(size=(8, 3, 3, 3)) * 0.3, b1=rng.normal(size=8) * 0.3)
    first["b1"] = first["b1"] + np.float32(drift)
    net = NETS[name](rng)
    conv = node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1])
    act = node("Relu" if relu else "Identity", ["c"], ["r"])
    return save(path, [conv, act, *net.tail], {"x": ["N", 3, SIZE, SIZE]}, dict(net.outputs), {**first, **net.tensors},
                net.integers)
