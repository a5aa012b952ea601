"""TorchScript archives: interpreted by PyTorch's own interpreter, without Python code from the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx.view import Taps
from fetafix.formats.torch import exporter as torch_onnx
from fetafix.formats.torch import signature as torch_signature
from fetafix.formats.torch.program import Program, damaged
from fetafix.formats.torch.vet import examine_script
from fetafix.report import TensorInfo

_PLAIN = ("NoneType", "OptionalType", "BoolType", "IntType", "FloatType", "StringType", "ListType")


def open_script(path: Path, options: OpenOptions) -> Program:
    """A TorchScript module, examined before it is loaded."""
    import torch

    if not options.trust:
        examine_script(path)
    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise damaged(path, error) from error
    details: dict[str, Any] = {}
    if getattr(module, "training", False):
        details["saved_in_training_mode"] = True
    _evaluating(module)
    from fetafix.formats.torch.script_host import ScriptHost

    inputs = torch_signature.with_shapes(_inputs(module), options.input_shapes)

    def tap(args: Sequence[Any], names: Sequence[str], outputs: Sequence[str]) -> Any:
        fresh = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return tap_script(_evaluating(fresh), args, names, outputs)

    def host(taps: Mapping[str, str], names: Sequence[str], args: Sequence[Any]) -> Any:
        return ScriptHost(module, taps, names)

    def save(edited: Any, structural: bool, out: Path) -> None:
        torch.jit.save(module, str(out))

    return Program(
        module, inputs, lambda args: module(*args), None, save, details, tap, lambda: layer_names(module), host
    )


def inlined(module: Any) -> Any:
    """The graph of `forward` with all calls of submodules expanded; expands it in the module itself."""
    import torch

    graph = module.forward.graph if hasattr(module.forward, "graph") else module.graph
    torch._C._jit_pass_inline(graph)
    for node in graph.findAllNodes("prim::GetAttr"):
        _settle(graph, module, node)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_dce(graph)
    return graph


def _evaluating(module: Any) -> Any:
    """The module in evaluation mode; a frozen one has no other."""
    return module.eval() if hasattr(module, "training") else module


def _settle(graph: Any, module: Any, node: Any) -> None:
    """Replace an attribute that is a plain value (None, a flag) by a constant, so that branches on it vanish."""
    import torch

    if node.output().type().kind() not in _PLAIN:
        return
    value = module
    for part in attribute_path(node.output()).split("."):
        value = getattr(value, part)
    if isinstance(value, torch.Tensor):
        node.output().setType(torch._C.TensorType.get())
        return
    if isinstance(value, list) and not all(isinstance(v, int | float) for v in value):
        return
    with graph.insert_point_guard(node):
        constant = graph.insertConstant(value)
    node.output().replaceAllUsesWith(constant)


def values(graph: Any) -> Iterator[Any]:
    """Every tensor that a node of the outermost block makes, in order, parameters excluded."""
    for node in graph.nodes():
        if node.kind() not in ("prim::GetAttr", "prim::Constant"):
            yield from (v for v in node.outputs() if is_tensor(v))


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor (not optional, not a list)."""
    return bool(value.type().kind() == "TensorType")


def tap_script(
    module: Any, args: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Any, Taps]:
    """The ONNX view of a TorchScript module, and which tensor each of its values makes (by number)."""
    import torch

    graph, parameters = torch._C._jit_pass_lower_graph(inlined(module), module._c)
    numbered = {v.debugName(): str(i) for i, v in enumerate(values(graph))}
    own = list(_outputs(graph))
    shown = {v.debugName() for v in own}
    extra = [v for v in values(graph) if v.debugName() not in shown and _certain(v)]
    for _ in list(graph.outputs()):
        graph.eraseOutput(0)
    for value in (*own, *extra):
        graph.registerOutput(value)
    ids = [numbered.get(v.debugName(), "") for v in (*own, *extra)]
    graph.makeMultiOutputIntoTuple()
    function = torch._C.CompilationUnit().create_function("forward", graph)
    names = _parameter_names(module, parameters)
    tensors = [*outputs, *(f"value_{i}" for i in ids[len(own) :])]
    batched = [n for n, a in zip(inputs, args, strict=True) if a.ndim]
    model = torch_onnx.export(function, (*args, *parameters), [*inputs, *names], tensors, batched)
    _embed(model, dict(zip(names, parameters, strict=True)))
    return model, torch_onnx.settle(model, ids, tensors, outputs)


