"""Edits on a TorchScript graph: parameters, arguments, connections, and traced pieces of ONNX in place of operators.

The graph of `forward` is edited with all submodules' calls expanded; the module keeps its parameters under their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.torch import fragment as torch_fragment
from fetafix.formats.torch.attributes import argument, clip_bound
from fetafix.formats.torch.constants import as_native
from fetafix.formats.torch.recurrent import overwriting, recurrent
from fetafix.formats.torch.script import _outputs, attribute_path, inlined, is_tensor, values
from fetafix.formats.transfer import Changes, SetArgument, SetConstant
from fetafix.ir import Array, Graph

Action = Callable[[], None]
# (ONNX operator, input slot) → argument of the ATen operator, for constants that the module does not hold by that name.
_SLOTS = {
    ("Conv", 1): "weight",
    ("Conv", 2): "bias",
    ("ConvTranspose", 1): "weight",
    ("ConvTranspose", 2): "bias",
    ("Gemm", 1): "weight",
    ("Gemm", 2): "bias",
    ("BatchNormalization", 1): "weight",
    ("BatchNormalization", 2): "bias",
    ("BatchNormalization", 3): "running_mean",
    ("BatchNormalization", 4): "running_var",
}


class ScriptHost:
    """A TorchScript module under repair. `tensors`: ONNX tensor → the value that it is."""

    def __init__(self, module: Any, taps: Mapping[str, str], inputs: Sequence[str]) -> None:
        self._module, self._graph = module, inlined(module)
        self.structural = False
        self.tensors: dict[str, Any] = dict(zip(inputs, self._arguments(), strict=True))
        numbered = list(values(self._graph))
        self._tensor_of = {v.debugName(): t for t, v in self.tensors.items()}
        for number, tensor in taps.items():
            if number:
                self.tensors.setdefault(tensor, numbered[int(number)])
                self._tensor_of[numbered[int(number)].debugName()] = tensor

    def _arguments(self) -> list[Any]:
        return [v for v in list(self._graph.inputs())[1:] if is_tensor(v)]

    # keeping an operator --------------------------------------------------------------------------------------------
    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Any:
        """The value of `tensor` with its operator's changes made. Raises Unsupported before anything is changed."""
        value = self.tensors[tensor]
        node = value.node()
        actions = [self._constant(node, c) for c in changes.constants]
        actions += [self._argument(node, a) for a in changes.arguments]
        actions += [self._wire(node, old, new) for old, new in wires.items()]
        for action in actions:
            action()
        return value

    def _constant(self, node: Any, change: SetConstant) -> Action:
        bound = clip_bound(change.node.op, change.slot)
        if bound is not None:
            value = None if change.new is None else float(np.asarray(change.new).reshape(()))
            return self._argument(node, SetArgument(change.node, bound, value))
        held = dict([*self._module.named_parameters(), *self._module.named_buffers()])
        if recurrent(change):
            # of its own first; where exporters left out two Transposes the layer before is part of this one
            return overwriting([*(held[p] for p in _read(node) if p in held), *held.values()], change)
        for slot, value in enumerate(list(node.inputs())):
            path = attribute_path(value)
            if change.old is not None and path == change.tensor and path in held and change.new is not None:
                native = as_native(change.new, held[path])
                if self._readers(path) == 1:
                    return lambda path=path, native=native: held[path].data.copy_(native)  # type: ignore[misc]
                return lambda slot=slot, native=native: self._place(node, slot, native)  # type: ignore[misc]
        return self._by_slot(node, change)

    def _readers(self, path: str) -> int:
        fetches = [n.output() for n in self._graph.findAllNodes("prim::GetAttr")]
        return sum(len(v.uses()) for v in fetches if attribute_path(v) == path)

    def _by_slot(self, node: Any, change: SetConstant) -> Action:
        names = _argument_names(node)
        name = _SLOTS.get((change.node.op, change.slot))
        if name not in names:
            raise Unsupported(f"{node.kind()} holds no constant for input {change.slot} of {change.node.op}")
        import torch

        new = None if change.new is None else torch.from_numpy(np.array(change.new))
        if new is None and name != "bias":
            raise Unsupported(f"{node.kind()} needs its {name}")
        return lambda: self._place(node, names.index(name), new)

    def _place(self, node: Any, slot: int, value: Any) -> None:
        """Put a constant into an input of the node."""
        self.structural = True
        with self._graph.insert_point_guard(node):
            node.replaceInput(slot, self._graph.insertConstant(value))

    def _argument(self, node: Any, change: SetArgument) -> Action:
        names = _argument_names(node)
        name, value = argument(change.node.op, change.attribute, change.value, names)
        value = list(value) if isinstance(value, tuple) else value
        if isinstance(value, int) and not isinstance(value, bool) and "[]" in str(_argument_type(node, name)):
            value = [value]
        return lambda: self._place(node, names.index(name), value)

    def _wire(self, node: Any, old: str, value: Any) -> Action:
        slots = [i for i, v in enumerate(node.inputs()) if self._tensor_of.get(v.debugName()) == old]
        lists = [
            (v.node(), i)
            for v in node.inputs()
            if v.node().kind() == "prim::ListConstruct" and len(v.uses()) == 1
            for i, item in enumerate(v.node().inputs())
            if self._tensor_of.get(item.debugName()) == old
        ]
        places = [(node, i) for i in slots] + lists
        if not places:
            raise Unsupported(f"{node.kind()} does not read {old} directly")

        def change() -> None:
            self.structural = True
            for reader, slot in places:
                _move_before(value.node(), reader)
                reader.replaceInput(slot, value)
                if reader is not node:
                    _move_before(reader, node)

        return change

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Any:
        """A value that the fragment's traced conversion computes, inlined into the graph."""
        import torch

        piece = _with_traced_shapes(torch_fragment.convert(fragment, feeds))
        args = tuple(torch.from_numpy(np.array(feeds[v.name])) for v in fragment.inputs)
        with torch.no_grad():
            made: Any = torch.jit.trace(piece, args, check_trace=False)  # type: ignore[no-untyped-call]
            traced = torch.jit.freeze(made.eval(), optimize_numerics=False)
        callee = _without_self(traced)
        self.structural = True
        last = _last([v.node() for v in inputs if v.node().kind() != "prim::Param"])
        anchor = next(iter(self._graph.nodes())) if last is None else _next(self._graph, last)
        with self._graph.insert_point_guard(anchor):
            (result,) = self._graph.insertGraph(callee, list(inputs))
        return result

    def set_outputs(self, new: Sequence[Any]) -> None:
        """Put values out in place of the old ones, in the same structure."""
        old = list(_outputs(self._graph))
        if len(old) != len(new):
            raise Unsupported("the number of outputs is part of the TorchScript signature")
        for before, after in zip(old, new, strict=True):
            if before.debugName() != after.debugName():
                self.structural = True
                for use in list(before.uses()):
                    if use.user.kind() in (
                        "prim::Return",
                        "prim::TupleConstruct",
                        "prim::ListConstruct",
                        "prim::DictConstruct",
                    ):
                        use.user.replaceInput(use.offset, after)

    def finish(self) -> Any:
        """Drop what nothing reads any more; the module."""
        import torch

        torch._C._jit_pass_dce(self._graph)
        self._graph.lint()
        return self._module


