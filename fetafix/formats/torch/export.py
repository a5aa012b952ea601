"""ExportedProgram archives (`.pt2`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fetafix.formats.base import OpenOptions, Unsupported
from fetafix.formats.torch import fx as torch_fx
from fetafix.formats.torch import signature as torch_signature
from fetafix.formats.torch.exporter import quiet
from fetafix.formats.torch.program import Program, damaged
from fetafix.formats.torch.structure import flatten
from fetafix.formats.torch.vet import examine_export
from fetafix.report import TensorInfo


def open_export(path: Path, options: OpenOptions) -> Program:
    """An exported program, examined before it is loaded."""
    import torch

    if not options.trust:
        examine_export(path)
    try:
        with quiet():
            exported = torch.export.load(path)
            module = exported.module()
    except Exception as error:  # the deserialiser raises anything on damaged files
        raise damaged(path, error) from error
    inputs = torch_signature.with_shapes(_inputs(exported), options.input_shapes)
    graph = torch_fx.strip_guards(module)
    call = _caller(module, exported.call_spec.in_spec)
    structure = _output_names(exported)
    details = {"opset": dict(getattr(exported, "_opset", {}) or {}), "layers": len(exported.graph.nodes)}

    def save(gm: Any, structural: bool, out: Path) -> None:
        _save(exported, gm, structural, out)

    return Program(module, inputs, call, graph, save, details, structure=structure)


def _inputs(exported: Any) -> list[TensorInfo]:
    """User inputs with shapes; symbolic dimensions by their name."""
    nodes = {n.name: n for n in exported.graph.nodes}
    infos = []
    for name in exported.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if name in nodes else None
        if value is not None and hasattr(value, "dtype"):
            shape: list[int | str | None] = [s if isinstance(s, int) else str(s) for s in value.shape]
            infos.append(TensorInfo(name=name, dtype=str(value.dtype).removeprefix("torch."), shape=shape))
    return infos


def _output_names(exported: Any) -> list[str]:
    """Names by the structure that the module returns."""
    import torch.utils._pytree as pytree

    spec = exported.call_spec.out_spec
    leaves = [object() for _ in range(spec.num_leaves)]
    return list(flatten(pytree.tree_unflatten(leaves, spec), lambda v: type(v) is object))


def _caller(module: Any, spec: Any) -> Any:
    import torch.utils._pytree as pytree

    def call(args: Sequence[Any]) -> Any:
        positional, keywords = pytree.tree_unflatten(list(args), spec)
        return module(*positional, **keywords)

    return call


def _save(exported: Any, gm: Any, structural: bool, out: Path) -> None:
    """Changed tensors go into the program as it is; a changed graph is exported again, with the same dynamic sizes."""
    import torch

    with quiet():
        if not structural:
            for path, value in [*gm.named_parameters(), *gm.named_buffers()]:
                for table in (exported.state_dict, exported.constants):
                    if path in table:
                        table[path] = value
            torch.export.save(exported, out)
            return
        args, kwargs = exported.example_inputs or ((), {})
        if not args and not kwargs:
            raise Unsupported("the program has no sample inputs to export its changed graph with")
        try:
            with torch.enable_grad():
                again = torch.export.export(gm, args, kwargs, dynamic_shapes=_dynamic(exported, args, kwargs))
        except Exception as error:  # the exporter raises anything
            raise Unsupported(f"torch.export cannot export the changed graph: {str(error)[:300]}") from error
        torch.export.save(again, out)


def _dynamic(exported: Any, args: Any, kwargs: Any) -> Any:
    """torch.export's dynamic_shapes, from the symbolic sizes of the inputs."""
    import torch
    import torch.utils._pytree as pytree

    nodes = {n.name: n for n in exported.graph.nodes}
    leaves, spec = pytree.tree_flatten((args, kwargs))
    shapes = []
    for name, leaf in zip(exported.graph_signature.user_inputs, leaves, strict=True):
        value = nodes[name].meta.get("val") if name in nodes else None
        symbolic = (
            {i: torch.export.Dim.AUTO for i, s in enumerate(value.shape) if not isinstance(s, int)}
            if value is not None
            else {}
        )
        shapes.append({**symbolic} if isinstance(leaf, torch.Tensor) and symbolic else None)
    positional, keywords = pytree.tree_unflatten(shapes, spec)
    return tuple(positional) if not keywords else {**dict(enumerate(positional)), **keywords}
