"""Apply a list of edits natively and write the file; what cannot be written is named and the rest is applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.formats.attempts import View, attempt_all, compare
from fetafix.formats.base import Unsupported
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.torch.fx_host import FxHost
from fetafix.formats.torch.program import Program
from fetafix.formats.torch.tensors import set_tensors
from fetafix.formats.transfer import transfer
from fetafix.ir import Graph

Load = Callable[[Path], Program]


def repair(load: Load, path: Path, edits: Sequence[Edit], lifted: Path, out: Path) -> tuple[tuple[int, str], ...]:
    """Write `path` with the edits to `out`. Returns (index, reason) for each edit that cannot be written natively.

    All edits are tried together; where that fails, one after the other, so that each refusal has its own reason.
    """
    attempt = _Attempt(load, path, lifted, out)
    return attempt_all(attempt, edits, _NO_SHAPES)


_NO_SHAPES = "PyTorch files declare no input shapes, there is nothing to set"


class _Attempt:
    """Writes the file with some edits, from a fresh copy of the original each time."""

    def __init__(self, load: Load, path: Path, lifted: Path, out: Path) -> None:
        self._load, self._path, self._out = load, path, out
        self._view = View(lifted)
        self._taps = onnx_view.load_taps(lifted).tensors

    def __call__(self, edits: Sequence[Edit]) -> None:
        """Raises Unsupported or EditError with the reason; `out` is then of no use."""
        import torch

        after = apply(self._view.before, edits)
        program = self._load(self._path)
        if program.save is None:
            raise Unsupported("this kind of file cannot be written")
        with torch.no_grad():
            self._transfer(program, after, edits)
        written = self._load(self._out)
        if edits:
            self._verify(written, after)

    def _transfer(self, program: Program, after: Graph, edits: Sequence[Edit]) -> None:
        assert program.save is not None
        if not edits:
            program.save(program.graph if program.graph is not None else program.module, False, self._out)
        elif not self._taps:
            set_tensors(program.module, self._view.before, after)
            program.save(program.module, False, self._out)
        else:
            inputs = [i.name for i in program.inputs]
            host = self._host(program, inputs)
            transfer(self._view.before, after, host, lambda names: self._view.samples(after, names))
            module = host.finish()
            program.save(module, host.structural, self._out)

    def _host(self, program: Program, inputs: Sequence[str]) -> Any:
        if program.host is not None:
            return program.host(self._taps, inputs, self._tensors(inputs))
        return FxHost(program.graph, self._taps, inputs, program.tensors_only)

    def _tensors(self, inputs: Sequence[str]) -> list[Any]:
        import torch

        return [torch.from_numpy(np.array(self._view.feeds()[n])) for n in inputs]

    def _verify(self, program: Program, after: Graph) -> None:
        """The written file must answer as the edited graph does, on the example."""
        import torch

        if self._view.example is None:
            return
        names, wanted = after.output_names, self._view.wanted(after)
        if wanted is None:
            return
        with torch.inference_mode():
            made = list(program.outputs(self._tensors([i.name for i in program.inputs])).values())
        if len(made) != len(names):
            raise Unsupported(f"the written model has {len(made)} outputs, {len(names)} expected")
        for name, want, tensor in zip(names, wanted, made, strict=True):
            compare(name, want, tensor.numpy())
