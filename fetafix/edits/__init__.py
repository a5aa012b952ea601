"""Edits as data: what a repair or an injection changes, in terms of the lifted ONNX graph.

One list of edits serves the dry run, the trial on a segment, the journal, the report, the review, write-back, undo and
replay. An edit names nodes by key (first output) and tensors by name, says in one line what it does (`describe`), how
much it changes (`cost`, the smallest wins), and applies itself to a `Graph` without changing it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fetafix.edits.naming import displaced, translated
from fetafix.edits.structure import InsertNode, RemoveNode, ReplaceSegment, Rewire, SetOperator
from fetafix.edits.surgery import fresh, prune, topological
from fetafix.edits.values import SetAttribute, SetInput, SetInputShape, SetOutputs, SetPreprocessing
from fetafix.ir import Graph

__all__ = [
    "Edit", "InsertNode", "RemoveNode", "ReplaceSegment", "Rewire", "SetAttribute", "SetInput", "SetInputShape",
    "SetOperator", "SetOutputs", "SetPreprocessing", "apply", "cost", "fresh", "prune", "topological",
]


Edit = (
    SetAttribute
    | SetInput
    | Rewire
    | SetOperator
    | InsertNode
    | RemoveNode
    | ReplaceSegment
    | SetOutputs
    | SetInputShape
    | SetPreprocessing
)


def apply(graph: Graph, edits: Iterable[Edit]) -> Graph:
    """The graph after all edits, in order. Raises EditError where one does not fit.

    Edits are found in graphs without dead nodes. Where a node that is inserted has the name of a dead one, it gets
    another, and so do the edits behind it that mean the new node.
    """
    names: dict[str, str] = {}
    for edit in edits:
        meant = translated(edit, names)
        names |= displaced(graph, meant)
        graph = meant.apply(graph)
    return graph


def cost(graph: Graph, edits: Iterable[Edit]) -> float:
    """How much the edits change; the smallest wins. Unitless, comparable between candidates for one segment."""
    total = 0.0
    for edit in edits:
        total += edit.cost(graph)
        graph = edit.apply(graph)
    return total
