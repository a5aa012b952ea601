"""The TensorFlow format family: SavedModel folders and frozen GraphDefs, run by TensorFlow.

How each container is read stands in its own module; both give a `Program`, which is run, lifted and repaired alike.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.errors import RuntimeCrash, UnreadableModel
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.formats.feeds import check_names
from fetafix.formats.onnx.cast import fit
from fetafix.formats.tensorflow import env as tf_env
from fetafix.formats.tensorflow import recognise as tf_recognise
from fetafix.formats.tensorflow.program import Program
from fetafix.formats.tensorflow.session import Running, config
from fetafix.ir import Array
from fetafix.report import ModelInfo, TensorInfo

__all__ = ["TensorFlowModel", "open", "recognise"]

recognise = tf_recognise.recognise

_HEADING = "Graph execution error:"


def open(path: Path, format: str, options: OpenOptions) -> TensorFlowModel:
    """The model in a session. Raises UnreadableModel, UntrustedModel or RuntimeCrash with what was found."""
    tf_env.prepare(options.threads, options.device)
    return TensorFlowModel(Path(path), format, options, load(Path(path), format, options))


def load(path: Path, format: str, options: OpenOptions) -> Program:
    """The program of a file or folder of the given format."""
    if format == tf_recognise.SAVED_MODEL:
        from fetafix.formats.tensorflow.saved_model import open_saved_model

        return open_saved_model(path, options)
    from fetafix.formats.tensorflow.frozen import open_graph

    return open_graph(path, options)


class TensorFlowModel:
    """A TensorFlow graph: runs in a session, lifts by tf2onnx, is repaired in its own nodes and variables."""

    def __init__(self, path: Path, format: str, options: OpenOptions, program: Program) -> None:
        self._path, self._format, self._options, self._program = path, format, options, program
        self._running, self._ports = self._start(options.optimise)
        self._inputs = {n: _declared(self._running.tensor(t)) for n, t in self._ports.inputs.items()}
        self._outputs = {n: _declared(self._running.tensor(t)) for n, t in self._ports.outputs.items()}
        self._left_out = {n: d[0] for n, d in self._outputs.items() if d[0] not in _NUMERIC}
        refused = [f"{n} ({d[0]})" for n, d in self._inputs.items() if d[0] not in _NUMERIC]
        if refused:
            raise UnreadableModel(f"{path}: expected inputs that are numeric tensors, found {', '.join(refused)}")
        if len(self._left_out) == len(self._outputs):
            found = ", ".join(f"{n} ({d})" for n, d in self._left_out.items())
            raise UnreadableModel(f"{path}: expected an output that is a numeric tensor, found {found or 'none'}")
        self._info = self._describe()

    @property
    def info(self) -> ModelInfo:
        """Interface, and in `details`: runtime, saved_by, signature, signatures, ops, variables, dtypes."""
        return self._info

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All comparable outputs by name; bfloat16 comes back as float32.

        Raises InputDataError where the feeds do not suit the interface, RuntimeCrash where TensorFlow fails.
        """
        names = [n for n in self._outputs if n not in self._left_out]
        made = self._run(self._running, self._fed(feeds), [self._ports.outputs[n] for n in names])
        return dict(zip(names, made, strict=True))

    @contextlib.contextmanager
    def differently(self) -> Iterator[None]:
        """While it is entered, `run` uses a graph that grappler has not touched, one operator at a time."""
        usual = self._running, self._ports
        self._running, self._ports = self._start(False, threads=1)
        try:
            yield
        finally:
            self._running.close()
            self._running, self._ports = usual

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view with TensorFlow's tensor names. Raises LiftError where tf2onnx does not know an operator."""
        from fetafix.formats.tensorflow.view import lift

        return lift(self._program, self._options, Path(folder), {k: np.asarray(v) for k, v in example.items()})

    def tap(self, feeds: Mapping[str, Array]) -> Taps:
        """What each operator computed, in TensorFlow."""
        from fetafix.formats.tensorflow.tap import tap

        self._fed(feeds)
        return tap(self._program, self._options, feeds)

    def tap_forced(self, feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
        """As `tap`, with some values, by their names in the taps, in place of what the model computes."""
        from fetafix.formats.tensorflow.tap import tap

        return tap(self._program, self._options, feeds, forced)

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply the edits to a copy of the file or folder, in the graph's nodes and the variables' values."""
        from fetafix.formats.tensorflow.write import write

        return write(self._path, self._format, self._options, edits, Path(out), Path(lifted))

    def close(self) -> None:
        """Give the session's memory back."""
        self._running.close()

    def _start(self, optimise: bool, threads: int = 0) -> tuple[Running, Program]:
        """The model in a session. Functions are optimised whatever a session says: unoptimised, they are inlined."""
        from fetafix.formats.tensorflow.tap import frozen

        options = config(threads or self._options.threads, optimise)
        program = self._program
        try:
            if not optimise and not program.prepares:
                flat = program.flat
                program = Program(frozen(program), flat.inputs, flat.outputs)
            return Running(program.running, program, self._options.device, options), program
        except Exception as error:  # whatever TensorFlow raises, it is a result about this model
            raise _refusal(self._path, error) from error

    def _fed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Tensor → array in its dtype."""
        check_names(self._path, self._inputs, feeds)
        fed = {}
        for name, (dtype, _) in self._inputs.items():
            array = fit(name, feeds[name], "float32" if dtype == "bfloat16" else dtype)
            fed[self._ports.inputs[name]] = array.astype(_bfloat16()) if dtype == "bfloat16" else array
        return fed

    def _run(self, running: Running, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        try:
            made = running.run(feeds, fetches)
        except Exception as error:  # whatever TensorFlow raises, it is a result about this model
            shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in feeds.items())
            raise RuntimeCrash(f"{self._path}: TensorFlow cannot run it on {shapes}: {_reason(error)}") from error
        return [a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in map(np.asarray, made)]

    def _describe(self) -> ModelInfo:
        import tensorflow as tf

        flat = self._program.flat.graph_def
        ops = Counter(n.op for n in flat.node)
        dtypes = Counter(_dtype(n.attr["dtype"].type) for n in flat.node if n.op in ("Const", *_VARIABLES))
        details: dict[str, Any] = {
            "runtime": f"tensorflow {tf.__version__}",
            **self._program.details,
            "nodes": len(flat.node),
            "ops": dict(sorted(ops.items())),
            "variables": sum(ops[v] for v in _VARIABLES),
            "dtypes": dict(dtypes),
        }
        if self._left_out:
            details["left_out"] = {n: f"{d} is no numeric tensor" for n, d in self._left_out.items()}
        inputs = [TensorInfo(name=n, dtype=_plain(d), shape=s) for n, (d, s) in self._inputs.items()]
        outputs = [TensorInfo(name=n, dtype=_plain(d), shape=s) for n, (d, s) in self._outputs.items()
                   if n not in self._left_out]
        return ModelInfo(path=str(self._path), format=self._format, inputs=inputs, outputs=outputs, details=details)


_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_NUMERIC = {"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
            "uint64", "bool"}


def _declared(tensor: Any) -> tuple[str, list[int | str | None] | None]:
    shape = tensor.shape
    return tensor.dtype.base_dtype.name, None if shape.rank is None else [*shape.as_list()]


def _plain(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def _dtype(number: int) -> str:
    import tensorflow as tf

    return str(tf.as_dtype(number).name)


def _bfloat16() -> Any:
    import tensorflow as tf

    return tf.bfloat16.as_numpy_dtype


def _refusal(path: Path, error: Exception) -> Exception:
    """UnreadableModel where the file is at fault, RuntimeCrash where the runtime is."""
    reason = _reason(error)
    kind = type(error).__name__
    if kind in ("NotFoundError", "DataLossError", "OutOfRangeError", "InvalidArgumentError", "FailedPreconditionError"):
        if "Op type not registered" in str(error):
            return UnreadableModel(f"{path}: {reason}")
        return UnreadableModel(f"{path}: its variables cannot be restored or its tables initialised: {reason}; copy or "
                               "download the whole folder again")
    if kind == "ValueError":
        return UnreadableModel(f"{path}: TensorFlow does not accept its graph: {reason}")
    return RuntimeCrash(f"{path}: TensorFlow cannot open it: {reason}")


def _reason(error: BaseException) -> str:
    """TensorFlow's message without the part that lists where each node was defined."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(_HEADING)]
    return f"{type(error).__name__}: {lines[0][:400] if lines else ''}"
