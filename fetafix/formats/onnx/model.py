"""ONNX files, run by ONNX Runtime: on the CPU unless another provider is asked for.

A session is made from the path, never from bytes, so that models beyond 2 GB and weights in files of their own work. A
plain run imports onnxruntime and numpy only; the `onnx` package is loaded when edits are written. Outputs that are no
numeric tensors are handled as far as they can be compared: a sequence of maps (scikit-learn's ZipMap) becomes a matrix
with one column a key; sequences, optionals and strings are left out and named in the details.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fetafix.errors import RuntimeCrash, UnreadableModel, UsageError
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.formats.feeds import check_names
from fetafix.formats.onnx import cast as onnx_cast
from fetafix.formats.onnx import errors as onnx_errors
from fetafix.formats.onnx import provider as onnx_provider
from fetafix.formats.onnx.scan import ExternalTensor, Facts, scan
from fetafix.formats.onnx.vocabulary import vocabularies
from fetafix.ir import Array
from fetafix.report import ModelInfo, TensorInfo

if TYPE_CHECKING:  # edits are needed to write a model, not to run one
    from fetafix.edits import Edit

FORMAT = "onnx"
_DTYPES = {"float": "float32", "double": "float64"}
_MAP = "seq(map("
_LARGE = 1 << 29


def recognise(path: Path) -> str | None:
    """"onnx" where the file's protobuf tags are those of an ONNX model. Raises UnreadableModel on a broken one."""
    return None if path.is_dir() or scan(path, deep=False) is None else FORMAT


def prepare(path: Path) -> None:
    """Import the runtime ahead of need."""
    import onnxruntime  # noqa: F401


def open(path: Path, format: str, options: OpenOptions) -> OnnxModel:
    """The model in a session. Raises UnreadableModel where weights are missing, RuntimeCrash where it does not load."""
    facts = scan(path)
    if facts is None:
        raise UnreadableModel(f"{path}: this is no ONNX file")
    if options.signature:
        raise UsageError(f"{path}: an ONNX file has no signatures; found signature {options.signature!r} asked for")
    _check_external(path, facts.external)
    return OnnxModel(path, facts, options)


class OnnxModel:
    """An ONNX file in an ONNX Runtime session."""

    preferred_batch_bytes = 1 << 21

    def __init__(self, path: Path, facts: Facts, options: OpenOptions) -> None:
        self._path, self._options = path, options
        self._files = [path, *(path.parent / name for name in {e.location for e in facts.external})]
        self._session = make_session(path, options, facts)
        self._inputs = {i.name: tensor_dtype(i.type) for i in self._session.get_inputs()}
        self._outputs = {o.name: o.type for o in self._session.get_outputs()}
        refused = [f"{i.name} ({i.type})" for i in self._session.get_inputs() if tensor_dtype(i.type) is None]
        if refused:
            raise UnreadableModel(f"{path}: expected inputs that are tensors, found {', '.join(refused)}")
        self._left_out = {n: t for n, t in self._outputs.items() if not _comparable(t)}
        if len(self._left_out) == len(self._outputs):
            kinds = ", ".join(f"{n} ({t})" for n, t in self._left_out.items())
            raise UnreadableModel(f"{path}: expected an output that is a numeric tensor, found {kinds or 'no output'}")
        self._fetch = [n for n in self._outputs if n not in self._left_out]
        self._raw = onnx_cast.BFLOAT16 in self._inputs.values() or "tensor(bfloat16)" in self._outputs.values()
        self._info = self._describe(facts)

    @property
    def info(self) -> ModelInfo:
        """Interface, and in `details`: opset, opsets, ir_version, producer, nodes, dtypes, quantised, runtime."""
        return self._info

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All comparable outputs by name; bfloat16 comes back as float32.

        Raises InputDataError where the feeds do not suit the interface, RuntimeCrash where the runtime fails.
        """
        check_names(self._path, self._inputs, feeds)
        ready = {k: onnx_cast.fit(k, v, str(self._inputs[k])) for k, v in feeds.items()}
        try:
            values = self._run_raw(ready) if self._raw else self._session.run(self._fetch, ready)
        except Exception as error:  # onnxruntime has a class a status code, all directly below Exception
            raise RuntimeCrash(onnx_errors.explain_run(self._path, error)) from error
        return {n: _plain(v) for n, v in zip(self._fetch, values, strict=True)}

    @contextlib.contextmanager
    def differently(self) -> Iterator[None]:
        """While it is entered, `run` uses one thread and, unless a level was asked for, does not optimise the graph.

        Models that are large in memory stay as they are, for this opens them a second time.
        """
        if sum(f.stat().st_size for f in self._files) > _LARGE:
            yield
            return
        usual, self._session = self._session, make_session(self._path, self._otherwise())
        try:
            yield
        finally:
            self._session = usual

    def _otherwise(self) -> OpenOptions:
        asked = bool(self._options.level)
        return replace(self._options, threads=1, optimise=self._options.optimise if asked else False)

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """The file itself."""
        return Lifted(self._path)

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply the edits and write `out` (and `out`.data for weights that were in files of their own).

        What the edits do not touch stays as it was. Raises EditError where an edit does not fit or the result is not
        valid, OutputError where `out` cannot be written.
        """
        from fetafix.formats.onnx.write import write

        write(self._path, edits, out)
        return Written(out)

    def tap(self, feeds: Mapping[str, Array]) -> Taps:
        """Every tensor that a node makes, in a session that does not optimise. Raises LiftError."""
        return self.tap_forced(feeds, {})

    def tap_forced(self, feeds: Mapping[str, Array], forced: Mapping[str, Array]) -> Taps:
        """The same with some tensors replaced by other values."""
        from fetafix.formats.onnx.taps import tap

        ready = {k: onnx_cast.fit(k, v, str(self._inputs[k])) for k, v in feeds.items()}
        return tap(self._path, self._options, ready, forced)

    def _run_raw(self, feeds: Mapping[str, Array]) -> list[Any]:
        """With bfloat16 in the interface, for which only OrtValues serve."""
        import onnxruntime as ort

        values = {}
        for name, array in feeds.items():
            if self._inputs[name] == onnx_cast.BFLOAT16:
                values[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, 16)
            else:
                values[name] = ort.OrtValue.ortvalue_from_numpy(array)
        return [_from_ort(v) for v in self._session.run_with_ort_values(self._fetch, values)]

    def _describe(self, facts: Facts) -> ModelInfo:
        import onnxruntime as ort

        details: dict[str, Any] = {
            "opset": facts.opsets.get("", 0),
            "opsets": dict(facts.opsets),
            "ir_version": facts.ir_version,
            "producer": facts.producer,
            "domains": sorted({d or "ai.onnx" for d, _ in facts.ops}),
            "nodes": facts.nodes,
            "dtypes": dict(facts.dtypes),
            "quantised": facts.quantised,
            "runtime": f"onnxruntime {ort.__version__}",
        }
        if self._session.get_providers() != [onnx_provider.CPU]:
            details["providers"] = self._session.get_providers()
        if facts.external:
            details["external_data"] = sorted({e.location for e in facts.external})
        if self._left_out:
            details["left_out"] = {n: f"{t} is no numeric tensor" for n, t in self._left_out.items()}
        tensors = [_tensor_info(a, facts) for a in self._session.get_inputs()]
        ids = vocabularies(self._path, [t.name for t in tensors if t.dtype.startswith(("int", "uint"))])
        if ids:
            details["vocabulary"] = ids
        outputs = [_tensor_info(a, facts) for a in self._session.get_outputs() if a.name in self._fetch]
        return ModelInfo(path=str(self._path), format=FORMAT, inputs=tensors, outputs=outputs, details=details)


