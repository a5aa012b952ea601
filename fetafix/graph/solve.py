"""A linear layer's parameters solved from activations by least squares, where no weights can be compared."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fetafix.graph.attributes import canonical
from fetafix.ir import Array, Graph, Node

_MOST_ROWS = 20_000
_MOST_UNKNOWNS = 3_000


def solve(node: Node, graph: Graph, x: Array, y: Array) -> tuple[Array, Array] | None:
    """Weight and bias, in the node's own form, that make `y` of `x` (float64), with the least squared error.

    node: Conv (one group, 4-D), Gemm or MatMul. x: its input; y: its wanted output. None where the operator is another,
    or the samples do not determine the parameters.
    """
    values = canonical(node, graph)
    if node.op == "Conv" and x.ndim == 4 and values.get("group") == 1 and "pads" in values:
        solved = _least_squares(_patches(x, node, graph), y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1]))
        if solved is None:
            return None
        weight, bias = solved
        return weight.T.reshape(y.shape[1], x.shape[1], *values["kernel_shape"]), bias
    if node.op in ("Gemm", "MatMul") and not values.get("transA"):
        solved = _least_squares(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
        if solved is None:
            return None
        weight, bias = solved
        scaled = weight / float(values.get("alpha", 1.0)), bias / float(values.get("beta", 1.0))
        return (scaled[0].T if values.get("transB") else scaled[0]), scaled[1]
    return None


def _patches(x: Array, node: Node, graph: Graph) -> Array:
    """im2col: (N·H'·W', C·k·k) of a 4-D input, for the node's kernel, strides, dilations and pads."""
    values = {**canonical(node, graph), "pads": tuple(node.attrs.get("pads", (0, 0, 0, 0)))}  # type: ignore[arg-type]
    top, left, bottom, right = values["pads"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = values["kernel_shape"], values["strides"], values["dilations"]
    windows = sliding_window_view(padded, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * kh * kw)


def _least_squares(x: Array, y: Array) -> tuple[Array, Array] | None:
    unknowns = x.shape[1] + 1
    if len(x) != len(y) or len(x) < unknowns or unknowns > _MOST_UNKNOWNS:
        return None
    step = max(1, len(x) // max(_MOST_ROWS, 2 * unknowns))
    design = np.column_stack([x[::step], np.ones(len(x[::step]))]).astype(np.float64)
    if not (np.isfinite(design).all() and np.isfinite(y).all()):
        return None
    solution, _, rank, _ = np.linalg.lstsq(design, y[::step].astype(np.float64), rcond=None)
    return None if rank < unknowns else (solution[:-1], solution[-1])
