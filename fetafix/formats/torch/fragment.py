"""A piece of an ONNX graph as a PyTorch module: onnx2torch's conversion, believed only after it was measured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.edits import prune
from fetafix.errors import FetafixError
from fetafix.formats.attempts import need_examples
from fetafix.formats.base import Unsupported
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Array, Graph, Node, Value

_TOLERANCE = 1e-4


def convert(fragment: Graph, feeds: Mapping[str, Array]) -> Any:
    """A GraphModule that computes the fragment's outputs from its inputs, in order.

    feeds: an example for every input. Raises Unsupported where onnx2torch cannot convert an operator, or converts it to
    something that answers differently.
    """
    import onnx2torch

    need_examples(fragment, feeds)
    ops = ", ".join(dict.fromkeys(n.op for n in fragment.nodes))
    shaped = _for_converter(fragment, feeds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = onnx2torch.convert(model_from_graph(shaped)).eval()
    except Exception as error:  # a converter may fail in any way; all of them mean that it cannot
        raise Unsupported(f"onnx2torch cannot convert {ops}: {str(error)[:200] or type(error).__name__}") from error
    _check(module, shaped, feeds, ops)
    return module


def _for_converter(fragment: Graph, feeds: Mapping[str, Array]) -> Graph:
    """Declare shapes, and the pads of Conv and MaxPool that auto_pad stands for (onnx2torch takes explicit ones)."""

    def value(v: Value) -> Value:
        array = feeds[v.name]
        return Value(v.name, array.dtype, ("batch", *array.shape[1:]) if array.ndim else ())

    outputs = tuple(Value(v.name, v.dtype, None) for v in fragment.outputs)
    opset = {k: v for k, v in fragment.opset.items() if k == "" or any(n.domain == k for n in fragment.nodes)}
    fragment = _with_open_batch(fragment, feeds)
    nodes = tuple(_explicit(n, fragment, feeds) for n in fragment.nodes)
    return replace(fragment, nodes=nodes, inputs=tuple(value(v) for v in fragment.inputs), outputs=outputs, opset=opset)


def _with_open_batch(fragment: Graph, feeds: Mapping[str, Array]) -> Graph:
    """Reshapes to the Shape of another tensor as numbers with an open batch, which tracing would bake in."""
    nodes, constants = list[Node](), dict(fragment.initializers)
    for node in fragment.nodes:
        maker = fragment.producers.get(node.input(1)) if node.op == "Reshape" else None
        if maker is not None and maker.op == "Shape" and not maker.attrs:
            like, moved = (v.shape for v in Evaluator().run(fragment, feeds, [maker.input(0), node.input(0)]))
            if like and moved and like[0] == moved[0]:
                constants[f"{node.key}_sizes"] = np.array([0, *like[1:]], np.int64)
                node = replace(node.with_input(1, f"{node.key}_sizes"), attrs={})
        nodes.append(node)
    return prune(replace(fragment, nodes=tuple(nodes), initializers=constants))


def _explicit(node: Node, fragment: Graph, feeds: Mapping[str, Array]) -> Node:
    while node.inputs and not node.inputs[-1]:  # omitted inputs at the end confuse the converter
        node = replace(node, inputs=node.inputs[:-1])
    mode = node.attrs.get("auto_pad")
    weight = fragment.constant(node, 1)
    size = feeds.get(node.input(0))
    if mode not in ("SAME_UPPER", "SAME_LOWER") or node.op not in ("Conv", "MaxPool") or size is None:
        return node
    kernel: Any = node.attrs.get("kernel_shape") or (weight.shape[2:] if weight is not None else ())
    strides: Any = node.attrs.get("strides") or (1,) * len(kernel)
    dilations: Any = node.attrs.get("dilations") or (1,) * len(kernel)
    spans = zip(size.shape[2:], kernel, strides, dilations, strict=True)
    total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in spans]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    pads = (*small, *large) if mode == "SAME_UPPER" else (*large, *small)
    return replace(node, attrs={**{k: v for k, v in node.attrs.items() if k != "auto_pad"}, "pads": pads})


def _check(module: Any, fragment: Graph, feeds: Mapping[str, Array], ops: str) -> None:
    import torch

    try:
        wanted = Evaluator().run(fragment, feeds, [v.name for v in fragment.outputs])
        with torch.no_grad():
            made = module(*(torch.from_numpy(np.array(feeds[v.name])) for v in fragment.inputs))
    except (FetafixError, RuntimeError, ValueError, TypeError, NotImplementedError, IndexError) as error:
        raise Unsupported(f"the conversion of {ops} does not run: {str(error)[:200]}") from error
    made = list(made) if isinstance(made, tuple | list) else [made]
    for want, have in zip(wanted, made, strict=True):
        array = have.numpy()
        scale = max(float(np.max(np.abs(want), initial=0.0)), 1e-6) if want.dtype.kind == "f" else 1.0
        if want.shape != array.shape or not np.allclose(
            want, array, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
        ):
            raise Unsupported(f"onnx2torch's conversion of {ops} answers differently")
