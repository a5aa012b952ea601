"""A TensorFlow model as data: its graph, its interface, where its variables lie; the same for every container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fetafix.edits.surgery import free
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.graph import CALLS, join, split

VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_PASS = ("Identity", "NoOp")


@dataclass(frozen=True, eq=False)
class Saver:
    """How the variables are restored. names, all tensors or operators of the graph; prefix: of the checkpoint files."""

    filename: str
    restore: str
    prefix: Path


@dataclass(frozen=True, eq=False)
class Program:
    """What can be run.

    graph_def: the main graph with its library. inputs, outputs: interface name → tensor. init: an operator to run once,
    or "". assets: tensor → file to feed it with then. signature: its name in the file, or "". details: facts to report.
    """

    graph_def: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    saver: Saver | None = None
    init: str = ""
    assets: Mapping[str, str] = field(default_factory=dict)
    signature: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prepares(self) -> bool:
        """Whether something besides the variables has to be made ready, such as a table."""
        node = next((n for n in self.graph_def.node if n.name == self.init), None)
        return node is not None and (node.op != "NoOp" or len(node.input) > 0)

    @cached_property
    def running(self) -> Any:
        """The part of the graph that running it needs."""
        ends = [*self.outputs.values(), *self.inputs.values(), *filter(None, [self.init]), *self.assets]
        if self.saver:
            ends += [self.saver.filename, self.saver.restore]
        return tf_graph.pruned(self.graph_def, ends)

    @cached_property
    def flat(self) -> Flat:
        """The function that is computed, without calls."""
        return flatten(self)


@dataclass(frozen=True, eq=False)
class Flat:
    """A graph without calls: what lies behind a signature, or the main graph.

    graph_def: its nodes; arguments of the function are Placeholders, variables VarHandleOps. function: the function
    whose body this is, "" for the main graph. args: node → argument of the function that it stands for. origin: such
    a node → node of the main graph. inputs, outputs: interface name → tensor. results: interface name → index of the
    function's output. hidden: index of each other output of the function → tensor.
    """

    graph_def: Any
    function: str
    args: Mapping[str, str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    results: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[int, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """Variable node → its name in the main graph."""
        return {n.name: self.origin.get(n.name, n.name) for n in self.graph_def.node if n.op in VARIABLES}


def flatten(program: Program) -> Flat:
    """Follow the calls from the outputs down to the function that does the work, and inline what that calls."""
    functions = tf_graph.library(program.graph_def)
    nodes = {n.name: n for n in program.graph_def.node}
    outputs = {k: join(*split(v)) for k, v in program.outputs.items()}
    found = _enter(nodes, functions, outputs)
    if found is None:
        return _main(program, functions)
    name, sources, results = found
    while (deeper := _descend(functions, name, sources, results)) is not None:
        name, sources, results = deeper
    return _function(program, functions[name], functions, sources, results)


def _enter(
    nodes: Mapping[str, Any], functions: Mapping[str, Any], outputs: Mapping[str, str]
) -> tuple[str, list[str], dict[str, int]] | None:
    """(function, main tensors of its arguments, output name → result index) where one call makes all outputs."""
    callers = {split(t)[0] for t in outputs.values()}
    call = nodes.get(next(iter(callers))) if len(callers) == 1 else None
    if call is None or call.op not in CALLS or call.attr["f"].func.name not in functions:
        return None
    sources = [i for i in call.input if not i.startswith("^")]
    simple = all(nodes[split(s)[0]].op in ("Placeholder", "VarHandleOp") for s in sources)
    if not simple or len(set(sources)) < len(sources):
        return None
    return call.attr["f"].func.name, sources, {k: split(t)[1] for k, t in outputs.items()}


def _descend(
    functions: Mapping[str, Any], name: str, sources: list[str], results: dict[str, int]
) -> tuple[str, list[str], dict[str, int]] | None:
    """One function further in, where this one only passes its arguments on and returns what comes back."""
    body = tf_graph.Body(functions[name], functions)
    calls = [n for n in body.nodes if n.op not in _PASS]
    if len(calls) != 1 or calls[0].op not in CALLS or calls[0].attr["f"].func.name not in functions:
        return None
    call, fed = calls[0], dict(zip(body.args, sources, strict=True))
    passed = [i for i in call.input if not i.startswith("^")]
    if any(i not in fed for i in passed) or len(set(passed)) < len(passed):
        return None
    single = {n.name: body.tensor(n.input[0]) for n in body.nodes if n.op == "Identity"}
    deeper = {}
    for output, index in results.items():
        tensor = body.results[index]
        while split(tensor)[0] in single:
            tensor = single[split(tensor)[0]]
        if split(tensor)[0] != call.name:
            return None
        deeper[output] = split(tensor)[1]
    return call.attr["f"].func.name, [fed[i] for i in passed], deeper


def _function(
    program: Program, function: Any, functions: Mapping[str, Any], sources: list[str], results: dict[str, int]
) -> Flat:
    body = tf_graph.Body(function, functions)
    graph_def, names = _spelled_out(program, body, sources)
    flat, alias = tf_graph.inlined(list(graph_def.node), functions)
    ends = [alias.get(join(*split(t)), _named(t, names)) for t in body.results]
    fed = {split(s)[0]: names[a] for a, s in zip(body.args, sources, strict=True)}
    inputs = {k: fed[split(t)[0]] for k, t in program.inputs.items() if split(t)[0] in fed}
    made = _assembled(program, flat, functions, [*ends, *names.values()])
    return Flat(
        made,
        function.signature.name,
        {v: k for k, v in names.items()},
        inputs,
        {k: ends[i] for k, i in results.items()},
        results,
        {n: split(s)[0] for n, s in zip(names.values(), sources, strict=True)},
        {i: t for i, t in enumerate(ends) if i not in results.values()},
    )


def _spelled_out(program: Program, body: tf_graph.Body, sources: list[str]) -> tuple[Any, dict[str, str]]:
    """(GraphDef of a function's nodes behind copies of what feeds its arguments, argument → the copy's name)."""
    main = {n.name: n for n in program.graph_def.node}
    graph_def = type(program.graph_def)()
    graph_def.versions.CopyFrom(program.graph_def.versions)
    taken = {n.name for n in body.nodes}
    names: dict[str, str] = {}
    for arg, source in zip(body.args, sources, strict=True):
        node = graph_def.node.add()
        node.CopyFrom(main[split(source)[0]])
        names[arg] = node.name = free(node.name, taken)
        taken.add(node.name)
    for old in body.nodes:
        node = graph_def.node.add()
        node.CopyFrom(old)
        node.ClearField("experimental_debug_info")
        del node.input[:]
        node.input.extend(_named(body.tensor(i), names) for i in old.input)
    return graph_def, names


def _named(tensor: str, names: Mapping[str, str]) -> str:
    node, index = split(tensor)
    return join(names.get(node, node), index)


def _main(program: Program, functions: Mapping[str, Any]) -> Flat:
    ends = [*program.outputs.values(), *program.inputs.values()]
    part = tf_graph.pruned(program.graph_def, ends)
    flat, alias = tf_graph.inlined(list(part.node), functions)
    outputs = {k: alias.get(join(*split(t)), join(*split(t))) for k, t in program.outputs.items()}
    inputs = {k: join(*split(t)) for k, t in program.inputs.items()}
    made = _assembled(program, flat, functions, [*outputs.values(), *inputs.values()])
    return Flat(made, "", {}, inputs, outputs)


def _assembled(program: Program, nodes: list[Any], functions: Mapping[str, Any], ends: list[str]) -> Any:
    graph_def = type(program.graph_def)()
    graph_def.versions.CopyFrom(program.graph_def.versions)
    graph_def.node.extend(tf_graph.sort(nodes))
    graph_def.library.function.extend(tf_graph.reached_functions(nodes, functions).values())
    return tf_graph.pruned(graph_def, ends)
