"""Edits on a torch.fx graph: parameters, arguments, connections, and pieces of ONNX in place of layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.torch import fragment as torch_fragment
from fetafix.formats.torch.attributes import argument, clip_bound
from fetafix.formats.torch.constants import as_native, layer_parameter
from fetafix.formats.torch.recurrent import overwriting, recurrent
from fetafix.formats.transfer import Changes, SetArgument, SetConstant
from fetafix.ir import Array, Graph

Action = Callable[[], None]


class FxHost:
    """A GraphModule under repair. `tensors`: ONNX tensor → the node that makes it (placeholders included).

    tensors_only: why nothing but tensors can be changed, "" where everything can.
    """

    def __init__(self, gm: Any, taps: Mapping[str, str], inputs: Sequence[str], tensors_only: str = "") -> None:
        self.gm, self._graph = gm, gm.graph
        self._nodes = {n.name: n for n in self._graph.nodes}
        self._tensor_of: dict[Any, str] = {}
        self.tensors: dict[str, Any] = {}
        self.structural, self._tensors_only = False, tensors_only
        placeholders = [n for n in self._graph.nodes if n.op == "placeholder"]
        for name, node in zip(inputs, placeholders, strict=True):
            self._bind(node, name)
        for value, tensor in taps.items():
            if value in self._nodes:
                self._bind(self._nodes[value], tensor)
        self._idle = {n for n in self._graph.nodes if not n.users}

    def _bind(self, node: Any, tensor: str) -> None:
        self._tensor_of[node] = tensor
        self.tensors.setdefault(tensor, node)

    # keeping a layer ------------------------------------------------------------------------------------------------
    def keep(self, tensor: str, changes: Changes, wires: Mapping[str, Any]) -> Any:
        """The node of `tensor` with its changes made. Raises Unsupported before anything is changed."""
        node = self.tensors[tensor]
        unit = self._unit(node)
        local = bool(changes.arguments or wires or not all(recurrent(c) for c in changes.constants))
        if local and any(not set(n.users) <= set(unit) for n in unit[1:]):
            raise Unsupported(f"{node.name} shares what it computes from with other layers")
        actions: list[Action] = []
        layer = self._layer(unit)
        for constant in changes.constants:
            actions.append(self._constant(layer, unit, constant))
        for change in changes.arguments:
            actions.append(self._argument(layer, change))
        if wires:
            actions.append(self._rewired(unit, wires))
        for action in actions:
            action()
        return node

    def _unit(self, node: Any) -> list[Any]:
        """The node and those before it that hold no tensor of the ONNX view: sizes, tuples, constants."""
        unit, stack = [node], list(node.all_input_nodes)
        while stack:
            n = stack.pop()
            if (
                n not in self._tensor_of
                and n.op not in ("placeholder", "get_attr")
                and n not in unit
                and not self._fixed(n)
            ):
                unit.append(n)
                stack.extend(n.all_input_nodes)
        return unit

    def _fixed(self, node: Any) -> bool:
        """Whether a node is a constant whatever the inputs are."""
        if node.op == "get_attr":
            return True
        return node.op == "call_module" and all(self._fixed(n) for n in node.all_input_nodes)

    def _layer(self, unit: Sequence[Any]) -> Any:
        return next((n for n in unit if n.op == "call_module"), unit[0])

    def _own_module(self, node: Any) -> Any:
        """The node's submodule, made its own first where the graph calls it several times."""
        if sum(n.op == "call_module" and n.target == node.target for n in self._graph.nodes) > 1:
            name = self._fresh_module(str(node.target))
            self.gm.add_submodule(name, copy.deepcopy(self.gm.get_submodule(node.target)))
            node.target = name
        return self.gm.get_submodule(node.target)

    def _constant(self, node: Any, unit: Sequence[Any], change: SetConstant) -> Action:
        bound = clip_bound(change.node.op, change.slot)
        if bound is not None:
            value = None if change.new is None else float(np.asarray(change.new).reshape(()))
            return self._argument(node, SetArgument(change.node, bound, value))
        if recurrent(change):
            return self._recurrent(unit, change)
        if node.op == "call_module":
            found = layer_parameter(self.gm.get_submodule(node.target), str(node.target), change)
            if found is not None:
                name, value = found
                held = name in dict(self.gm.get_submodule(node.target).named_parameters()) and value is not None
                self._allow(held or name != "bias")
                return lambda: self._set_parameter(self._own_module(node), name, value)
        return self._fetched(unit, change)

    def _recurrent(self, unit: Sequence[Any], change: SetConstant) -> Action:
        """Each of the layer's own tensors that changes; what an earlier output of the layer has set stays."""
        held = [t for n in unit if n.op == "call_module" for t in self._own_module(n).parameters()]
        held += [self._fixed_value(s) for n in unit for s in n.all_input_nodes if s.op == "get_attr"]
        return overwriting([*held, *self.gm.parameters()], change)

    def _set_parameter(self, module: Any, name: str, value: Any) -> None:
        import torch

        *path, last = name.split(".")
        owner = module.get_submodule(".".join(path))
        if value is None:
            owner._parameters[last] = None
        elif last in owner._buffers:
            owner._buffers[last] = value
        else:
            old = owner._parameters.get(last)
            owner._parameters[last] = torch.nn.Parameter(value, requires_grad=old is not None and old.requires_grad)

    def _fetched(self, unit: Sequence[Any], change: SetConstant) -> Action:
        """A constant that reaches the layer as an argument of the call."""
        optional = change.slot == 2 and change.node.op in ("Conv", "ConvTranspose", "Gemm")
        for node in unit:
            fixed = [n for n in node.all_input_nodes if self._fixed(n)]
            placed = [n for i, n in enumerate(node.args) if i == change.slot and n in fixed]
            for source in (*placed, *fixed):
                value = self._fixed_value(source)
                if change.old is not None and _holds(value, change.old):
                    if change.new is None and optional:
                        return lambda node=node, source=source: self._drop(node, source)  # type: ignore[misc]
                    native = as_native(change.new, value)
                    return lambda node=node, source=source: self._replace_fetch(node, source, native)  # type: ignore[misc]
        raise Unsupported(
            f"{change.node.label}: input {change.slot} ({change.tensor or 'absent'}) is no tensor of its own there"
        )

    def _fixed_value(self, node: Any) -> Any:
        if node.op != "get_attr":
            return self.gm.get_submodule(node.target)(*(self._fixed_value(n) for n in node.args))
        *path, last = str(node.target).split(".")
        return getattr(self.gm.get_submodule(".".join(path)), last)

    def _replace_fetch(self, node: Any, source: Any, value: Any) -> None:
        alone = source.op == "get_attr" and len(source.users) == 1
        shared = alone and sum(n.op == "get_attr" and n.target == source.target for n in self._graph.nodes) > 1
        if alone and not shared:
            *path, last = str(source.target).split(".")
            self._set_parameter(self.gm.get_submodule(".".join(path)), last, value)
            return
        self.structural = True
        name = self._fresh_module("fetafix_constant")
        self.gm.register_buffer(name, value)
        with self._graph.inserting_before(node):
            node.replace_input_with(source, self._graph.get_attr(name))

    def _drop(self, node: Any, source: Any) -> None:
        """Leave an optional tensor out of a call."""
        self.structural = True
        node.args = tuple(None if a is source else a for a in node.args)
        node.kwargs = {k: None if v is source else v for k, v in node.kwargs.items()}

    def _allow(self, allowed: bool) -> None:
        if self._tensors_only and not allowed:
            raise Unsupported(self._tensors_only)

    def _argument(self, node: Any, change: SetArgument) -> Action:
        self._allow(False)
        if node.op == "call_module":
            module = self.gm.get_submodule(node.target)
            if type(module).__name__ in ("ReLU", "ReLU6"):
                raise Unsupported(f"{type(module).__name__} has fixed bounds")
            name, value = argument(change.node.op, change.attribute, change.value, list(vars(module)))
            value = _like(value, getattr(module, name))
            return lambda: _set_attribute(self._own_module(node), name, value)
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise Unsupported(f"{node.name} calls {node.target}, whose arguments cannot be set")
        names = [a.name for a in schema.arguments]
        name, value = argument(change.node.op, change.attribute, change.value, names)
        return lambda: self._set_call_argument(node, names.index(name), name, _plain(value))

    def _set_call_argument(self, node: Any, position: int, name: str, value: Any) -> None:
        self.structural = True
        if position < len(node.args):
            node.update_arg(position, value)
        else:
            node.update_kwarg(name, value)

    def _rewired(self, unit: Sequence[Any], wires: Mapping[str, Any]) -> Action:
        """All new connections of a layer at once: two operands may change places."""
        from torch.fx.node import map_arg

        self._allow(False)
        read = {self._tensor_of.get(source) for node in unit for source in node.all_input_nodes}
        unread = [old for old in wires if old not in read]
        if unread:
            raise Unsupported(f"{unit[0].name} does not read {unread[0]} directly")
        new = {s: wires[t] for n in unit for s in n.all_input_nodes if (t := self._tensor_of.get(s, "")) in wires}

        def change() -> None:
            self.structural = True
            for node in unit:
                if any(source in new for source in node.all_input_nodes):
                    node.args = map_arg(node.args, lambda n: new.get(n, n))
                    node.kwargs = map_arg(node.kwargs, lambda n: new.get(n, n))

        return change

    # new pieces -----------------------------------------------------------------------------------------------------
    def splice(self, fragment: Graph, inputs: Sequence[Any], feeds: Mapping[str, Array]) -> Any:
        """A node that computes the fragment: its conversion, inlined."""
        self._allow(False)
        piece = torch_fragment.convert(fragment, feeds)
        self.structural = True
        values = dict(zip((n for n in piece.graph.nodes if n.op == "placeholder"), inputs, strict=True))
        result = None
        output = next(n for n in self._graph.nodes if n.op == "output")
        for node in piece.graph.nodes:
            if node.op == "output":
                result = values[node.args[0]]
            elif node.op != "placeholder":
                with self._graph.inserting_before(output):
                    values[node] = self._graph.node_copy(node, lambda n: values[n])
                self._adopt(values[node], piece)
        return result

    def _adopt(self, node: Any, piece: Any) -> None:
        """Bring the submodule or tensor of a copied node along, under a name that is free."""
        if node.op == "call_module":
            name = self._fresh_module(str(node.target))
            self.gm.add_submodule(name, piece.get_submodule(node.target))
            node.target = name
        elif node.op == "get_attr":
            *path, last = str(node.target).split(".")
            name = self._fresh_module("fetafix_constant")
            self.gm.register_buffer(name, getattr(piece.get_submodule(".".join(path)), last))
            node.target = name

    def _fresh_module(self, base: str) -> str:
        clean = "".join("_" if c in '."\\{}' else c for c in base) or "layer"
        name, i = clean, 1
        while hasattr(self.gm, name):
            name, i = f"{clean}_{i}", i + 1
        return name

    def set_outputs(self, values: Sequence[Any]) -> None:
        """Put values out in place of the old ones, in the same structure."""
        from torch.fx.node import map_arg

        from fetafix.formats.torch.fx import is_node
        from fetafix.formats.torch.structure import flatten

        output = next(n for n in self._graph.nodes if n.op == "output")
        old = list(flatten(output.args[0], is_node).values())
        if old == list(values):
            return
        self._allow(False)
        self.structural = True
        if len(old) == len(values):
            queue = iter(values)
            output.args = (map_arg(output.args[0], lambda _: next(queue)),)
        elif isinstance(output.args[0], dict):
            raise Unsupported("the model returns a dict, whose entries cannot be dropped")
        else:
            output.args = (values[0] if len(values) == 1 and not self._boxed() else list(values),)

    def _boxed(self) -> bool:
        from torch.fx.graph import _PyTreeCodeGen

        if isinstance(self._graph._codegen, _PyTreeCodeGen):
            raise Unsupported("the number of outputs is part of the exported program's signature")
        return False

    def finish(self) -> Any:
        """Sort, drop what nothing reads any more, and compile the graph; the GraphModule."""
        output = next(n for n in self._graph.nodes if n.op == "output")
        for node in _sorted(self._graph):
            output.prepend(node)
        dead = [
            n
            for n in self._graph.nodes
            if n.op not in ("placeholder", "output") and not n.users and n not in self._idle
        ]
        while dead:
            for node in dead:
                self._graph.erase_node(node)
            dead = [
                n
                for n in self._graph.nodes
                if n.op not in ("placeholder", "output") and not n.users and n not in self._idle
            ]
        called = {str(n.target) for n in self._graph.nodes if n.op == "call_module"}
        for node in self._nodes.values():
            if node.op == "call_module" and str(node.target) not in called:
                self.gm.delete_submodule(str(node.target))
        self._graph.lint()
        self.gm.recompile()
        return self.gm


def _sorted(graph: Any) -> list[Any]:
    """All nodes but the output, producers first, otherwise as they are."""
    order: list[Any] = []
    done: set[Any] = set()
    for start in graph.nodes:
        stack = [start]
        while stack:
            node = stack[-1]
            waiting = [n for n in node.all_input_nodes if n not in done]
            if node in done or not waiting:
                stack.pop()
                if node not in done and node.op != "output":
                    order.append(node)
                done.add(node)
            else:
                stack.extend(reversed(waiting))
    return order


def _holds(value: Any, old: Array) -> bool:
    array = value.detach().numpy()
    return bool(array.shape == old.shape and np.array_equal(array, old, equal_nan=array.dtype.kind == "f"))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _like(value: Any, old: Any) -> Any:
    return list(value) if isinstance(value, tuple) and isinstance(old, list) else value


def _set_attribute(module: Any, name: str, value: Any) -> None:
    setattr(module, name, value)
    if name == "padding" and hasattr(module, "_reversed_padding_repeated_twice"):
        module._reversed_padding_repeated_twice = [p for p in reversed(value) for _ in range(2)]
