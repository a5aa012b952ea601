"""torch.fx graphs (onnx2torch modules, traced modules, exported programs): tapping them for the lift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fetafix.formats.onnx.view import Taps
from fetafix.formats.torch import exporter as torch_onnx
from fetafix.formats.torch.structure import flatten

_COMPUTING = ("call_module", "call_function", "call_method")
_GUARDS = ("_guards_fn",)


def trace(module: Any) -> Any | None:
    """A GraphModule over the same parameters, or None where the module's code is not traceable."""
    import torch

    if isinstance(module, torch.fx.GraphModule):
        return module
    try:
        traced = torch.fx.symbolic_trace(module)
    except Exception:  # tracing runs the user's own code on proxies, which may fail in any way
        return None
    traced.eval() if not module.training else None
    return traced


def strip_guards(gm: Any) -> Any:
    """Remove the input checks of an exported program; they compute nothing."""
    for node in list(gm.graph.nodes):
        assertion = "_assert" in str(node.target) and not node.users
        if (node.op == "call_module" and node.target in _GUARDS) or assertion:
            gm.graph.erase_node(node)
    gm.recompile()
    return gm


@dataclass
class _Recorder:
    """Which nodes hold tensors when the graph runs, and the shapes' first dimension."""

    tensors: dict[str, Any] = field(default_factory=dict)
    result: Any = None


def record(gm: Any, args: Sequence[Any]) -> _Recorder:
    """Run a graph once, node by node."""
    import torch

    seen = _Recorder()

    class Recording(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and n.op in _COMPUTING:
                seen.tensors[n.name] = tuple(value.shape)
            return value

    seen.result = Recording(gm).run(*args, enable_io_processing=False)
    return seen


def is_node(value: Any) -> bool:
    """Whether a value in an output structure is a graph node."""
    import torch

    return isinstance(value, torch.fx.Node)


def tap(gm: Any, args: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Any, Taps]:
    """The ONNX view of a GraphModule with flat arguments `args`, and which tensor each of its nodes makes."""
    import torch

    seen = record(gm, args)
    graph = torch.fx.Graph()
    copies: dict[Any, Any] = {}
    structure = graph.graph_copy(gm.graph, copies)
    own = list(flatten(structure, is_node).values())
    twins = {copy: node for node, copy in copies.items()}
    shown = {id(n) for n in own}
    extra = [c for n, c in copies.items() if n.name in seen.tensors and id(c) not in shown]
    graph.output((*own, *extra))
    wrapped = torch.fx.GraphModule(gm, graph)
    wrapped.train(gm.training)
    restore = _without_inplace(wrapped)
    names = _names(extra, {*inputs, *outputs})
    batch = args[0].shape[0] if args and args[0].ndim else None
    batched = [n for n, a in zip(inputs, args, strict=True) if a.ndim]
    batched += [
        o for o, n in zip(outputs, own, strict=True) if seen.tensors.get(twins[n].name, (None,))[:1] == (batch,)
    ]
    try:
        model = torch_onnx.export(wrapped, args, inputs, [*outputs, *names], batched)
    finally:
        for module in restore:
            module.inplace = True
    values = [twins[n].name for n in (*own, *extra)]
    tensors = [*outputs, *names]
    return model, torch_onnx.settle(model, values, tensors, outputs)


def _names(nodes: Sequence[Any], taken: set[str]) -> list[str]:
    """Tensor names for tapped nodes: the nodes' own, which fx keeps unique."""
    return [n.name if n.name not in taken else f"{n.name}_value" for n in nodes]


def _without_inplace(module: Any) -> list[Any]:
    """Switch in-place layers off for the export: a tapped tensor must keep its value."""
    changed = [m for m in module.modules() if getattr(m, "inplace", False) is True]
    for m in changed:
        m.inplace = False
    return changed


def layer_names(gm: Any) -> dict[str, str]:
    """Graph node → the layer's native name: the submodule's path, or where the exporter saw the call."""
    names: dict[str, str] = {}
    for node in gm.graph.nodes:
        if node.op == "call_module":
            names[node.name] = str(node.target)
            continue
        stack: Mapping[str, Any] = node.meta.get("nn_module_stack") or {}
        path = next((entry[0] for entry in reversed(list(stack.values())) if entry and entry[0]), "")
        names[node.name] = f"{path} ({node.name})" if path else node.name
    return names
