"""Trace a Keras model into a TensorFlow function for conversion: scopes for calls, normalisations kept whole.

Keras computes BatchNormalization as x · s + t with s, t computed from its parameters, which converters fold into the
layer in front. While tracing, images go through TensorFlow's own normalisation operator, which tf2onnx keeps; others
get s and t as two constants. Flatten, Reshape and UpSampling2D, which Keras spells out in many operators, are traced as
one each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fetafix.formats.keras.graph import Flat, evaluate
from fetafix.formats.keras.interface import Port


def trace(model: Any, flat: Flat | None, inputs: Sequence[Port], scope: str) -> Any:
    """A concrete function of the model's inputs. Call i of `flat` is traced in the name scope `{scope}{i}`."""
    import tensorflow as tf
    from keras import tree

    def run(*tensors: Any) -> list[Any]:
        if flat is None:
            return list(tree.flatten(model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)))
        values = evaluate(flat, tensors, lambda i, call: tf.name_scope(f"{scope}{i}/"))
        return [tf.identity(values[v]) for v in flat.outputs]

    signature = [tf.TensorSpec(p.shape, p.dtype, name=f"input_{i}") for i, p in enumerate(inputs)]
    with _plainly(tf):
        return tf.function(run, input_signature=signature, autograph=False).get_concrete_function()


@contextlib.contextmanager
def _plainly(tf: Any) -> Iterator[None]:
    """While it is entered, layers compute what they always do by operators that converters know as one."""
    import keras
    from keras.src.backend.tensorflow import nn

    usual = {
        "flatten": keras.layers.Flatten.call, "reshape": keras.layers.Reshape.call,
        "up": keras.layers.UpSampling2D.call, "normalise": nn.batch_normalization,
    }  # fmt: skip
    keras.layers.Flatten.call, keras.layers.Reshape.call = (
        _reshaped(tf, usual["flatten"]), _reshaped(tf, usual["reshape"]))  # fmt: skip
    keras.layers.UpSampling2D.call, nn.batch_normalization = _enlarged(tf, usual["up"]), _normalised(tf)
    try:
        yield
    finally:
        keras.layers.Flatten.call, keras.layers.Reshape.call = usual["flatten"], usual["reshape"]
        keras.layers.UpSampling2D.call, nn.batch_normalization = usual["up"], usual["normalise"]


def _reshaped(tf: Any, usual: Callable[..., Any]) -> Callable[..., Any]:
    def call(layer: Any, inputs: Any) -> Any:
        shape = tuple(layer.compute_output_shape(tuple(inputs.shape)))
        if None in shape[1:] or None in tuple(inputs.shape)[1:]:
            return usual(layer, inputs)
        return tf.reshape(inputs, (-1, *shape[1:]))

    return call


def _enlarged(tf: Any, usual: Callable[..., Any]) -> Callable[..., Any]:
    def call(layer: Any, inputs: Any) -> Any:
        height, width = tuple(inputs.shape)[1:3]
        if layer.interpolation != "nearest" or layer.data_format != "channels_last" or None in (height, width):
            return usual(layer, inputs)
        size = (height * layer.size[0], width * layer.size[1])
        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size)

    return call


def _normalised(tf: Any) -> Callable[..., Any]:
    def normalise(
        x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
    ) -> Any:
        rank = len(x.shape)
        if rank != 4 or axis not in (-1, 3) or x.dtype not in (tf.float32, tf.float16):
            return _affine(tf, x, mean, variance, axis % rank, offset, scale, epsilon)
        ones, zeros = tf.ones_like(mean), tf.zeros_like(mean)
        scale, offset = ones if scale is None else scale, zeros if offset is None else offset
        return tf.compat.v1.nn.fused_batch_norm(
            x, scale, offset, mean, variance, epsilon=epsilon, is_training=False
        )[0]

    return normalise


def _affine(
    tf: Any, x: Any, mean: Any, variance: Any, axis: int, offset: Any, scale: Any, epsilon: float
) -> Any:
    """X · factor + shift; factor = γ / √(σ² + ε), shift = β − μ · factor."""
    shape = [1] * len(x.shape)
    shape[axis] = -1
    factor = tf.math.rsqrt(variance + epsilon) * (1.0 if scale is None else scale)
    shift = (0.0 if offset is None else offset) - mean * factor
    return x * tf.reshape(factor, shape) + tf.reshape(shift, shape)
