"""Converters of the PyTorch world: torch.onnx, onnx2torch, TorchScript, torch.export. Runs in child processes alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetafix.convert import arrays
from fetafix.convert.guard import Answer, Job


@dataclass(frozen=True)
class Loaded:
    """A module in evaluation mode, one tensor for each of its inputs (two samples), and names for both ends."""

    module: Any
    args: tuple[Any, ...]
    inputs: list[str]
    outputs: list[str]


def to_onnx(job: Job) -> Answer:
    """Write ONNX with a free batch size, by the exporter and the opset that the options name."""
    import torch

    model = _load(job)
    fixed = job.options.get("batch") == "fixed"
    args = tuple(a[:1] for a in model.args) if fixed else model.args
    common: dict[str, Any] = {
        "input_names": model.inputs, "output_names": model.outputs, "opset_version": int(job.options["opset"])}
    if job.options["exporter"] == "dynamo":
        shapes = None if fixed else _dynamic(args)
        torch.onnx.export(model.module, args, job.out, dynamo=True, dynamic_shapes=shapes, external_data=False,
                          verbose=False, **common)
        return Answer()
    axes = {} if fixed else {name: {0: "N"} for name in (*model.inputs, *model.outputs)}
    torch.onnx.export(model.module, args, job.out, dynamo=False, dynamic_axes=axes, **common)
    return Answer()


def from_onnx(job: Job) -> Answer:
    """Write a pickled module of onnx2torch's classes."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare(job.threads)
    import onnx
    import onnx2torch
    import torch

    model = onnx.load(job.source)
    if job.options.get("infer_shapes"):
        model = onnx.shape_inference.infer_shapes(model)
    torch.save(onnx2torch.convert(model).eval(), job.out)
    return Answer()


def to_torchscript(job: Job) -> Answer:
    """Write TorchScript, traced on the samples or compiled from the module's code."""
    import torch

    model = _load(job)
    if job.options["method"] == "script":
        made = torch.jit.script(model.module)
    else:
        made = torch.jit.trace(model.module, model.args, check_trace=False)  # type: ignore[no-untyped-call]
    made.save(job.out)
    return Answer()


def to_pt2(job: Job) -> Answer:
    """Write an exported program with a free batch size."""
    import torch

    model = _load(job)
    fixed = job.options.get("batch") == "fixed"
    args = tuple(a[:1] for a in model.args) if fixed else model.args
    program = torch.export.export(
        model.module, args, dynamic_shapes=None if fixed else _dynamic(args), strict=bool(job.options["strict"]))
    torch.export.save(program, job.out)
    return Answer()


def _dynamic(args: tuple[Any, ...]) -> Any:
    """The first axis of every input free, under one name: it is the same batch."""
    import torch

    batch = torch.export.Dim("N")
    return tuple({0: batch} if a.ndim else None for a in args)


def _load(job: Job) -> Loaded:
    """The source's module, opened as safely as `check` opens it."""
    import torch

    from fetafix.formats.base import OpenOptions
    from fetafix.formats.torch import env as torch_env
    from fetafix.formats.torch import model as pytorch

    torch_env.prepare(job.threads)
    path = Path(job.source)
    name = pytorch.recognise(path)
    program = pytorch.load(path, str(name), OpenOptions(trust=job.trust, arch=job.arch))
    samples = arrays.load(job.example)
    wanted = [(i.name, i.shape) for i in program.inputs] or [(n, None) for n in samples]
    args = tuple(torch.from_numpy(a) for a in arrays.fitted(samples, wanted))
    module = program.module
    if job.kind == "pt2" and program.graph is not None:
        module = program.graph  # without the checks that torch.export guards it by
        module.train = module.eval = lambda *_: module  # it refuses, and exporters insist on asking
    return Loaded(module, args, [n for n, _ in wanted], list(program.outputs(args)))
