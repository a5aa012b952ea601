"""What edits of a graph's structure share: finding, exchanging, renaming and sorting nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fetafix.errors import EditError
from fetafix.ir import Body, Graph, Node


def find(graph: Graph, key: str) -> Node:
    """The node with a key. Raises EditError where there is none."""
    node = graph.producers.get(key)
    if node is None or node.key != key:
        raise EditError(f"edit names node {key!r}, but the graph has no node with that first output")
    return node


def exchanged(graph: Graph, changed: Mapping[str, Node], **more: Any) -> Graph:
    """A graph in which the nodes of the given keys are replaced."""
    return replace(graph, nodes=tuple(changed.get(n.key, n) for n in graph.nodes), **more)


def fresh(graph: Graph, base: str) -> str:
    """A tensor name that the graph does not use yet, in the style of `base`."""
    return free(base, {*graph.producers, *graph.initializers, *graph.input_names})


def free(base: str, taken: Collection[str]) -> str:
    """A name in the style of `base` that is not taken."""
    name, i = base, 1
    while name in taken:
        name, i = f"{base}_{i}", i + 1
    return name


def topological(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes ordered so that producers come first, otherwise as given. Raises EditError on a cycle."""
    made_by = {o: i for i, n in enumerate(nodes) for o in n.outputs if o}
    done: set[int] = set()
    order: list[Node] = []
    for start in range(len(nodes)):
        stack, path = [start], set[int]()
        while stack:
            i = stack[-1]
            waiting = [made_by[t] for t in nodes[i].reads if t in made_by and made_by[t] not in done]
            if i in done or not waiting:
                stack.pop()
                path.discard(i)
                if i not in done:
                    done.add(i)
                    order.append(nodes[i])
            elif i in path and any(w in path for w in waiting):
                raise EditError(f"the edits make a cycle through node {nodes[i].label!r}")
            else:
                path.add(i)
                stack.extend(reversed(waiting))
    return tuple(order)


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Rename tensors in all nodes, also where bodies read them (a graph output keeps the name it had)."""
    return replace(graph, nodes=topological(tuple(called(n, names) for n in graph.nodes)))


def called(node: Node, names: Mapping[str, str], taken: Collection[str] = ()) -> Node:
    """A node that reads and makes tensors of other names, in its bodies too; those keep clear of the names `taken`."""
    from fetafix.edits import bodies

    if not {*node.reads, *node.outputs} & names.keys() and not taken:
        return node

    def new(t: str) -> str:
        return names.get(t, t)

    attrs = {k: bodies.renamed(a, names, taken) if isinstance(a, Body) else a for k, a in node.attrs.items()}
    same = all(a is node.attrs[k] for k, a in attrs.items())
    return replace(node, inputs=tuple(map(new, node.inputs)), outputs=tuple(map(new, node.outputs)),
                   attrs=node.attrs if same else attrs)  # fmt: skip


def prune(graph: Graph) -> Graph:
    """The graph without nodes and tensors that no output needs."""
    needed, kept = set(graph.output_names), set[int]()
    for node in reversed(graph.nodes):
        if needed & {o for o in node.outputs if o}:
            kept.add(id(node))
            needed.update(node.reads)
    tensors = {k: v for k, v in graph.initializers.items() if k in needed}
    return replace(graph, nodes=tuple(n for n in graph.nodes if id(n) in kept), initializers=tensors)
