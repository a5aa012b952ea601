"""A small network in every kind of TFLite file, and the ONNX view of each, for edits that are written natively."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fetafix.formats import open as open_model

SIDE = 12


def make(folder: Path) -> None:
    """{float,fp16,dynamic,int8}.tflite, a folder of the same name with the view, and samples.npz."""
    keras.utils.set_random_seed(5)
    images = np.random.default_rng(2).normal(size=(40, SIDE, SIDE, 3)).astype(np.float32)
    np.savez(folder / "samples.npz", images=images)
    model = network()
    for kind, options in _kinds(images).items():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        for name, value in options.items():
            setattr(converter, name, value)
        path = folder / f"{kind}.tflite"
        path.write_bytes(converter.convert())
        (folder / kind).mkdir()
        artifact = open_model(path)
        artifact.lift(folder / kind, {artifact.info.inputs[0].name: images[:1]})


def network() -> Any:
    """Conv, depthwise, BatchNormalization, residual, concatenation, both poolings, two dense layers, softmax."""
    x = entry = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(8, 3, 2, "same", name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = left = layers.ReLU(6.0, name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(6.0, name="depthwise_relu")(x)
    x = layers.Conv2D(8, 1, name="pointwise")(x)
    x = layers.Add(name="residual")([left, x])
    a = layers.Conv2D(6, 3, padding="same", activation="relu", name="branch_a")(x)
    b = layers.LeakyReLU(0.2, name="leaky")(layers.Conv2D(6, 1, name="branch_b")(x))
    x = layers.Concatenate(name="join")([a, b])
    y = layers.MaxPooling2D(2, name="highest")(x)
    z = layers.AveragePooling2D(3, 2, "same", name="mean")(x)
    x = layers.Subtract(name="difference")([y, z])
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(10, "relu", name="hidden")(x)
    x = layers.Softmax(name="scores")(layers.Dense(7, name="logits")(x))
    return _seeded(keras.Model(entry, x))


def _seeded(model: Any) -> Any:
    rng = np.random.default_rng(11)
    for layer in model.layers:
        shapes = [w.shape for w in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            spread = (rng.uniform(0.5, 1.5, s) if i in (0, 3) else rng.normal(0, 0.3, s) for i, s in enumerate(shapes))
            layer.set_weights(list(spread))
        elif shapes:
            kernel, *bias = layer.get_weights()
            layer.set_weights([1.5 * kernel, *(rng.normal(0, 0.3, b.shape) for b in bias)])
    return model


def _kinds(images: Any) -> dict[str, dict[str, Any]]:
    small = [tf.lite.Optimize.DEFAULT]
    return {
        "float": {},
        "fp16": {
            "optimizations": small,
            "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16]),
        },
        "dynamic": {"optimizations": small},
        "int8": {
            "optimizations": small,
            "representative_dataset": lambda: ([i[None]] for i in images),
            "target_spec": tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
            "inference_input_type": tf.int8,
            "inference_output_type": tf.int8,
        },
    }
