"""MobileNetV2 as Keras defines it, converted: `python -m fetafix.bench.tensorflow_models FOLDER SAMPLES`.

A program of its own, for TensorFlow and PyTorch do not load in one process. Writes `saved_model`, `mobile.tflite` and
`mobile.onnx` (all NHWC); SAMPLES, (N, 224, 224, 3) float32 as .npy, calibrate the normalisations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fetafix.bench.models import CLASSES, SIDE


def main(folder: Path, samples: Path) -> None:
    """Make all three."""
    from fetafix.formats.tensorflow import env as tf_env

    tf = tf_env.prepare()
    import keras
    import tf2onnx

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(SIDE, SIDE, 3), classes=CLASSES)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics of one batch
    model(np.load(samples)[:16], training=True)
    model.export(str(folder / "saved_model"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    (folder / "mobile.tflite").write_bytes(converter.convert())
    tf2onnx.convert.from_keras(model, opset=17, output_path=str(folder / "mobile.onnx"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
