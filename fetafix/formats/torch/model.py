"""The PyTorch format family: TorchScript, ExportedProgram, pickled modules, state dicts.

`recognise` tells them apart by content; `open` loads one without running code from the file (unless trusted) and
gives it as an `Artifact`. How each container is read and written stands in its own module; this one runs, lifts and
repairs them all in the same way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.errors import LiftError, RuntimeCrash, UnreadableModel
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.formats.staging import staging
from fetafix.formats.torch import device as torch_device
from fetafix.formats.torch import env as torch_env
from fetafix.formats.torch import repair as torch_repair
from fetafix.formats.torch.lift import lift, relift
from fetafix.formats.torch.program import Program
from fetafix.formats.torch.recognise import EXPORT, MODULE, SAFETENSORS, STATE_DICT, TORCHSCRIPT, recognise
from fetafix.ir import Array
from fetafix.report import ModelInfo, TensorInfo

__all__ = ["FORMATS", "TorchArtifact", "open", "recognise"]

FORMATS = (TORCHSCRIPT, EXPORT, MODULE, STATE_DICT, SAFETENSORS)


def open(path: Path, format: str, options: OpenOptions) -> TorchArtifact:
    """A PyTorch model in its runtime.

    Raises UnreadableModel or UntrustedModel with what was found, UsageError where the device is not there.
    """
    torch_env.prepare(options.threads)
    device = torch_device.choose(Path(path), options)
    program = load(Path(path), format, options)
    if device.type != "cpu":
        program.module.to(device)
    return TorchArtifact(Path(path), format, options, program, device)


def load(path: Path, format: str, options: OpenOptions) -> Program:
    """The program of a file of the given format."""
    if not path.exists():
        raise UnreadableModel(f"{path}: no such file")
    if format == TORCHSCRIPT:
        from fetafix.formats.torch.script import open_script

        return open_script(path, options)
    if format == EXPORT:
        from fetafix.formats.torch.export import open_export

        return open_export(path, options)
    if format == MODULE:
        from fetafix.formats.torch.module import open_module

        return open_module(path, options)
    if format in (STATE_DICT, SAFETENSORS):
        from fetafix.formats.torch.state import open_state_dict

        return open_state_dict(path, options)
    raise UnreadableModel(f"{path}: {format!r} is no PyTorch format")


class TorchArtifact:
    """A PyTorch model: runs in PyTorch, lifts by the ONNX exporter, is repaired in its own graph."""

    def __init__(self, path: Path, format: str, options: OpenOptions, program: Program, device: Any = None) -> None:
        self._path, self._format, self._options, self._program = path, format, options, program
        self._device, self._optimise = device, options.optimise
        self._outputs: list[TensorInfo] = []

    @property
    def info(self) -> ModelInfo:
        """The interface as far as it is known; outputs appear with the first run where the file does not tell them."""
        import torch

        outputs = self._outputs or [TensorInfo(name=n, dtype="float32") for n in self._program.output_names()]
        details = {"torch": str(torch.__version__), **self._program.details}
        return ModelInfo(
            path=str(self._path), format=self._format, inputs=self._program.inputs, outputs=outputs, details=details
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises RuntimeCrash with PyTorch's message and the layer where it is known."""
        import torch

        args = self._arguments(feeds, self._device)
        try:
            with torch.inference_mode(), torch_device.settings(self._optimise):
                made = self._program.outputs(args)
        except Exception as error:  # the runtime may raise anything; each is a result about this model
            shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in feeds.items())
            raise RuntimeCrash(f"{self._path}: PyTorch cannot run it on {shapes}: {_reason(error)}") from error
        arrays = {n: _array(v) for n, v in made.items()}
        if not self._outputs:
            self._outputs = [
                TensorInfo(name=n, dtype=str(v.dtype), shape=[None, *v.shape[1:]] if v.ndim else [])
                for n, v in arrays.items()
            ]
        return arrays

    @contextlib.contextmanager
    def differently(self) -> Iterator[None]:
        """While it is entered, `run` uses one thread and, unless a level was asked for, is not optimised."""
        import torch

        threads, usual = torch.get_num_threads(), self._optimise
        torch.set_num_threads(1)
        self._optimise = usual if self._options.level else False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            self._optimise = usual

    def _arguments(self, feeds: Mapping[str, Array], device: Any = None) -> list[Any]:
        import torch

        names = [i.name for i in self._program.inputs]
        missing = [n for n in names if n not in feeds]
        if missing:
            raise RuntimeCrash(f"{self._path}: input {missing[0]!r} is not fed; the model takes {', '.join(names)}")
        given = [torch.from_numpy(_writable(feeds[n])) for n in names]
        return given if device is None or device.type == "cpu" else [t.to(device) for t in given]

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view with native tensor names. Raises LiftError where no exporter can make one."""
        return self._lifted(lift, folder, example)

    def relift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view by the newer exporter, which has other gaps. Raises LiftError."""
        return self._lifted(relift, folder, example)

    def _lifted(self, how: Callable[..., Lifted], folder: Path, example: Mapping[str, Array]) -> Lifted:
        try:
            return how(self._on_cpu(), Path(folder), self._arguments(example), dict(example))
        except LiftError:
            raise
        except Exception as error:  # exporters raise anything
            raise LiftError(f"{self._path}: no ONNX view: {_reason(error)}") from error

    def tap(self, feeds: Mapping[str, Array]) -> Taps:
        """What its layers compute. Raises RuntimeCrash with PyTorch's message."""
        return self.tap_forced(feeds, {})

    def tap_forced(self, feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
        """The same with some tensors, by their names in the taps, replaced by other values."""
        from fetafix.formats.torch import taps as torch_taps

        program = self._on_cpu()
        try:
            return torch_taps.tap(program, self._arguments(feeds), dict(feeds), forced)
        except Exception as error:  # as in run
            raise RuntimeCrash(f"{self._path}: PyTorch cannot run it layer by layer: {_reason(error)}") from error

    def _on_cpu(self) -> Program:
        """The program as exporters want it."""
        away = self._device is not None and self._device.type != "cpu"
        return load(self._path, self._format, self._options) if away else self._program

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply the edits natively to a fresh copy and write it to `out`; the artifact in memory stays as it was."""
        out = Path(out)
        options = replace(self._options, threads=0, device="cpu")
        with staging(out) as folder:
            temporary = folder / out.name
            unsupported = torch_repair.repair(
                lambda path: load(path, self._format, options), self._path, edits, Path(lifted), temporary
            )
            os.replace(temporary, out)
        return Written(out, unsupported)


def _writable(array: Array) -> Array:
    """PyTorch shares memory with arrays that are writable and have positive strides; others are copied."""
    shareable = array.flags.writeable and all(s >= 0 for s in array.strides)
    return array if shareable else np.array(array)


def _array(value: Any) -> Array:
    import torch

    tensor = value.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # type: ignore[no-any-return]


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {plain[:400]}"
