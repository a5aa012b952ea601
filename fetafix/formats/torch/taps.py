"""A PyTorch model looked into by PyTorch itself, where its ONNX view does not serve.

A torch.fx graph (traced modules, exported programs) is run node by node. Everything else (TorchScript, code that cannot
be traced) runs as it is while every operator that reaches PyTorch's dispatcher is written down, with the module whose
forward it is part of, or whose parameters it reads. Values are copied at once: in-place operators change them later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fetafix.formats.base import Tap, Taps
from fetafix.formats.torch import fx as torch_fx
from fetafix.formats.torch.program import Program
from fetafix.formats.torch.structure import flatten
from fetafix.ir import Array


def tap(program: Program, args: Sequence[Any], feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
    """What the layers compute from `args`, the feeds as tensors. forced: by tensor name, what is put in its place."""
    import torch

    book = _Book(program, args, feeds, forced)
    with torch.no_grad():
        if program.graph is not None:
            result, names = _by_node(program, args, book), program.output_names()
        else:
            made = _dispatched(program, args, book)
            result, names = list(made.values()), list(made)
    for name, value in zip(names, result, strict=True):
        book.output(name, value)
    return Taps(tuple(book.layers), book.values)


class _Book:
    """What was seen so far. Tensors are told apart by identity, so each is kept alive."""

    def __init__(
        self, program: Program, args: Sequence[Any], feeds: Mapping[str, Array], forced: Mapping[str, Array]
    ) -> None:
        self.layers: list[Tap] = []
        self.values: dict[str, Array] = dict(feeds)
        self.forced = forced
        self._names = {id(t): i.name for t, i in zip(args, program.inputs, strict=True)}
        self._alive: list[Any] = list(args)

    def seen(self, layer: str, op: str, inputs: Sequence[Any], outputs: Sequence[Any], wanted: str = "") -> None:
        """A layer ran. wanted: the name of its output, where there is one."""
        known = [self._names[id(t)] for t in inputs if id(t) in self._names]
        self._note(layer, op, known, outputs, wanted)

    def _note(self, layer: str, op: str, known: Sequence[str], outputs: Sequence[Any], wanted: str) -> None:
        made = [self._entered(t, wanted or f"{layer}:{len(self.layers)}", i) for i, t in enumerate(outputs)]
        self.layers.append(Tap(layer, op, tuple(dict.fromkeys(known)), tuple(made)))

    def _entered(self, tensor: Any, name: str, index: int) -> str:
        name = f"{name}.{index}" if index else name
        while name in self.values and name not in self.forced:
            name = f"{name}'"
        if name in self.forced:
            _overwrite(tensor, self.forced[name])
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        self.values[name] = _copied(tensor)
        return name

    def output(self, name: str, tensor: Any) -> None:
        """A tensor is an output of the model and goes by that name as well."""
        own = self._names.get(id(tensor))
        if name in self.forced:
            _overwrite(tensor, self.forced[name])
        if own == name:
            return
        if own is None or name in self.values:
            self.values[name] = _copied(tensor)
            return
        del self.values[own]
        self.values[name] = _copied(tensor)
        swap = {own: name}
        self.layers = [Tap(t.layer, t.op, *(tuple(swap.get(n, n) for n in side) for side in (t.inputs, t.outputs)))
                       for t in self.layers]


def _overwrite(tensor: Any, value: Array) -> None:
    import torch

    tensor.copy_(torch.from_numpy(value.reshape(tuple(tensor.shape)).copy()))


def _copied(tensor: Any) -> Array:
    import torch

    plain = tensor.detach().cpu()
    array: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
    return array


def _tensors(value: Any) -> list[Any]:
    """The tensors in a structure."""
    import torch
    import torch.utils._pytree as pytree

    return [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]


def _by_node(program: Program, args: Sequence[Any], book: _Book) -> list[Any]:
    """Run the graph node by node; the output tensors."""
    import torch

    graph = program.graph
    assert graph is not None
    names = torch_fx.layer_names(graph)

    class Tapping(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if n.op in ("call_module", "call_function", "call_method"):
                inputs = [t for a in n.all_input_nodes for t in _tensors(self.env.get(a)) if a.op != "get_attr"]
                book.seen(names[n.name], self._kind(n), inputs, _tensors(value), n.name)
            return value

        def _kind(self, n: Any) -> str:
            if n.op == "call_module":
                return type(self.fetch_attr(n.target)).__name__
            return str(getattr(n.target, "__name__", n.target)).split(".")[0]

    result = Tapping(graph).run(*args, enable_io_processing=False)
    return list(flatten(result, lambda v: isinstance(v, torch.Tensor)).values())


def _dispatched(program: Program, args: Sequence[Any], book: _Book) -> dict[str, Any]:
    """Run the model as it is, and write down what reaches the dispatcher; the output tensors by name."""
    from torch.utils._python_dispatch import TorchDispatchMode

    stack: list[str] = [""]
    leaves = {path for path, m in program.module.named_modules() if not list(m.children())}
    owners = {t.data_ptr(): path.rpartition(".")[0] for path, t in
              [*program.module.named_parameters(), *program.module.named_buffers()] if t.numel()}

    class Tapping(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            inputs, op = _tensors((args, kwargs or {})), str(func).split(".")[1].rstrip("_")
            owner = stack[-1] if len(stack) > 1 else next((o for t in inputs if (o := owners.get(t.data_ptr()))), "")
            if op not in ("detach", "alias") and inputs:
                name = owner if owner in leaves else f"{owner} ({op})" if owner else f"{op} ({len(book.layers)})"
                book.seen(name, op, inputs, _tensors(result))
            return result

    with _following(program.module, stack), Tapping():  # type: ignore[no-untyped-call]
        return program.outputs(args)


@contextlib.contextmanager
def _following(module: Any, stack: list[str]) -> Iterator[None]:
    """While it is entered, the top of `stack` is the path of the module whose forward runs, where hooks tell."""
    import torch

    def leave(*_: Any) -> None:
        stack.pop()

    hooks = []
    if not isinstance(module, torch.jit.ScriptModule):
        for path, part in module.named_modules():
            hooks.append(part.register_forward_pre_hook(lambda *_, p=path: stack.append(p)))
            hooks.append(part.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
