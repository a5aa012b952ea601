"""Sub-graph bodies (If, Loop, Scan) under other names, and taken apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fetafix.edits.surgery import free
from fetafix.ir import Body


def renamed(body: Body, names: Mapping[str, str], taken: Collection[str] = ()) -> Body:
    """The body reading other outer tensors (`names`: old → new), its own tensors apart from the names in `taken`.

    ONNX wants the names in a body to be different from those around it.
    """
    if not names.keys() & set(body.captures) and not taken:
        return body
    import onnx

    graph = onnx.GraphProto.FromString(body.proto)
    _rename(graph, {c: names.get(c, c) for c in body.captures}, set(taken))
    return Body(graph.SerializeToString(deterministic=True), tuple(names.get(c, c) for c in body.captures))


def _rename(graph: Any, outer: Mapping[str, str], taken: set[str]) -> None:
    made = [o for n in graph.node for o in n.output]
    own = [*(v.name for v in graph.input), *(t.name for t in graph.initializer), *made]
    table, used = dict(outer), taken | set(outer.values())
    for name in dict.fromkeys(o for o in own if o):
        table[name] = free(name, used)
        used.add(table[name])
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = table.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [table.get(t, t) for t in node.input]
        node.output[:] = [table.get(t, t) for t in node.output]
        for attr in node.attribute:
            for inner in (*((attr.g,) if attr.HasField("g") else ()), *attr.graphs):
                _rename(inner, table, used)
