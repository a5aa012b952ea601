"""GraphDefs and FunctionDefs as data: tensor names, what reads what, functions inlined, graphs made functions again.

A tensor of a graph is "node:0" (written "node" for output 0); in a function it is "node:output_name:0".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fetafix.edits.surgery import free
from fetafix.formats.base import Unsupported

CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def split(tensor: str) -> tuple[str, int]:
    """("node", 1) of "node:1"; a control input "^node" gives −1."""
    if tensor.startswith("^"):
        return tensor[1:], -1
    node, _, index = tensor.partition(":")
    return node, int(index or 0)


def join(node: str, index: int) -> str:
    """A tensor's name as node inputs spell it."""
    return f"^{node}" if index < 0 else node if index == 0 else f"{node}:{index}"


def functions_of(node: Any) -> list[str]:
    """The names of functions that a node's attributes hold (calls, branches, loop bodies)."""
    found = []
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            found.append(value.func.name)
        elif kind == "list":
            found += [f.name for f in value.list.func]
    return found


def library(graph_def: Any) -> dict[str, Any]:
    """Function name → FunctionDef."""
    return {f.signature.name: f for f in graph_def.library.function}


def reached_functions(nodes: Iterable[Any], functions: Mapping[str, Any]) -> dict[str, Any]:
    """The functions that nodes call, directly or through others."""
    found: dict[str, Any] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        for name in (*functions_of(node), node.op):
            if name in functions and name not in found:
                found[name] = functions[name]
                stack.extend(functions[name].node_def)
    return found


def upstream(nodes: Mapping[str, Any], ends: Iterable[str]) -> set[str]:
    """Names of the nodes that the ends (tensors or nodes) need, control inputs included."""
    found: set[str] = set()
    stack = [split(e)[0] for e in ends]
    while stack:
        name = stack.pop()
        if name not in found and name in nodes:
            found.add(name)
            stack.extend(split(i)[0] for i in nodes[name].input)
    return found


def pruned(graph_def: Any, ends: Iterable[str]) -> Any:
    """A copy with the nodes and functions that the ends need."""
    nodes = {n.name: n for n in graph_def.node}
    kept = upstream(nodes, ends)
    made = type(graph_def)()
    made.versions.CopyFrom(graph_def.versions)
    made.node.extend(n for n in graph_def.node if n.name in kept)
    for node in made.node:
        node.attr.pop("_class", None)  # colocation with nodes that may be gone
    made.library.function.extend(reached_functions(made.node, library(graph_def)).values())
    return made


def op_def(op: str) -> Any:
    """TensorFlow's definition of an operator, or None where it has none."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def outputs_of(node: Any, functions: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(output name, number of tensors) of a node, in order."""
    if node.op in functions:
        return [(a.name, 1) for a in functions[node.op].signature.output_arg]
    definition = op_def(node.op)
    if definition is None:
        raise Unsupported(f"{node.name}: TensorFlow has no operator {node.op}")
    sizes = []
    for arg in definition.output_arg:
        if arg.number_attr:
            sizes.append((arg.name, node.attr[arg.number_attr].i))
        elif arg.type_list_attr:
            sizes.append((arg.name, len(node.attr[arg.type_list_attr].list.type)))
        else:
            sizes.append((arg.name, 1))
    return sizes


class Body:
    """A function's nodes as graph nodes. `tensor` turns the function's spelling of a tensor into the graph's."""

    def __init__(self, function: Any, functions: Mapping[str, Any]) -> None:
        self.args = [a.name for a in function.signature.input_arg]
        self.nodes = list(function.node_def)
        self._starts: dict[tuple[str, str], int] = {}
        for node in self.nodes:
            at = 0
            for name, size in outputs_of(node, functions):
                self._starts[node.name, name] = at
                at += size
        self.results = [self.tensor(function.ret[a.name]) for a in function.signature.output_arg]
        self.controls = [function.control_ret[k] for k in function.control_ret]

    def tensor(self, spelled: str) -> str:
        """"node:1" of "node:output:1"; arguments and control inputs stay as they are."""
        if spelled.startswith("^") or ":" not in spelled:
            return spelled
        node, output, index = spelled.split(":")
        return join(node, self._starts[node, output] + int(index))


