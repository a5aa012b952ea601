"""The ONNX view of a TensorFlow function or GraphDef, by tf2onnx.

Nothing is fused that the model keeps apart: grappler, which folds a multiplication into the convolution before it, is
used only where tf2onnx fails without it, and tf2onnx's own optimizers run without their fusions of Conv with
BatchNormalization and Mul. Dimensions that the graph leaves open stay open; the interface has the artifact's names.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fetafix.errors import LiftError
from fetafix.formats.base import Lifted
from fetafix.formats.onnx import view as onnx_view
from fetafix.ir import Array

OPSET = 17
_SUFFIX = re.compile(r"__\d+$")
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def from_function(function: Any, folder: Path, example: Mapping[str, Array], inputs: Mapping[str, str] | None = None,
                  outputs: Mapping[str, str] | None = None) -> Lifted:
    """The view of a tf.ConcreteFunction, written into `folder`.

    Args:
        function: a concrete function; its variables are frozen, its calls inlined.
        folder: where the view goes.
        example: one small batch of inputs by interface name, kept beside the view.
        inputs: interface name → tensor of `function.graph` ("x:0"); default: its arguments by their names.
        outputs: likewise; default: the keys of what it returns, where that is a dict.

    Raises LiftError with the operators that tf2onnx does not know.
    """
    graph_def = freeze(function)
    captured = {t.name for t in function.graph.internal_captures}
    fed = [t.name for t in function.inputs if t.name not in captured]
    inputs = inputs or {name.split(":")[0]: name for name in fed}
    if outputs is None:
        made = function.structured_outputs
        outputs = {k: v.name for k, v in made.items()} if isinstance(made, dict) else {
            t.name.split(":")[0]: t.name for t in function.outputs}
    return from_graph_def(graph_def, inputs, outputs, folder, example)


def freeze(function: Any) -> Any:
    """A GraphDef of a concrete function with its variables as constants and its calls inlined."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    except Exception as error:  # whatever stops it, there is no graph to convert
        raise LiftError(f"its variables cannot be frozen: {short(error)}") from error
    return frozen.graph.as_graph_def(add_shapes=True)


def from_graph_def(graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str], folder: Path,
                   example: Mapping[str, Array]) -> Lifted:
    """The view of a frozen GraphDef, written into `folder`; arguments as in `from_function`."""
    model, notes = convert(graph_def, inputs, outputs)
    path = onnx_view.save(model, onnx_view.Taps({}), folder, example)
    return Lifted(path, names(model, [n.name for n in graph_def.node]), notes)


