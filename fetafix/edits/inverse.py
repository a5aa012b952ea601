"""Edits that undo edits: what was there before, in terms of the graph as the edits left it.

    undo = inverse(graph, edits)
    apply(apply(graph, edits), undo)      the same graph again, up to the names of tensors and the order of nodes

What an edit left without a reader is gone once a model is written, so nothing here relies on it: an undo brings back
the old constants and nodes that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fetafix.edits.structure import InsertNode, RemoveNode, ReplaceSegment, Rewire, SetOperator
from fetafix.edits.surgery import find, free, prune
from fetafix.edits.values import SetAttribute, SetInput, SetInputShape, SetOutputs, SetPreprocessing
from fetafix.errors import EditError
from fetafix.ir import Array, Graph, Node

_Undo = Callable[[Any, Graph, Graph], list[Any]]


def inverse(graph: Graph, edits: Sequence[Any], preprocess: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """The edits that undo `edits` of `graph`, in the order in which they are to be applied.

    preprocess: the target's preprocessing before the edits, for edits that change it.
    Raises EditError where an edit does not fit the graph, or cannot be undone.
    """
    undone: list[list[Any]] = []
    for edit in edits:
        after = edit.apply(graph)
        if isinstance(edit, SetPreprocessing):
            old = {k: (preprocess or {}).get(k) for k in edit.changes}
            undone.append([SetPreprocessing(old, edit.input)])
        else:
            undone.append(_UNDO[type(edit)](edit, graph, prune(after)))
        graph = after
    return tuple(e for group in reversed(undone) for e in group)


def _attribute(edit: SetAttribute, graph: Graph, after: Graph) -> list[Any]:
    return [SetAttribute(edit.node, edit.attribute, find(graph, edit.node).attrs.get(edit.attribute))]


def _input(edit: SetInput | Rewire, graph: Graph, after: Graph) -> list[Any]:
    """What the slot read: another tensor that is still there, a constant, or nothing."""
    node, slot = find(graph, edit.node), edit.slot
    old, now = node.input(slot), find(after, edit.node).input(slot)
    if not old:
        return [SetInput(node.key, slot, None)]
    if old == now and old in graph.producers:
        return _codes(graph.producers[old], graph, after)
    if old != now and old in _known(after):
        return [Rewire(node.key, slot, old)]
    if old in graph.initializers:
        return [SetInput(node.key, slot, graph.initializers[old])]
    return [_restored(graph, after, node.key)]


def _codes(maker: Node, graph: Graph, after: Graph) -> list[Any]:
    """What a DequantizeLinear reads: codes, scale and zero point as they were stored."""
    made = find(after, maker.key)
    pairs = [(i, graph.initializers.get(t), after.initializers.get(made.input(i))) for i, t in enumerate(maker.inputs)]
    return [SetInput(maker.key, i, old) for i, old, new in pairs if old is not None and old is not new]


def _operator(edit: SetOperator, graph: Graph, after: Graph) -> list[Any]:
    old = find(graph, edit.node)
    if any(t in graph.producers and t not in _known(after) for t in old.inputs):
        return [_restored(graph, after, old.key)]
    return [SetOperator(old.key, old.op, old.attrs, old.inputs, old.domain, _lost(old, graph, after))]


def _insertion(edit: InsertNode, graph: Graph, after: Graph) -> list[Any]:
    readers = tuple((n.key, s) for n, s in graph.consumers.get(edit.after, ()) if s >= 0)
    served = readers if edit.consumers is None else edit.consumers
    at_output = edit.consumers is None and edit.after in graph.output_names
    if not served and not at_output:
        raise EditError(f"what was inserted after {edit.after} is read by nothing, so it is in no written model")
    node = after.producers[edit.after if at_output else find(after, served[0][0]).input(served[0][1])]
    return [RemoveNode(node.key, edit.node.inputs.index(edit.after))]


def _removal(edit: RemoveNode, graph: Graph, after: Graph) -> list[Any]:
    node = find(graph, edit.node)
    feed, out = node.input(edit.slot), node.outputs[0]
    if any(t in graph.producers and t not in _known(after) for t in node.inputs if t != feed):
        raise EditError(f"{out} read what nothing else computes; its removal cannot be undone")
    lost = _lost(node, graph, after)
    if out not in graph.output_names:
        readers = tuple((n.key, slot) for n, slot in graph.consumers.get(out, ()) if slot >= 0)
        return [InsertNode(feed, node, lost, readers)]
    if find(after, out).op == "Identity" and node.op != "Identity":
        return [SetOperator(out, node.op, node.attrs, node.inputs, node.domain, lost)]
    taken = {*graph.producers, *graph.initializers, *graph.input_names}
    again = replace(node.with_input(edit.slot, out), outputs=(free(f"{out}_again", taken), *node.outputs[1:]))
    insertion = InsertNode(out, again, lost)
    before = {*after.producers}
    inner = next(t for t in insertion.apply(after).producers if t not in before)
    others = [(n.key, slot) for n, slot in graph.consumers.get(feed, ()) if n is not node and slot >= 0]
    return [insertion, *(Rewire(key, slot, inner) for key, slot in others)]


def _segment(edit: ReplaceSegment, graph: Graph, after: Graph) -> list[Any]:
    return [_restored(graph, after, edit.output)]


def _outputs(edit: SetOutputs, graph: Graph, after: Graph) -> list[Any]:
    """Nodes that served no other output come back first."""
    made: list[Any] = []
    for node in graph.nodes:
        if node.key not in after.producers and node.key in prune(graph).producers:
            feed = next((t for t in node.inputs if t and t not in graph.initializers), "")
            if not feed:
                raise EditError(f"{node.key} reads constants alone; it cannot be put back")
            made.append(InsertNode(feed, node, _lost(node, graph, after), ()))
    return [*made, SetOutputs(graph.output_names)]


def _shape(edit: SetInputShape, graph: Graph, after: Graph) -> list[Any]:
    value = next(v for v in graph.inputs if v.name == edit.input)
    if value.shape is None:
        raise EditError(f"input {edit.input} declared no shape before, which no edit says")
    return [SetInputShape(edit.input, value.shape)]


def _known(graph: Graph) -> set[str]:
    return {*graph.producers, *graph.initializers, *graph.input_names}


def _lost(node: Node, graph: Graph, after: Graph) -> dict[str, Array]:
    """The node's constants that the edited graph no longer has."""
    kept = after.initializers
    return {t: graph.initializers[t] for t in node.inputs if t in graph.initializers and t not in kept}


def _restored(graph: Graph, after: Graph, output: str) -> ReplaceSegment:
    """A tensor computed as before, from the tensors that both graphs have."""
    starts = {t for t in (*after.producers, *after.input_names) if t in graph.producers or t in graph.input_names}
    return ReplaceSegment(output, graph.between(starts - {output}, [output]))


_UNDO: Mapping[type[Any], _Undo] = {
    SetAttribute: _attribute, SetInput: _input, Rewire: _input, SetOperator: _operator, InsertNode: _insertion,
    RemoveNode: _removal, ReplaceSegment: _segment, SetOutputs: _outputs, SetInputShape: _shape,
}  # fmt: skip
