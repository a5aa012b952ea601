"""keras.applications' networks with seeded weights, calibrated on data: `python -m fetafix.bench.keras_networks …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fetafix.bench.calibration import prepared, spread


def make(model: str, out: Path, size: int, data: str, preset: str, seed: int) -> None:
    """Write the network as a Keras file."""
    from fetafix.formats.tensorflow import env as tf_env

    tf_env.prepare()
    import keras

    keras.utils.set_random_seed(seed)
    images = prepared(data, ["N", size, size, 3], preset)
    network = getattr(keras.applications, model)(weights=None, input_shape=(size, size, 3))
    calibrate(network, images, seed)
    network.save(out)


def calibrate(network: Any, images: Any, seed: int) -> None:
    """Give the normalisations the statistics of the images, and the last layer diverse labels."""
    import keras
    import numpy as np

    rng = np.random.default_rng(seed)
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        if norm.scale:
            norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(rng.normal(0.0, 0.3, norm.beta.shape))
        norm.momentum = 0.0  # the statistics of this batch, and no memory of others
    network(images, training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    head = network.layers[-1]
    features = keras.Model(network.inputs, head.input)(images, training=False).numpy()
    kernel, bias = head.get_weights()
    scale, offset = spread(features @ kernel + bias)
    head.set_weights([kernel * scale, bias * scale + offset])


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