def convert(
    graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """tf2onnx's conversion of a frozen GraphDef, and notes about it. Raises LiftError."""
    problems: list[str] = []
    with quiet():
        for prepared, note in ((_plain, ""), (_grappled, "grappler folded constants first")):
            try:
                model = _converted(prepared(graph_def, inputs, outputs), inputs)
                return model, (note,) if note else ()
            except LiftError as error:
                problems.append(str(error))
            except Exception as error:  # tf2onnx and grappler raise anything
                problems.append(f"tf2onnx cannot convert it: {short(error)}")
    raise LiftError("; ".join(dict.fromkeys(problems)))


def names(model: onnx.ModelProto, layers: list[str]) -> dict[str, str]:
    """Node key → the TensorFlow node that it was made from: tf2onnx keeps its name, with a suffix for what it adds.

    What it named anew belongs to the next layer downstream.
    """
    known = set(layers)
    found: dict[str, str] = {}
    readers: dict[str, str] = {}
    for node in reversed(model.graph.node):
        name = node.name
        while name and name not in known:
            added = _SUFFIX.search(name)
            name = name[: added.start()] if added else name.rpartition("/" if "/" in name else "_")[0]
        key = next((o for o in node.output if o), "")
        name = name or readers.get(key, "")
        if name and key:
            found[key] = name
            readers.update(dict.fromkeys(node.input, name))
    return found


def _plain(graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """The graph with an Identity for each output: one tensor may be put out under several names."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.CopyFrom(graph_def)
    taken = {n.name for n in graph.node}
    ends: dict[str, str] = {}
    for name, tensor in outputs.items():
        end = f"{re.sub(r'[^A-Za-z0-9_.]', '_', name)}_fetafix_output"
        while end in taken:
            end += "_"
        taken.add(end)
        graph.node.add(name=end, op="Identity", input=[tensor])
        ends[name] = f"{end}:0"
    _type_identities(graph, [e[:-2] for e in ends.values()])
    return graph, ends


def _type_identities(graph: Any, added: list[str]) -> None:
    """Set the dtype of the Identity nodes added, read off the imported graph."""
    import tensorflow as tf

    bare = type(graph)()
    bare.CopyFrom(graph)
    new = [n for n in graph.node if n.name in set(added)]
    del bare.node[len(bare.node) - len(new):]
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(bare, name="")
    for node in new:
        tensor = imported.get_tensor_by_name(node.input[0])
        node.attr["T"].type = tensor.dtype.as_datatype_enum


def _grappled(graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    from tf2onnx import tf_loader

    graph, ends = _plain(graph_def, inputs, outputs)
    return tf_loader.tf_optimize(list(inputs.values()), list(ends.values()), graph), ends


def _converted(prepared: tuple[Any, dict[str, str]], inputs: Mapping[str, str]) -> onnx.ModelProto:
    import tensorflow as tf
    from tf2onnx.optimizer import optimize_graph
    from tf2onnx.tfonnx import process_tf_graph

    graph_def, ends = prepared
    renamed = {t: n for n, t in {**inputs, **ends}.items()}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        made = process_tf_graph(graph, opset=OPSET, input_names=list(inputs.values()), output_names=list(ends.values()),
                                tensors_to_rename=renamed, continue_on_error=False)
        made = optimize_graph(made, catch_errors=True, optimizers=optimizers())
        model: onnx.ModelProto = made.make_model("lifted")
    strange = unknown(model.graph)
    if strange:
        raise LiftError(f"tf2onnx does not know the operator(s) {', '.join(sorted(strange))}")
    return model


def optimizers() -> dict[str, Any]:
    """tf2onnx's optimizers without those parts that fuse layers, and the same in every process.

    They walk through sets of nodes, which Python orders by address, and so number and merge otherwise in each run: here
    nodes are ordered by name (workers hash names by a fixed seed).
    """
    from tf2onnx.graph import Node
    from tf2onnx.optimizer import _get_optimizers, back_to_back_optimizer, transpose_optimizer

    Node.__hash__ = lambda node: hash(node.name)

    class Transposes(transpose_optimizer.TransposeOptimizer):  # type: ignore[misc]
        def _mul_handler(self, trans: Any, node: Any) -> bool:
            """A factor for each channel goes past the Transpose, never into the Conv in front of it."""
            factor = next((i for i in node.inputs if i is not trans), None)
            if trans.inputs[0].type != "Conv" or factor is None or not factor.is_const():
                return bool(super()._mul_handler(trans, node))
            value = factor.get_tensor_value(as_list=False)
            if value.size > 1:
                if value.size != value.shape[-1] or not self._nodes_has_single_consumer_node([factor]):
                    return False
                perm = list(trans.get_attr("perm").ints)
                shape = np.ones(len(perm), np.int64)
                shape[perm[-1]] = value.size
                factor.set_tensor_value(value.reshape(shape))
            return bool(self._switch_transpose_and_node(node, trans))

    class BackToBack(back_to_back_optimizer.BackToBackOptimizer):  # type: ignore[misc]
        def _optimize_at_current_graph_level(self, graph: Any) -> Any:
            table = back_to_back_optimizer._func_map
            fusions = {k: v for k, v in table.items() if k[0] in ("Conv", "ConvTranspose")}
            for key in fusions:
                del table[key]
            try:
                return super()._optimize_at_current_graph_level(graph)
            finally:
                table.update(fusions)

    kept = dict(_get_optimizers())
    kept.update(optimize_transpose=Transposes, remove_back_to_back=BackToBack)
    return kept


def unknown(graph: onnx.GraphProto) -> set[str]:
    """Operators that ONNX does not have: what tf2onnx could not convert it leaves as it was."""
    found: set[str] = set()
    for node in graph.node:
        if node.domain not in _KNOWN_DOMAINS or not (node.domain == "com.microsoft" or onnx.defs.has(node.op_type)):
            found.add(node.op_type)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                found |= unknown(body)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """tf2onnx logs what it tries; what it cannot do is raised or seen in the result."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def short(error: BaseException) -> str:
    """An error's class and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
