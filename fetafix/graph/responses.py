"""Local response normalisation spelled out, as exporters write it: x / (k + α · mean of squares)^β over channels.

Squares, an average over neighbouring channels (a pooling, with Unsqueeze, Pad and Squeeze or Reshape around it), Mul by
α, Add of k, Pow of β, and a Div of x by that.
"""

from __future__ import annotations

from fetafix.ir import Graph, Node

_MOVES = frozenset({"Squeeze", "Unsqueeze", "Reshape", "Transpose", "Pad", "If"})  # torch squeezes if it can


def spelled(graph: Graph) -> frozenset[str]:
    """Keys of the nodes of all spelled-out response normalisations that hold a setting: pooling, Mul, Add, Pow."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op == "Pow" and any(n.op == "Div" for n, _ in graph.consumers.get(node.key, ())):
            found |= _parts(node, graph)
    return frozenset(found)


def _parts(power: Node, graph: Graph) -> set[str]:
    """The nodes of the normalisation that a Pow belongs to; empty where it belongs to something else."""
    keys, current = {power.key}, power
    for op in ("Add", "Mul"):
        maker = _computed(current, graph)
        if maker is None or maker.op != op:
            return set()
        keys.add(maker.key)
        current = maker
    pool = _computed(current, graph)
    while pool is not None and pool.op in _MOVES:
        pool = graph.producers.get(pool.reads[-1] if pool.op == "If" else pool.input(0))
    return {*keys, pool.key} if pool is not None and pool.op == "AveragePool" else set()


def _computed(node: Node, graph: Graph) -> Node | None:
    """What makes the one computed input of a node; None where there are several."""
    makers = [graph.producers.get(t) for t in node.inputs if t and not graph.fixed(t)]
    return makers[0] if len(makers) == 1 else None
