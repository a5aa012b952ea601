"""A functional model as onnx2tf has Keras 2 write it, rebuilt for Keras 3; what TensorFlow's functions say to it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def op(name: str, function: str, first: Any, **kwargs: Any) -> dict[str, Any]:
    """One TFOpLambda; `first` is a layer's name, several, or a constant."""
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    if isinstance(first, list):
        nodes: Any = [[[f, 0, 0, plain] for f in first]]
    else:
        nodes = [[first, 0, 0, plain] if isinstance(first, str) else ["_CONSTANT_VALUE", -1, first, plain]]
    return {"class_name": "TFOpLambda", "config": {"name": name, "function": function}, "inbound_nodes": nodes}


def write(path: Path, layers: list[dict[str, Any]], output: str) -> None:
    """A Keras 2 archive with one input, (None, 12, 12, 4)."""
    entry = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 12, 12, 4]},
             "inbound_nodes": []}
    config = {"layers": [entry, *layers], "input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": config}))


def _sliced(folder: Path, keras: Any, x: Any) -> None:
    """sliced.npz: what a rebuilt model makes of a subscript, and what NumPy does."""
    from fetafix.convert.keras2 import rebuild

    every = {"start": None, "stop": None, "step": None}
    spec = [every, {"start": 1, "stop": 11, "step": 3}, None, -1, {"start": None, "stop": 2, "step": None}]
    layer = op("end", "__operators__.getitem", "x", slice_spec=spec)
    write(folder / "slices.keras", [{**layer, "class_name": "SlicingOpLambda"}], "end")
    rebuild(folder / "slices.keras", folder / "sliced.keras")
    model = keras.saving.load_model(folder / "sliced.keras", compile=False)
    np.savez(folder / "sliced.npz", expected=x[:, 1:11:3, None, -1, :2], made=model(x).numpy())


def make(folder: Path) -> None:
    """rebuilt.keras, rebuilt.h5; answers.npz with `expected` and what both files answer; layers.json, refusal.txt."""
    import keras
    import tensorflow as tf

    from fetafix.convert.keras2 import rebuild

    w = {"conv": weight(3, 3, 2, 6), "bias": weight(6), "depth": weight(3, 3, 6, 1), "dilated": weight(3, 3, 6, 5),
         "late": weight(5), "dense": weight(11, 3), "end": weight(3)}
    write(folder / "old.keras", _layers(w), "end")
    for suffix in ("keras", "h5"):
        rebuild(folder / "old.keras", folder / f"rebuilt.{suffix}")
    x = RNG.normal(size=(3, 12, 12, 4)).astype(np.float32)
    loaded = {s: keras.saving.load_model(folder / f"rebuilt.{s}", compile=False) for s in ("keras", "h5")}
    np.savez(folder / "answers.npz", expected=_expected(tf, w, x), **{s: m(x).numpy() for s, m in loaded.items()})
    (folder / "layers.json").write_text(json.dumps([type(layer).__name__ for layer in loaded["keras"].layers]))
    _sliced(folder, keras, x)
    write(folder / "odd.keras", [op("odd", "signal.fft2d", "x")], "odd")
    try:
        rebuild(folder / "odd.keras", folder / "odd-rebuilt.keras")
    except ValueError as error:
        (folder / "refusal.txt").write_text(str(error))


def _layers(w: dict[str, Any]) -> list[dict[str, Any]]:
    """A grouped convolution with bias, a depthwise one, a dilated one on blocks, with crops, and a head."""
    return [
        op("pad", "compat.v1.pad", "x", paddings=[[0, 0], [1, 1], [1, 1], [0, 0]], mode="CONSTANT", constant_values=0),
        op("conv", "nn.convolution", "pad", filters=w["conv"], strides=[1, 1], padding="VALID", dilations=[1, 1]),
        op("bias", "math.add", "conv", y=w["bias"]),
        op("act", "nn.relu6", "bias"),
        op("depth", "nn.depthwise_conv2d", "act", filter=w["depth"], strides=[1, 2, 2, 1], padding="SAME"),
        op("blocks", "space_to_batch_nd", "depth", block_shape=[3, 3], paddings=[[3, 3], [3, 3]]),
        op("inner", "compat.v1.nn.conv2d", "blocks", filter=w["dilated"], strides=[1, 1, 1, 1], padding="VALID"),
        op("whole", "compat.v1.batch_to_space_nd", "inner", block_shape=[3, 3], crops=[[0, 1], [0, 0]]),
        op("late", "math.add", "whole", y=w["late"]),
        op("crop", "compat.v1.pad", "late", paddings=[[0, 0], [0, 1], [0, 0], [0, 0]], mode="CONSTANT"),
        op("pool", "compat.v1.nn.avg_pool", "crop", ksize=[1, 2, 2, 1], strides=[1, 1, 1, 1], padding="SAME"),
        op("both", "concat", ["pool", "depth"], axis=3),
        op("mean", "math.reduce_mean", "both", axis=[1, 2], keepdims=True),
        op("flat", "compat.v1.squeeze", "mean", axis=[1, 2]),
        op("dense", "linalg.matmul", "flat", b=w["dense"]),
        op("once", "math.multiply", 1.0, y=["dense", 0, 0]),
        op("end", "__operators__.add", "once", y=w["end"]),
    ]


def _expected(tf: Any, w: dict[str, Any], x: Any) -> Any:
    """The same by TensorFlow's functions."""
    act = tf.nn.relu6(tf.nn.convolution(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), w["conv"]) + w["bias"])
    depth = tf.nn.depthwise_conv2d(act, w["depth"], [1, 2, 2, 1], "SAME")
    blocks = tf.space_to_batch_nd(depth, [3, 3], [[3, 3], [3, 3]])
    inner = tf.nn.conv2d(blocks, w["dilated"], 1, "VALID")
    late = tf.batch_to_space(inner, [3, 3], [[0, 1], [0, 0]]) + w["late"]
    pool = tf.nn.avg_pool(tf.pad(late, [[0, 0], [0, 1], [0, 0], [0, 0]]), [2, 2], [1, 1], "SAME")
    mean = tf.reduce_mean(tf.concat([pool, depth], 3), [1, 2])
    return (tf.matmul(mean, w["dense"]) + w["end"]).numpy()
