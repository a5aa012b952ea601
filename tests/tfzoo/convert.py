"""A small Keras classifier in the formats that conversions start from, and samples for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 12, 6


def make(folder: Path) -> None:
    """net.keras, net.h5, saved/ (SavedModel), net.tflite and samples.npy, (48, 12, 12, 3) float32."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    samples = np.random.default_rng(0).standard_normal((48, SIDE, SIDE, 3)).astype(np.float32)
    model = _network(keras)
    _spread(model, samples)
    np.save(folder / "samples.npy", samples)
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    model.export(folder / "saved", verbose=False)
    (folder / "net.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _network(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(6.0, name="act")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="scores")(x), name="net")


def _spread(model: Any, samples: np.ndarray) -> None:
    """Scale the last layer so that every class is answered somewhere."""
    dense = model.get_layer("scores")
    kernel, bias = dense.get_weights()
    scores = model(samples).numpy()
    scale = 1 / (scores.std(0) + 1e-6)
    dense.set_weights([kernel * scale, (bias - scores.mean(0)) * scale])