def _read(node: Any) -> list[str]:
    """The paths of the module's tensors that a node reads, as they are or in lists."""
    lists = [v.node() for v in node.inputs() if v.node().kind() == "prim::ListConstruct"]
    return [p for n in (node, *lists) for v in n.inputs() if (p := attribute_path(v))]


def _with_traced_shapes(piece: Any) -> Any:
    """A converted fragment whose Shapes are traced as operators: as onnx2torch writes them, the trace bakes them in."""
    import torch

    class Shape(torch.nn.Module):
        def __init__(self, start: int, end: int | None) -> None:
            super().__init__()
            self.part = slice(start, end)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch._shape_as_tensor(x)[self.part]

    for name, module in list(piece.named_modules()):
        if type(module).__name__ == "OnnxShape":
            piece.set_submodule(name, Shape(module._start, module._end))
    return piece


def _argument_names(node: Any) -> list[str]:
    try:
        schema = torch_schema(node)
    except RuntimeError as error:
        raise Unsupported(f"{node.kind()} has no schema") from error
    return [a.name for a in schema.arguments]


def _argument_type(node: Any, name: str) -> Any:
    return next(a.type for a in torch_schema(node).arguments if a.name == name)


def torch_schema(node: Any) -> Any:
    """The operator schema of a node; RuntimeError where it has none."""
    import torch

    text = node.schema()
    if not text or text == "(no schema)":
        raise RuntimeError("no schema")
    return torch._C.parse_schema(text)


def _without_self(traced: Any) -> Any:
    """The traced graph without its module argument; frozen, so nothing reads it."""
    graph = traced.graph.copy()
    first = next(iter(graph.inputs()))
    if not is_tensor(first):
        if first.uses():
            raise Unsupported("the converted piece keeps state that cannot be inlined")
        graph.eraseInput(0)
    return graph


def _last(nodes: Sequence[Any]) -> Any | None:
    last = None
    for node in nodes:
        if last is None or node.isAfter(last):
            last = node
    return last


def _next(graph: Any, node: Any) -> Any:
    follow = False
    for candidate in graph.nodes():
        if follow:
            return candidate
        follow = (
            candidate.output().debugName() == node.output().debugName()
            if candidate.outputsSize() == 1 == node.outputsSize()
            else (
                candidate.outputsSize() > 0
                and node.outputsSize() > 0
                and candidate.outputsAt(0).debugName() == node.outputsAt(0).debugName()
            )
        )
    return graph.return_node()


def _move_before(node: Any, reader: Any) -> None:
    """Keep the order of the list right: a node and what it reads stand before what reads it."""
    if node.kind() == "prim::Param" or node.isBefore(reader):
        return
    node.moveBefore(reader)
    for value in node.inputs():
        _move_before(value.node(), node)
