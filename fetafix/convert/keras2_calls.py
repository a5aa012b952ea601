"""What a Keras 2 archive of onnx2tf's says: one call a layer, with the weights among its arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_LINEAR = {"convolution", "conv2d", "depthwise_conv2d", "matmul"}
_ADDITIONS, _PRODUCTS = ("add", "add_v2"), ("mul", "multiply")


class Name(str):
    """The name of a layer whose output is meant."""


@dataclass(frozen=True)
class Call:
    """One layer of the file. first: its first argument(s), each (layer name) or a constant; kwargs: the others."""

    name: str
    kind: str
    function: str
    config: Mapping[str, Any]
    first: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    listed: bool


def references(stored: Any) -> list[Any]:
    """[["a", 0, 0], …], also where a single one is stored bare."""
    return [stored] if stored and isinstance(stored[0], str) else list(stored)


def is_reference(value: Any) -> bool:
    """Whether an argument is another layer's output: ["a", 0, 0], perhaps with a dict behind."""
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and value[1:3] == [0, 0]


def call_of(layer: Mapping[str, Any]) -> Call:
    """The call that an entry of the archive's list of layers stands for."""
    node = layer["inbound_nodes"][0] if layer["inbound_nodes"] else []
    read = references(node)
    first = tuple(r[2] if r[0] == "_CONSTANT_VALUE" else Name(r[0]) for r in read)
    kwargs = dict(read[0][3]) if read and len(read[0]) > 3 else {}
    function = layer["config"].get("function", "").split(".")[-1].strip("_")
    listed = bool(node) and not isinstance(node[0], str)
    named = {k: Name(v[0]) if is_reference(v) else v for k, v in kwargs.items()}
    return Call(layer["config"]["name"], layer["class_name"], function, layer["config"], first, named, listed)


def biases(calls: list[Call]) -> dict[str, tuple[str, Any]]:
    """Name of an addition → (the linear layer whose bias it adds, the bias)."""
    known = {c.name: c for c in calls}
    read = Counter(a for c in calls for a in (*c.first, *c.kwargs.values()) if isinstance(a, Name))
    found = {}
    for call in calls:
        value = call.kwargs.get("y")
        if call.function not in _ADDITIONS or not isinstance(value, list) or np.ndim(value) != 1:
            continue
        name = call.first[0]
        while name in known and read[name] == 1:
            maker = known[name]
            if maker.function in _LINEAR:
                found[call.name] = (maker.name, np.asarray(value, np.float32))
                break
            name = _passed_on(maker)
    return found


def _passed_on(call: Call) -> Any:
    """What a call only passes on or puts together: the blocks of a dilated convolution, a factor of one."""
    if call.function == "batch_to_space_nd":
        return call.first[0]
    if call.function in _PRODUCTS and not isinstance(call.first[0], Name | list) and call.first[0] == 1:
        return call.kwargs.get("y")
    return None
