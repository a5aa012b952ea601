"""TFLite files of every kind, converted by TensorFlow's own converter from small models with seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SIDE, CLASSES = 16, 10
INTEGER = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
INT16 = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
FLEX = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]


def make(folder: Path) -> None:
    """Write all of them, and samples with what Keras makes of them."""
    keras.utils.set_random_seed(7)
    images = np.random.default_rng(3).uniform(-1, 1, (64, 4, 4, 3)).astype(np.float32).repeat(4, 1).repeat(4, 2)
    model = network(images)
    np.savez(folder / "samples.npz", images=images, scores=model.predict(images, verbose=0))
    convert_all(model, images, folder)
    (folder / "lstm.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(recurrent()).convert())
    (folder / "inputs.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(two_inputs()).convert())
    functions(folder)


def network(images: Any) -> Any:
    """A classifier with a separable convolution, a residual, a strided one and fused activations.

    Its head is set so that the labels of `images` are diverse.
    """
    x = entry = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Conv2D(8, 3, 2, "same", name="stem")(x)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = left = keras.layers.ReLU(6.0, name="stem_relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.ReLU(name="depthwise_relu")(x)
    x = keras.layers.Conv2D(8, 1, name="pointwise")(x)
    x = keras.layers.Add(name="residual")([x, left])
    # more than 1024 weights, without which the converter leaves a layer out of dynamic-range quantisation
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="wide")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(CLASSES, name="head")(x)
    model = keras.Model(entry, keras.layers.Softmax(name="scores")(x))
    rng = np.random.default_rng(5)
    for weight in model.weights:
        name = weight.path
        low, high = (0.5, 1.5) if "variance" in name or "gamma" in name else (-0.4, 0.4)
        weight.assign(rng.uniform(low, high, weight.shape))
    head = model.get_layer("head")
    scores = keras.Model(entry, head.output).predict(images, verbose=0)
    kernel, bias = head.get_weights()
    gain = 1.0 / scores.std(axis=0)
    head.set_weights([kernel * gain, (bias - scores.mean(axis=0)) * gain])
    return model


def convert_all(model: Any, images: Any, folder: Path) -> None:
    """The classifier in every precision."""
    settings: dict[str, dict[str, Any]] = {
        "float": {},
        "fp16": {"types": [tf.float16]},
        "dynamic": {"optimise": True},
        "int8": {"ops": INTEGER, "io": tf.int8},
        "uint8": {"ops": INTEGER, "io": tf.uint8},
        "int8_float_io": {"ops": INTEGER},
        "int16x8": {"ops": INT16, "io": tf.int16},
    }
    for name, wanted in settings.items():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if wanted:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = wanted.get("types", [])
        if "ops" in wanted:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
            converter.target_spec.supported_ops = wanted["ops"]
            if "io" in wanted:
                converter.inference_input_type = converter.inference_output_type = wanted["io"]
        (folder / f"{name}.tflite").write_bytes(converter.convert())


def recurrent() -> Any:
    """An LSTM over eight steps, and a dense layer."""
    entry = keras.Input((8, 4), batch_size=1, name="steps")
    x = keras.layers.LSTM(6, name="lstm")(entry)
    return keras.Model(entry, keras.layers.Dense(3, name="out")(x))


def two_inputs() -> Any:
    """Two inputs and two outputs of unlike shapes."""
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="right")
    x = keras.layers.Concatenate()([keras.layers.Dense(5)(left), keras.layers.Dense(5)(right)])
    return keras.Model([left, right], {"sum": keras.layers.Dense(2)(x), "score": keras.layers.Dense(3)(x)})


class Calculator(tf.Module):  # type: ignore[misc]
    """Two functions, and one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(0.0)
        self.factor = tf.constant(np.linspace(1, 2, 4, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([None, 4])])  # type: ignore[untyped-decorator]
    def add(self, a: Any, b: Any) -> dict[str, Any]:
        """a + b·factor."""
        return {"total": a + b * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])  # type: ignore[untyped-decorator]
    def scale(self, a: Any) -> dict[str, Any]:
        """a·factor + 1."""
        return {"scaled": a * self.factor + 1.0}

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])  # type: ignore[untyped-decorator]
    def count(self, a: Any) -> dict[str, Any]:
        """Adds to what was seen before."""
        self.total.assign_add(tf.reduce_sum(a))
        return {"seen": a + self.total}

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])  # type: ignore[untyped-decorator]
    def branch(self, a: Any) -> dict[str, Any]:
        """Depends on the sign of the sum."""
        return {"y": tf.cond(tf.reduce_sum(a) > 0, lambda: tf.exp(a), lambda: a * self.factor)}

    @tf.function(input_signature=[tf.TensorSpec([3, 3])])  # type: ignore[untyped-decorator]
    def inverse(self, a: Any) -> dict[str, Any]:
        """An operator that TFLite leaves to TensorFlow."""
        return {"y": tf.linalg.inv(a) + 1.0}

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])  # type: ignore[untyped-decorator]
    def file(self, a: Any) -> dict[str, Any]:
        """Reads a file."""
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return {"y": a + tf.cast(size, tf.float32)}


def functions(folder: Path) -> None:
    """Signatures, variables, control flow, Flex and custom operators."""
    module = Calculator()
    for name, parts, ops in (
        ("signatures", ("add", "scale"), None), ("stateful", ("count",), None), ("branch", ("branch",), None),
        ("flex", ("inverse",), FLEX), ("flex_file", ("file",), FLEX), ("custom", ("inverse",), None),
    ):  # fmt: skip
        signatures = {p: getattr(module, p) for p in parts}
        saved = folder / f"{name}_saved"
        tf.saved_model.save(module, str(saved), signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=list(parts))
        converter.experimental_enable_resource_variables = True
        converter.allow_custom_ops = name == "custom"
        if ops:
            converter.target_spec.supported_ops = ops
        (folder / f"{name}.tflite").write_bytes(converter.convert())
