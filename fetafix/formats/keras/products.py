"""Products with matrices, as Keras's Dense layers: MatMul, Gemm, and entries of an axis picked by zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.maker import Handler, Maker, applied, keras_layers
from fetafix.ir import Array, Node

SELECTION = 1 << 22


def dense(x: Laid, weight: Array, bias: Array | None) -> Laid:
    """The product x · weight (+ bias), on the last axis. Raises Unsupported where the weight is no matrix."""
    if weight.ndim != 2:
        raise Unsupported("a product with more than one matrix has no Keras layer")
    layer = keras_layers().Dense(weight.shape[1], use_bias=bias is not None)
    flat = None if bias is None else np.broadcast_to(np.asarray(bias).reshape(-1), (weight.shape[1],))
    return Laid(applied(layer, x.tensor, weight, flat), x.perm)


def _matmul(maker: Maker, node: Node) -> Laid:
    import keras

    x, weight = maker.input(node).plain, maker.constant(node, 1)
    if weight is None:
        y = maker.input(node, 1).plain
        return Laid(keras.ops.matmul(x.tensor, y.tensor), x.perm)
    return dense(x, weight, None)


def _gemm(maker: Maker, node: Node) -> Laid:
    x, weight, bias = maker.input(node).plain, maker.needed(node, 1), maker.constant(node, 2)
    if node.attrs.get("transA") or (bias is None and node.input(2)):
        raise Unsupported("Gemm of a transposed input, or with a computed bias")
    weight = weight.T if node.attrs.get("transB") else weight
    alpha, beta = (np.float32(node.attrs.get(k, 1.0)) for k in ("alpha", "beta"))  # type: ignore[arg-type]
    return dense(x, weight * alpha, None if bias is None else bias * beta)


def selected(x: Laid, axis: int, indices: Array) -> Laid:
    """Entries of one axis: a Dense layer of zeros and ones, exact, and known to every container."""
    x = x if x.perm[-1] == axis else x.turned((*(p for p in x.perm if p != axis), axis))
    matrix = np.eye(x.tensor.shape[-1], dtype=np.float32)[:, indices]
    return Laid(applied(keras_layers().Dense(indices.size, use_bias=False), x.tensor, matrix), x.perm)


HANDLERS: Mapping[str, Handler] = {"MatMul": _matmul, "Gemm": _gemm}
