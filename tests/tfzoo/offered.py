"""A network with an activation that TFLite has no operator for, and the file that a converter left without it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fetafix.formats import open as open_model
from tests.tfzoo.freezing import frozen

SIDE = 12


def make(folder: Path) -> None:
    """source.onnx, right.{tflite,keras,h5,pb}, right/ (SavedModel), wrong.tflite; x.npy, (24, 12, 12, 3) float32."""
    keras.utils.set_random_seed(0)
    right, wrong = network("softplus"), network("linear")
    right.set_weights([4 * w if w.ndim == 4 else w for w in right.get_weights()])
    wrong.set_weights(right.get_weights())
    x = np.random.default_rng(0).normal(size=(24, SIDE, SIDE, 3)).astype(np.float32)
    np.save(folder / "x.npy", x)
    for name, model in (("right", right), ("wrong", wrong)):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        (folder / f"{name}.tflite").write_bytes(converter.convert())
    right.export(folder / "right", verbose=False)
    right.save(folder / "right.keras")
    right.save(folder / "right.h5")
    (folder / "right.pb").write_bytes(frozen(right, (None, SIDE, SIDE, 3)))
    (folder / "view").mkdir()
    lifted = open_model(folder / "right.keras").lift(folder / "view", {"image": x[:2]})
    shutil.copyfile(lifted.path, folder / "source.onnx")


def network(activation: str) -> Any:
    """The same layers with another activation."""
    entry = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(8, 3, 2, "same", name="stem")(entry)
    x = layers.Activation(activation, name="act")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(entry, layers.Dense(6, name="scores")(x))