def _certain(value: Any) -> bool:
    return bool(value.node().kind() not in ("prim::If", "prim::Loop"))


def _outputs(graph: Any) -> Iterator[Any]:
    """The returned tensors, tuples and lists opened."""
    stack = list(reversed(list(graph.outputs())))
    while stack:
        value = stack.pop()
        if value.node().kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
            stack.extend(reversed(list(value.node().inputs())))
        elif value.node().kind() == "prim::DictConstruct":
            stack.extend(reversed(list(value.node().inputs())[1::2]))
        else:
            yield value


def _parameter_names(module: Any, parameters: Sequence[Any]) -> list[str]:
    own = {t.data_ptr(): n for n, t in [*module.named_parameters(), *module.named_buffers()] if t.numel()}
    names: list[str] = []
    for i, tensor in enumerate(parameters):
        name = own.get(tensor.data_ptr(), f"constant_{i}")
        names.append(name if name not in names else f"{name}_{i}")
    return names


def _embed(model: Any, tensors: Mapping[str, Any]) -> None:
    """Turn the inputs that stand for parameters into initializers."""
    from onnx import numpy_helper

    kept = [i for i in model.graph.input if i.name not in tensors]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(t.detach().numpy(), n) for n, t in tensors.items())


def layer_names(module: Any) -> dict[str, str]:
    """Value number → operator with the submodule it came from."""
    names = {}
    for i, value in enumerate(values(inlined(module))):
        names[str(i)] = _layer(value.node())
    return names


def _layer(node: Any) -> str:
    """The submodule whose parameters the node reads, or the operator with its number."""
    for value in node.inputs():
        path = attribute_path(value)
        if path and is_tensor(value):
            return path.rpartition(".")[0] or path
    return f"{node.kind().removeprefix('aten::')} ({next(iter(node.outputs())).debugName()})"


def attribute_path(value: Any) -> str:
    """The dotted path of a parameter below self, "" for other values."""
    parts: list[str] = []
    while value.node().kind() == "prim::GetAttr":
        parts.append(value.node().s("name"))
        value = value.node().inputsAt(0)
    return ".".join(reversed(parts))


def _inputs(module: Any) -> list[TensorInfo]:
    """The arguments of forward; channels from the convolution that reads them first."""
    graph = inlined(module.copy() if hasattr(module, "copy") else module)
    dtype = torch_signature.parameter_dtype(module)
    shapes = dict([*module.named_parameters(), *module.named_buffers()])
    infos = []
    for value in list(graph.inputs())[1:]:
        if not is_tensor(value):
            continue
        shape: list[int | str | None] | None = None
        integer = False
        for use in value.uses():
            weight = shapes.get(attribute_path(use.user.inputsAt(1))) if use.user.inputsSize() > 1 else None
            if use.user.kind().startswith(("aten::conv", "aten::_conv")) and weight is not None:
                shape = [None, _channels(use.user, weight), *[None] * (weight.ndim - 2)]
            integer = integer or (use.user.kind() == "aten::embedding" and use.offset == 1)
        infos.append(TensorInfo(name=value.debugName().split(".")[0], dtype="int64" if integer else dtype, shape=shape))
    return infos


def _channels(node: Any, weight: Any) -> int:
    groups = node.inputsAt(8 if node.kind() == "aten::_convolution" else node.inputsSize() - 1).toIValue()
    return int(weight.shape[1]) * (groups if isinstance(groups, int) else 1)
