"""A piece of an ONNX graph as TensorFlow nodes, built by TensorFlow's own functions and believed only after a trial.

Tensors keep ONNX's layout; around what TensorFlow computes with channels last on the CPU (convolution, pooling,
resizing) stand Transposes, which its optimizer merges with those around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.attempts import compare, need_examples
from fetafix.formats.base import Unsupported
from fetafix.formats.tensorflow import pointwise, shapes, windows
from fetafix.formats.tensorflow.call import Call, Handler
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Graph, Node

_HANDLERS: Mapping[str, Handler] = {**windows.HANDLERS, **shapes.HANDLERS, **pointwise.HANDLERS}


def convert(fragment: Graph, feeds: Mapping[str, Array]) -> tuple[Any, list[str], str]:
    """(GraphDef, its Placeholders in the order of the fragment's inputs, the tensor of its only output).

    feeds: an example for every input, whose first axis may have any length in use. Raises Unsupported where an operator
    has no counterpart here, or the nodes answer differently from the fragment.
    """
    import tensorflow as tf

    need_examples(fragment, feeds)
    ops = ", ".join(dict.fromkeys(n.op for n in fragment.nodes))
    with tf.Graph().as_default() as graph:
        values: dict[str, Any] = {}
        for i, value in enumerate(fragment.inputs):
            array = feeds[value.name]
            shape = [None, *array.shape[1:]] if array.ndim else []
            values[value.name] = tf.compat.v1.placeholder(array.dtype, shape, name=f"fetafix_input_{i}")
        try:
            for node in fragment.nodes:
                _emit(tf, node, fragment, values)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise Unsupported(f"TensorFlow cannot express {ops} so: {str(error).splitlines()[0][:200]}") from error
        result = tf.identity(values[fragment.output_names[0]])
        _check(tf, graph, [values[v.name] for v in fragment.inputs], result, fragment, feeds, ops)
        return graph.as_graph_def(), [values[v.name].op.name for v in fragment.inputs], result.op.inputs[0].name


def _emit(tf: Any, node: Node, fragment: Graph, values: dict[str, Any]) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise Unsupported(f"{node.label}: {node.domain}.{node.op} has no counterpart in TensorFlow here")

    def constant(slot: int) -> Array | None:
        return fragment.constant(node, slot)

    inputs = [_value(tf, name, fragment, values) for name in node.inputs]
    handler = _HANDLERS.get(node.op)
    if handler is None:
        raise Unsupported(f"{node.label}: {node.op} has no counterpart in TensorFlow here")
    made = handler(Call(tf, node, inputs, constant))
    for name, value in zip(node.outputs, made if isinstance(made, list | tuple) else [made], strict=False):
        values[name] = value


def _value(tf: Any, name: str, fragment: Graph, values: dict[str, Any]) -> Any:
    if not name:
        return None
    if name not in values:
        values[name] = tf.constant(np.asarray(fragment.initializers[name]))
    return values[name]


def _check(
    tf: Any, graph: Any, inputs: Sequence[Any], result: Any, fragment: Graph, feeds: Mapping[str, Array], ops: str
) -> None:
    """The nodes must answer as the fragment does."""
    names = [v.name for v in fragment.inputs]
    wanted = Evaluator().run(fragment, feeds, fragment.output_names)[0]
    try:
        with tf.compat.v1.Session(graph=graph) as session:
            made = session.run(result, dict(zip(inputs, (feeds[n] for n in names), strict=True)))
    except (tf.errors.OpError, ValueError) as error:
        raise Unsupported(f"TensorFlow cannot run {ops} so: {str(error).splitlines()[0][:200]}") from error
    try:
        compare(ops, wanted, np.asarray(made))
    except Unsupported as reason:
        raise Unsupported(f"as TensorFlow nodes, {ops} answers differently: {reason}") from reason
