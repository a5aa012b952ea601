"""Which nodes edits lift out of half precision: their constants are float32 on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, InsertNode, Rewire, SetOperator
from fetafix.ir import Graph

_FLOAT, _HALVES = 1, (10, 16)  # ONNX's codes of float32; of float16 and bfloat16


def widened(graph: Graph, edits: Sequence[Edit], type_of: Callable[[str], np.dtype[Any] | None]) -> set[str]:
    """Keys of nodes that read float32 after the edits where they read half precision before.

    Those are given a float32 tensor, directly or by an inserted Cast, or what such a node makes, unless a Cast brings
    that back to half precision.
    """
    found = {key for e in edits for key in _given(graph, e, type_of)}
    casts = [e for e in edits if isinstance(e, InsertNode) and e.node.op == "Cast"]
    narrow = [e for e in casts if e.node.attrs.get("to") in _HALVES]
    back = {c for e in narrow for c in e.consumers or ()}
    ends = {e.after for e in narrow if e.consumers is None}
    gone = {e.node for e in edits if isinstance(e, SetOperator) and e.op == "Identity"}
    stack = list(found)
    while stack:
        node = graph.producers[stack.pop()]
        for out in (o for o in node.outputs if o and o not in ends):
            for reader, slot in graph.consumers.get(out, ()):
                stays = reader.op == "Cast" or reader.key in gone or (reader.key, slot) in back
                if slot >= 0 and not stays and reader.key not in found:
                    found.add(reader.key)
                    stack.append(reader.key)
    return found


def _given(graph: Graph, edit: Edit, type_of: Callable[[str], np.dtype[Any] | None]) -> list[str]:
    if isinstance(edit, Rewire) and edit.node in graph.producers:
        old = type_of(graph.producers[edit.node].input(edit.slot))
        half = old is not None and old.itemsize == 2 and old.kind in "fV"
        return [edit.node] if half and type_of(edit.tensor) == np.float32 else []
    if isinstance(edit, InsertNode) and edit.node.op == "Cast" and edit.node.attrs.get("to") == _FLOAT:
        return [key for key, _ in edit.consumers or () if key in graph.producers]
    return []
