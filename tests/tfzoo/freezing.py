"""Frozen GraphDefs of what Keras computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def frozen(call: Callable[[Any], Any], shape: Sequence[int | None]) -> bytes:
    """A GraphDef with the weights as constants; its input is `image`, float32."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    return bytes(convert_variables_to_constants_v2(function).graph.as_graph_def().SerializeToString())
