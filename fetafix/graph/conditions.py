"""If nodes and their branches: what a branch computes, written into the graph around it."""

from __future__ import annotations

from fetafix.edits import fresh
from fetafix.graph.proto import graph_from_body
from fetafix.ir import Body, Graph, Node, Value

BRANCHES = ("then_branch", "else_branch")


def conditions(graph: Graph) -> list[Node]:
    """The If nodes of a graph."""
    return [n for n in graph.nodes if n.op == "If" and not n.domain]


def data_decides(graph: Graph, node: Node) -> bool:
    """Whether values decide an If, and not shapes alone (as where an exporter squeezes an axis if it has one pixel)."""
    stack, seen = [node.input(0)], set[str]()
    while stack:
        tensor = stack.pop()
        maker = graph.producers.get(tensor)
        if maker is None and tensor not in graph.initializers:
            return True
        if maker is not None and maker.key not in seen and maker.op not in ("Shape", "Size"):
            seen.add(maker.key)
            stack += maker.reads
    return False


def branch_of(graph: Graph, node: Node, branch: str) -> Graph | None:
    """What one branch of an If with one output computes, as a fragment in the terms of the graph around it.

    None where there are several outputs, or no such branch.
    """
    body = node.attrs.get(branch)
    made = [o for o in node.outputs if o]
    if not isinstance(body, Body) or len(made) != 1:
        return None
    inner = graph_from_body(body)
    out = inner.output_names[0]
    own = {o for n in inner.nodes for o in n.outputs}
    nodes = inner.nodes
    if out not in own:  # it hands on a constant, or a tensor from outside
        nodes = (*nodes, Node("Identity", (out,), (fresh(graph, f"{out}_same"),)))
        out = nodes[-1].key
    value = Value(out, inner.outputs[0].dtype, graph.shapes.get(made[0]))
    return Graph(nodes, inner.initializers, (), (value,), graph.opset)
