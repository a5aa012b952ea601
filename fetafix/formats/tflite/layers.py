"""Which TFLite operator each node of the ONNX view belongs to.

tf2onnx keeps the names of tensors and adds suffixes to what it makes around them. What it names anew is either the tail
of the operator before it, an addition of the bias or a fused activation, or inside the operator behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fetafix.formats.tflite import names as tflite_names
from fetafix.formats.tflite.records import SubGraph

_SUFFIX = re.compile(r"(:\d+|__\d+|_(?:de|pre)quant|_quantize|_codes|_relu|_[A-Z][A-Za-z]+)$")
_TAIL = {"Add", "Relu", "Clip", "Min", "Max", "Tanh", "Sign"}
_BIASED = {"FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"}


def names(view: Any, graph: SubGraph) -> dict[str, str]:
    """Node key → layer, as `tflite_names.layer` writes it."""
    owners = _by_name(view, graph)
    _tails(view, graph, owners)
    _downstream(view, owners)
    operators = graph.operators
    return {
        key: tflite_names.layer(graph.tensors[operators[i].outputs[0]].name, operators[i].op, i)
        for key, i in owners.items() if operators[i].outputs
    }  # fmt: skip


def _key(node: Any) -> str:
    return next((o for o in node.output if o), "")


def _by_name(view: Any, graph: SubGraph) -> dict[str, int]:
    """Node key → operator, where the name of an output is that of an operator's tensor with suffixes."""
    made = {graph.tensors[i].name: o.index for o in graph.operators for i in o.outputs if i >= 0}
    used = {graph.tensors[i].name: o.index for o in reversed(graph.operators) for i in o.inputs if i >= 0}
    known = {**used, **made}
    owners = {}
    for node in view.node:
        for name in (o for o in (*node.output, node.name) if o):
            found = _stem(name, known)
            if found is not None:
                owners[_key(node)] = known[found]
                break
    return owners


def _stem(name: str, known: Mapping[str, int]) -> str | None:
    while name not in known:
        suffix = _SUFFIX.search(name)
        if suffix is None:
            return None
        name = name[: suffix.start()]
    return name


def _tails(view: Any, graph: SubGraph, owners: dict[str, int]) -> None:
    """Give a bias' addition and a fused activation to the operator in front of them."""
    readers: dict[str, list[Any]] = {}
    for node in view.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    for node in view.node:
        owner = owners.get(_key(node))
        following = readers.get(_key(node), [])
        if owner is None or len(following) != 1 or graph.operators[owner].op.startswith("RELU"):
            continue
        after = following[0]
        if _key(after) not in owners and after.op_type in _TAIL and (
            after.op_type != "Add" or graph.operators[owner].op in _BIASED
        ):  # fmt: skip
            owners[_key(after)] = owner


def _downstream(view: Any, owners: dict[str, int]) -> None:
    """What is left belongs to the operator behind it, or else to the one in front."""
    behind: dict[str, int] = {}
    for node in reversed(view.node):
        owner = owners.get(_key(node), behind.get(_key(node)))
        if owner is not None:
            owners[_key(node)] = owner
            for tensor in node.input:
                behind.setdefault(tensor, owner)
    ahead: dict[str, int] = {}
    for node in view.node:
        owner = owners.get(_key(node))
        if owner is None:
            owner = next((ahead[t] for t in node.input if t in ahead), None)
        if owner is not None:
            owners[_key(node)] = owner
            ahead.update(dict.fromkeys(node.output, owner))
