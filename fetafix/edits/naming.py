"""Names of inserted nodes where a graph holds more tensors than the one in which the edits were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fetafix.edits.structure import InsertNode
from fetafix.edits.surgery import fresh, prune
from fetafix.ir import Graph

_TENSORS = ("node", "after", "tensor", "output")  # fields that hold the name of a tensor or the key of a node
_LISTS = ("inputs", "outputs")
_IDLE = ("Identity", "Dropout")


def displaced(graph: Graph, edit: Any) -> dict[str, str]:
    """The names that an insertion asks for and a hidden tensor has, with those that it gets instead.

    Hidden are those that the canonical form lacks: of dead nodes, of what constants alone compute, of nodes that do
    nothing, of constants that nothing else reads.
    """
    if not isinstance(edit, InsertNode):
        return {}
    taken = [o for o in edit.node.outputs if o in graph.producers or o in graph.initializers]
    seen = _seen(graph) if taken else set()
    return {o: fresh(graph, o) for o in taken if o not in seen}


def _seen(graph: Graph) -> set[str]:
    """Tensors that live nodes compute from the graph's inputs; nodes without inputs make what varies, too."""
    varying = set(graph.input_names)
    for node in prune(graph).nodes:
        if node.op != "Constant" and (not node.reads or varying & set(node.reads)):
            varying |= set(node.outputs)
    idle = {o for n in graph.nodes if n.op in _IDLE for o in n.outputs}
    return varying - (idle - set(graph.output_names))


def translated(edit: Any, names: Mapping[str, str]) -> Any:
    """An edit with other names for some tensors."""
    if not names:
        return edit

    def new(tensor: str) -> str:
        return names.get(tensor, tensor)

    changes: dict[str, Any] = {}
    for field in _TENSORS:
        value = getattr(edit, field, None)
        if isinstance(value, str):
            changes[field] = new(value)
    for field in _LISTS:
        value = getattr(edit, field, None)
        if isinstance(value, tuple):
            changes[field] = tuple(map(new, value))
    if isinstance(edit, InsertNode):
        changes["node"] = replace(edit.node, inputs=tuple(map(new, edit.node.inputs)))
        if edit.consumers is not None:
            changes["consumers"] = tuple((new(key), slot) for key, slot in edit.consumers)
    bind = getattr(edit, "bind", None)
    if bind:
        changes["bind"] = {k: new(t) for k, t in bind.items()}
    changed = {k: v for k, v in changes.items() if v != getattr(edit, k)}
    return replace(edit, **changed) if changed else edit
