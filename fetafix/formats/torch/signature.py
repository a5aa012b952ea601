"""What a PyTorch model takes: names, shapes and dtypes of its inputs, as far as the file tells."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from fetafix.report import TensorInfo

_Shape = tuple[int | str | None, ...] | None
_PASSING = (
    "Identity",
    "OnnxCopyIdentity",
    "OnnxPadStatic",
    "OnnxPadDynamic",
    "ZeroPad2d",
    "ConstantPad2d",
    "Dropout",
    "ReflectionPad2d",
)


def of_graph(gm: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[TensorInfo]:
    """The placeholders of a GraphModule; channels and integer dtype from what reads them first."""
    dtype = parameter_dtype(gm)
    infos = []
    for node in gm.graph.nodes:
        if node.op == "placeholder" and not node.args:
            shape, integer = _first_use(gm, node)
            infos.append(TensorInfo(name=node.name, dtype="int64" if integer else dtype, shape=_listed(shape)))
    return with_shapes(infos, shapes)


def of_module(module: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[TensorInfo]:
    """The required arguments of `forward`; the channels of a single input from the first layer."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    names = names or ["input"]
    first = next((m for m in module.modules() if any(True for _ in m.parameters(recurse=False))), None)
    shape, integer = _layer_input(first) if first is not None and len(names) == 1 else (None, False)
    dtype = "int64" if integer else parameter_dtype(module)
    return with_shapes([TensorInfo(name=n, dtype=dtype, shape=_listed(shape)) for n in names], shapes)


def with_shapes(infos: Sequence[TensorInfo], shapes: Mapping[str, tuple[int, ...]]) -> list[TensorInfo]:
    """The inputs with the shapes that the user gave, by name or "" for the only one."""

    def given(info: TensorInfo) -> TensorInfo:
        shape = shapes.get(info.name) or (shapes.get("") if len(infos) == 1 else None)
        return info if shape is None else TensorInfo(name=info.name, dtype=info.dtype, shape=list(shape))

    return [given(i) for i in infos]


def parameter_dtype(module: Any) -> str:
    """The dtype of the first floating parameter or buffer; float32 where there is none."""
    tensors = [*module.parameters(), *module.buffers()]
    return next((str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()), "float32")


def _first_use(gm: Any, node: Any) -> tuple[_Shape, bool]:
    queue, seen = [node], set()
    while queue:
        current = queue.pop(0)
        for user in current.users:
            if user in seen:
                continue
            seen.add(user)
            if user.op == "call_module":
                module = gm.get_submodule(user.target)
                shape, integer = _layer_input(module)
                if shape is not None:
                    return shape, integer
                if type(module).__name__ in _PASSING:
                    queue.append(user)
                if type(module).__name__ == "OnnxGather" and user.args[1:2] == (current,):
                    return None, True
    return None, False


def _layer_input(module: Any) -> tuple[_Shape, bool]:
    """(shape, whether ids) that a layer expects of its input; None where it takes any."""
    import torch

    name = type(module).__name__
    weight = getattr(module, "weight", None)
    if name.startswith("Sequential") and len(module):
        return _layer_input(next((m for m in module if type(m).__name__ not in _PASSING), module[0]))
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return (None, module.in_channels, *[None] * (weight.ndim - 2)), False  # type: ignore[union-attr]
    if name == "BatchNorm2d":
        return (None, module.num_features, None, None), False
    if name in ("Embedding", "EmbeddingBag"):
        return (None, None), True
    if name == "Linear":
        return (None, module.in_features), False
    return None, False


def _listed(shape: _Shape) -> list[int | str | None] | None:
    return None if shape is None else list(shape)