def make_session(path: Path, options: OpenOptions, facts: Facts | None = None) -> Any:
    """An InferenceSession on the device or provider asked for.

    Raises UsageError where that is not there, RuntimeCrash that names operator or opset where the runtime refuses.
    """
    import onnxruntime as ort

    providers = onnx_provider.choose(path, options)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    settings.graph_optimization_level = _level(options)
    try:
        session = ort.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # as in run
        kind, message = onnx_errors.explain_open(path, error, facts)
        raise kind(message) from error
    onnx_provider.check(path, session, providers)
    return session


def _level(options: OpenOptions) -> Any:
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    known = {"basic": levels.ORT_ENABLE_BASIC, "extended": levels.ORT_ENABLE_EXTENDED}
    return known.get(options.level, levels.ORT_ENABLE_ALL) if options.optimise else levels.ORT_DISABLE_ALL


def tensor_dtype(kind: str) -> str | None:
    """"float32" of "tensor(float)"; None for anything but a tensor."""
    if not (kind.startswith("tensor(") and kind.endswith(")")):
        return None
    inner = kind[7:-1]
    return _DTYPES.get(inner, inner)


def _comparable(kind: str) -> bool:
    dtype = tensor_dtype(kind)
    return kind.startswith(_MAP) or (dtype is not None and dtype != "string" and not dtype.startswith("float8"))


def _tensor_info(arg: Any, facts: Facts) -> TensorInfo:
    if arg.type.startswith(_MAP):
        return TensorInfo(name=arg.name, dtype="float32", shape=[None, None])
    known = arg.name not in facts.unshaped
    shape = [d if isinstance(d, int) and d >= 0 else _symbol(d) for d in arg.shape] if known else None
    return TensorInfo(name=arg.name, dtype=str(tensor_dtype(arg.type)), shape=shape)


def _symbol(dim: Any) -> str | None:
    return dim if isinstance(dim, str) and dim and not dim.startswith("unk__") else None


def _plain(value: Any) -> Array:
    """A sequence of maps as a matrix: a row a sample, a column a key, keys in ascending order."""
    if isinstance(value, list):
        keys = sorted(value[0]) if value else []
        return np.array([[row[k] for k in keys] for row in value], np.float32)
    return np.asarray(value)


def _from_ort(value: Any) -> Any:
    if not value.is_tensor() or value.data_type() != "tensor(bfloat16)":
        return value.numpy() if value.is_tensor() else value
    shape = tuple(value.shape())
    count = int(np.prod(shape))
    bits = np.zeros(count, np.uint16)
    if count:
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return onnx_cast.from_bfloat16(bits).reshape(shape)


def _check_external(path: Path, tensors: Sequence[ExternalTensor]) -> None:
    """Every file of weights must be there, beside the model, and long enough."""
    for location in sorted({t.location for t in tensors}):
        parts = [t for t in tensors if t.location == location]
        file = path.parent / location
        what = f"tensor {parts[0].tensor!r}" + (f" and {len(parts) - 1} others" if parts[1:] else "")
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise UnreadableModel(f"{path}: {what} has its data in {location!r}, expected it in the model's folder")
        if not file.is_file():
            raise UnreadableModel(
                f"{path}: expected the data of {what} in {file}, but there is no such file; put it beside the model"
            )
        need = max(t.offset + (t.length or 0) for t in parts)
        if file.stat().st_size < need:
            raise UnreadableModel(
                f"{file}: the file ends after {file.stat().st_size:,} bytes, but {path.name} expects {need:,}; "
                "copy or download it again"
            )