def inlined(nodes: Iterable[Any], functions: Mapping[str, Any]) -> tuple[list[Any], dict[str, str]]:
    """Nodes with all calls replaced by what the functions do, and: tensor of a call → the tensor that it was.

    A node of a function keeps its name where that is free, and gets the call's name in front otherwise.
    """
    work = list(nodes)
    alias: dict[str, str] = {}
    while any(_called(n, functions) for n in work):
        taken = {n.name for n in work}
        flat: list[Any] = []
        ends: dict[str, list[str]] = {}
        for node in work:
            callee = _called(node, functions)
            if callee is None:
                flat.append(node)
            else:
                flat += _body_of_call(node, Body(functions[callee], functions), taken, alias, ends)
        work = [_resolved(n, alias, ends) for n in flat]
    return work, {t: _final(t, alias) for t in alias}


def _called(node: Any, functions: Mapping[str, Any]) -> str | None:
    name = node.attr["f"].func.name if node.op in CALLS else node.op
    return name if name in functions else None


def _body_of_call(
    call: Any, body: Body, taken: set[str], alias: dict[str, str], ends: dict[str, list[str]]
) -> Iterator[Any]:
    fed = dict(zip(body.args, (i for i in call.input if not i.startswith("^")), strict=True))
    names = {}
    for node in body.nodes:
        name = node.name if node.name not in taken else free(f"{call.name}/{node.name}", taken)
        taken.add(name)
        names[node.name] = name

    def outside(spelled: str) -> str:
        tensor = body.tensor(spelled)
        name, index = split(tensor)
        if name in fed:
            return fed[name] if index >= 0 else f"^{split(fed[name])[0]}"
        return join(names[name], index)

    for i, result in enumerate(body.results):
        alias[join(call.name, i)] = outside(result)
    ends[call.name] = [names[c] for c in body.controls if c in names] or [split(outside(r))[0] for r in body.results]
    for node in body.nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = names[node.name]
        copy.ClearField("experimental_debug_info")
        del copy.input[:]
        copy.input.extend(outside(i) for i in node.input)
        yield copy


def _resolved(node: Any, alias: Mapping[str, str], ends: Mapping[str, list[str]]) -> Any:
    inputs: list[str] = []
    for spelled in node.input:
        if spelled.startswith("^"):
            inputs += [f"^{e}" for e in ends.get(spelled[1:], [spelled[1:]])]
        else:
            inputs.append(_final(join(*split(spelled)), alias))
    if list(node.input) == inputs:
        return node
    copy = type(node)()
    copy.CopyFrom(node)
    del copy.input[:]
    data = [i for i in inputs if not i.startswith("^")]
    copy.input.extend([*data, *dict.fromkeys(i for i in inputs if i.startswith("^"))])
    return copy


def _final(tensor: str, alias: Mapping[str, str]) -> str:
    while tensor in alias:
        tensor = alias[tensor]
    return tensor


def sort(nodes: Sequence[Any]) -> list[Any]:
    """Nodes with producers first, otherwise as they are; cycles (the loops of TensorFlow 1) stay where they are."""
    by_name = {n.name: n for n in nodes}
    done: set[str] = set()
    order: list[Any] = []
    for start in nodes:
        stack, path = [start], set[str]()
        while stack:
            node = stack[-1]
            waiting = [by_name[p] for p in (split(i)[0] for i in node.input)
                       if p in by_name and p not in done and p not in path]
            path.add(node.name)
            if node.name in done or not waiting or node.op == "Merge":
                stack.pop()
                if node.name not in done:
                    done.add(node.name)
                    order.append(node)
            else:
                stack.extend(reversed(waiting))
    return order


def ordered(graph_def: Any) -> Any:
    """A copy of a GraphDef with its nodes sorted."""
    made = type(graph_def)()
    made.CopyFrom(graph_def)
    nodes = sort(list(graph_def.node))
    del made.node[:]
    made.node.extend(nodes)
    return made
