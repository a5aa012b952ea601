"""TensorFlow Lite files, run by LiteRT (ai-edge-litert) without TensorFlow.

The interface is in real numbers: an input or output that holds integer codes of real numbers is declared float32, fed
numbers are quantised and fetched ones dequantised here; the codes' scale and zero point stand in the details. A batch
is only taken where the file says that its leading dimension may vary. What a model keeps between two runs is reset
before each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fetafix.errors import RuntimeCrash, UsageError
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.formats.feeds import check_names
from fetafix.formats.tflite import codes as tflite_codes
from fetafix.formats.tflite import file as tflite_file
from fetafix.formats.tflite import ports as tflite_ports
from fetafix.formats.tflite import runtime as tflite_runtime
from fetafix.formats.tflite.records import TfliteFile
from fetafix.ir import Array
from fetafix.report import ModelInfo, TensorInfo

if TYPE_CHECKING:  # edits are needed to write a model, not to run one
    from fetafix.edits import Edit

FORMAT = "tflite"
_KERNELS = "float32"
_QUICKLY_READ = 1 << 26


def recognise(path: Path) -> str | None:
    """"tflite" where the file carries TFLite's identifier."""
    return FORMAT if not path.is_dir() and tflite_file.is_tflite(path) else None


def prepare(path: Path) -> None:
    """Import the runtime ahead of need, unless the file may want TensorFlow's instead; of a large one that is open."""
    if path.stat().st_size <= _QUICKLY_READ and b"Flex" not in path.read_bytes():
        from ai_edge_litert import interpreter  # noqa: F401


def open(path: Path, format: str, options: OpenOptions) -> TfliteModel:
    """The model in an interpreter.

    Raises UnreadableModel where the file is damaged, UsageError on an unknown signature, device or delegate,
    UntrustedModel where TensorFlow's operators in it do more than compute, RuntimeCrash with the operator that the
    runtime lacks.
    """
    if options.device != "cpu":
        raise UsageError(
            f"{path}: LiteRT runs on the cpu here, not on {options.device!r}; other hardware is reached by the library "
            "of a delegate, given with --provider"
        )
    file = tflite_file.read(path)
    file.check_constants()
    if tflite_runtime.flex_operators(file):
        tflite_runtime.examine(file, options.trust)
    return TfliteModel(file, options)


class TfliteModel:
    """A TFLite file in a LiteRT interpreter."""

    preferred_batch_bytes = 1 << 21

    def __init__(self, file: TfliteFile, options: OpenOptions) -> None:
        self.file, self._options = file, options
        self._ports = tflite_ports.ports(file, options.signature)
        self._settings = tflite_runtime.Settings.of(options)
        self._runner = tflite_runtime.Runner(file, self._ports, self._settings)
        self._info = self._describe()

    @property
    def info(self) -> ModelInfo:
        """Interface, and in `details`: runtime, operators, dtypes, quantised, quantised_inputs and _outputs, …"""
        return self._info

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, in real numbers.

        Raises InputDataError where the feeds do not suit the interface, RuntimeCrash where the runtime fails.
        """
        check_names(self.file.path, [p.name for p in self._ports.inputs], feeds)
        return self._runner(feeds)

    @contextlib.contextmanager
    def differently(self) -> Iterator[None]:
        """While it is entered, `run` uses one thread and the plain kernels instead of XNNPACK's.

        With one thread only where somebody asked for these kernels, or a custom operator has none but XNNPACK's.
        """
        usual = self._runner
        plain = replace(self._settings, threads=1, optimise=self._settings.optimise and bool(self._options.level))
        try:
            self._runner = tflite_runtime.Runner(self.file, self._ports, plain)
        except RuntimeCrash:
            self._runner = tflite_runtime.Runner(self.file, self._ports, replace(plain, optimise=True))
        try:
            yield
        finally:
            self._runner = usual

    def tap(self, feeds: Mapping[str, Array]) -> Taps:
        """What every operator computes in LiteRT. Raises LiftError where looking at it would change the outputs."""
        from fetafix.formats.tflite.taps import tap

        return tap(self.file, self._ports, self._settings, feeds)

    def tap_forced(self, feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
        """The same with some tensors, by their names in the taps, replaced by other values. Raises LiftError."""
        from fetafix.formats.tflite.taps import tap_forced

        return tap_forced(self.file, self._ports, self._settings, feeds, forced)

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view with the float interface. Raises LiftError where the converter cannot make one."""
        from fetafix.formats.tflite.lift import lift

        return lift(self.file, self._ports, Path(folder), example)

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply the edits to a copy of the flatbuffer. Raises OutputError where `out` cannot be written."""
        from fetafix.formats.tflite.write import write

        return write(self.file.path, edits, Path(out), Path(lifted), self._options)

    def _describe(self) -> ModelInfo:
        file, ports = self.file, self._ports
        details: dict[str, Any] = {
            "runtime": tflite_runtime.name(file, self._settings),
            "operators": dict(sorted(file.operators.items())),
            "nodes": len(ports.graph.operators),
            "dtypes": dict(sorted(file.dtypes.items())),
            "arithmetic": _KERNELS,
            "quantised": file.quantised,
            "quantised_inputs": _quantised(ports.inputs),
            "quantised_outputs": _quantised(ports.outputs),
            "signatures": {s.key: {"inputs": [*s.inputs], "outputs": [*s.outputs]} for s in file.signatures},
            "subgraphs": len(file.subgraphs),
            "description": file.description,
            "metadata": sorted(file.metadata),
            "custom": list(file.custom),
            "stateful": self._runner.stateful,
        }
        return ModelInfo(
            path=str(file.path), format=FORMAT, inputs=[p.info() for p in ports.inputs],
            outputs=self._outputs(), details=details,
        )  # fmt: skip

    def _outputs(self) -> list[TensorInfo]:
        """With the shapes that the interpreter found; dimensions are open where an input's are."""
        dynamic = any(-1 in p.tensor.signature for p in self._ports.inputs)
        return [p.info(self._shape(p, dynamic)) for p in self._ports.outputs]

    def _shape(self, port: tflite_ports.Port, dynamic: bool) -> list[int | str | None]:
        if -1 in port.tensor.signature:
            return port.shape
        inner = self._runner.interpreter._interpreter
        sizes = [int(d) for d in inner.TensorSize(port.tensor.index, self._ports.graph.index)]
        return ["batch", *sizes[1:]] if dynamic and sizes else [*sizes]


def _quantised(ports: Sequence[tflite_ports.Port]) -> dict[str, Any]:
    return {p.name: tflite_codes.facts(p.tensor, p.quantisation) for p in ports if p.quantisation is not None}
