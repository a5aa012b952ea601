"""The ONNX view of a PyTorch program: tapped where its graph is known, exported as a whole otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from fetafix.errors import LiftError
from fetafix.formats.base import Lifted
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.onnx.view import Taps
from fetafix.formats.torch import exporter as torch_onnx
from fetafix.formats.torch import fx as torch_fx
from fetafix.formats.torch.program import Program
from fetafix.ir import Array


def lift(program: Program, folder: Path, args: Sequence[Any], example: Mapping[str, Array]) -> Lifted:
    """Write the view into `folder`. `args`: the example as tensors, in the order of the inputs."""
    import torch

    inputs = [i.name for i in program.inputs]
    with torch.no_grad():
        outputs = program.output_names() if program.graph is not None else list(program.outputs(args))
        notes: list[str] = []
        tapped = _tapped(program, args, inputs, outputs, notes)
        if tapped is None:
            model, taps = _whole(program, args, inputs, outputs, notes), Taps({})
        else:
            model, taps = tapped
    path = onnx_view.save(model, taps, folder, example)
    return Lifted(path, _names(model, program, taps), tuple(notes))


def _tapped(
    program: Program, args: Sequence[Any], inputs: list[str], outputs: list[str], notes: list[str]
) -> tuple[onnx.ModelProto, Taps] | None:
    if program.tap is None and program.graph is None:
        return None
    try:
        if program.tap is not None:
            model, taps = program.tap(args, inputs, outputs)
            return model, taps
        return torch_fx.tap(program.graph, args, inputs, outputs)
    except Exception as error:  # the exporter raises anything; the plain export may still work
        notes.append(f"layers could not be traced one by one ({type(error).__name__}: {_short(error)})")
        return None


def _whole(
    program: Program, args: Sequence[Any], inputs: list[str], outputs: list[str], notes: list[str]
) -> onnx.ModelProto:
    batched = [n for n, a in zip(inputs, args, strict=True) if a.ndim]
    try:
        model = torch_onnx.export(program.module, args, inputs, outputs, batched)
        torch_onnx.settle(model, [], [], outputs)
        return model
    except Exception as error:  # the exporter raises anything
        first = _short(error)
        notes.append(f"the TorchScript exporter failed ({first}); the newer one was used")
    try:
        return _newer(program, args, inputs, outputs)
    except Exception as error:  # as above
        raise LiftError(f"no ONNX exporter can export it: {first}; {_short(error)}") from error


def relift(program: Program, folder: Path, args: Sequence[Any], example: Mapping[str, Array]) -> Lifted:
    """Write a view by the exporter that `lift` does not use first, without taps. Raises whatever that raises."""
    import torch

    inputs = [i.name for i in program.inputs]
    with torch.no_grad():
        outputs = program.output_names() if program.graph is not None else list(program.outputs(args))
        model, taps = _newer(program, args, inputs, outputs), Taps({})
    return Lifted(onnx_view.save(model, taps, folder, example), _names(model, program, taps))


def _newer(program: Program, args: Sequence[Any], inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """By the exporter that goes by torch.export."""
    import torch

    with torch_onnx.quiet():
        made = torch.onnx.export(
            program.module,
            tuple(args),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
        )
    return made.model_proto  # type: ignore[union-attr]


def _short(error: BaseException) -> str:
    """The part of an exporter's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if line.startswith("<class")), lines[0] if lines else type(error).__name__)
    return telling[:200]



def _names(model: onnx.ModelProto, program: Program, taps: Taps) -> dict[str, str]:
    """Node key → native layer: that of the tapped tensor it makes or, inside a layer, of the next one downstream."""
    native = (
        program.layer_names()
        if program.layer_names is not None
        else (torch_fx.layer_names(program.graph) if program.graph is not None else {})
    )
    owners: dict[str, str] = {}
    for value, tensor in taps.tensors.items():
        owners.setdefault(tensor, native.get(value, value))
    names: dict[str, str] = {}
    for node in reversed(model.graph.node):
        key = next((o for o in node.output if o), "")
        owner = next((owners[o] for o in node.output if o in owners), None)
        if owner is None:
            continue
        names[key] = owner
        for tensor in node.input:
            owners.setdefault(tensor, owner)
    return names if taps.tensors else {n.output[0]: n.name for n in model.graph.node if n.name}
