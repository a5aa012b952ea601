"""Names for new nodes and tensors that look like the graph's own."""

from __future__ import annotations

import re

from fetafix.edits import fresh
from fetafix.ir import Graph, Node


def like(graph: Graph, op: str, near: Node | None) -> tuple[str, str]:
    """(node name, output tensor name) for a new `op` in the style of a neighbour; the tensor name is not in use yet.

    Where the neighbour's names contain its operator ("/layer1/conv1/Conv_output_0") the new operator takes that place,
    where they end in a number ("t12") the next free number does.
    """
    if near is None:
        return op, fresh(graph, f"{op}_output")
    tensor = _styled(near.key, near.op, op, {*graph.producers, *graph.initializers, *graph.input_names})
    name = near.name and _styled(near.name, near.op, op, {n.name for n in graph.nodes})
    return name, fresh(graph, tensor)


def tensor_like(graph: Graph, role: str, near: Node | None) -> str:
    """A name for a new constant: that of a neighbour's constants with another ending, or of the neighbour itself."""
    if near is None:
        return fresh(graph, role)
    constant = next((t for t in near.inputs if t in graph.initializers), near.key)
    head, separator, _ = constant.rpartition(".")
    return fresh(graph, f"{head}.{role}" if separator else f"{constant}_{role}")


def _styled(name: str, old: str, new: str, used: set[str]) -> str:
    found = re.search(re.escape(old), name, re.IGNORECASE)
    if found:
        word = new.lower() if found[0].islower() else new
        return _numbered(name[:found.start()] + word + name[found.end():], used)
    return _numbered(name, used)


def _numbered(name: str, used: set[str]) -> str:
    """The name itself where it is free, else with the number at its end (or before "_output_0") counted on."""
    if name not in used:
        return name
    match = re.fullmatch(r"(.*?)(\d+)((?:_output_\d+|:\d+)?)", name)
    if match is None:
        head, tail = (name[:-9], "_output_0") if name.endswith("_output_0") else (name, "")
        return next(n for n in (f"{head}_{i}{tail}" for i in range(1, len(used) + 2)) if n not in used)
    head, _, tail = match.groups()
    taken = [int(m[1]) for u in used if (m := re.fullmatch(rf"{re.escape(head)}(\d+){re.escape(tail)}", u))]
    return f"{head}{max(taken, default=0) + 1}{tail}"
