"""The LiteRT interpreter: made once, resized only when shapes change, its complaints put into words.

Models with Flex operators, which are TensorFlow's own, run in full TensorFlow's interpreter, where that has the
delegate for them (the wheels of 2.20 and later do not, LiteRT#6458); nothing else loads TensorFlow here.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from fetafix.errors import RuntimeCrash, UnreadableModel, UntrustedModel, UsageError
from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx import cast as onnx_cast
from fetafix.formats.tflite import codes as tflite_codes
from fetafix.formats.tflite.ports import Port, Ports
from fetafix.formats.tflite.records import TfliteFile
from fetafix.ir import Array

VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_UNRESOLVED = re.compile(r"unresolved custom op: ([^.\n]+)")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the interpreter is made. threads 0: its own choice. optimise: with XNNPACK. keep: all activations."""

    threads: int = 0
    optimise: bool = True
    delegate: str = ""
    keep: bool = False

    @classmethod
    def of(cls, options: OpenOptions) -> Settings:
        """Those that a user's options ask for."""
        return cls(options.threads, options.optimise, options.provider)


def module(file: TfliteFile, settings: Settings) -> Any:
    """The module with the Interpreter that serves a file. Raises UnreadableModel where what it needs is missing."""
    flex = flex_operators(file)
    if not flex or settings.delegate:
        from ai_edge_litert import interpreter

        return interpreter
    if importlib.util.find_spec("tensorflow") is None:
        raise UnreadableModel(
            f"{file.path}: it holds operators of TensorFlow itself ({', '.join(flex)}), so-called Flex operators. Flex "
            "operators need full tensorflow; install it with: pip install 'fetafix[tensorflow]'"
        )
    from fetafix.formats.tensorflow import env as tf_env

    tf_env.prepare(settings.threads)
    from tensorflow.lite.python import interpreter as full

    return full


def flex_operators(file: TfliteFile) -> list[str]:
    """The operators that TFLite only passes on to TensorFlow."""
    return [op for op in file.custom if op.startswith("Flex")]


def examine(file: TfliteFile, trust: bool) -> None:
    """Raise UntrustedModel where Flex operators do more than compute, and the file is not trusted."""
    from fetafix.formats.tensorflow import safety as tf_safety

    found = {op: tf_safety.danger(SimpleNamespace(op=op[4:], attr={})) for op in flex_operators(file)}
    told = [f"{op} {what}" for op, what in found.items() if what]
    if told and not trust:
        raise UntrustedModel(
            f"{file.path}: its Flex operators do more than compute: {', '.join(told)}. If you trust its origin, use "
            "--trust"
        )


def name(file: TfliteFile, settings: Settings) -> str:
    """The runtime and its version, as details tell it."""
    if flex_operators(file) and not settings.delegate:
        import tensorflow as tf

        return f"tensorflow lite {tf.__version__}"
    import ai_edge_litert

    return f"ai-edge-litert {ai_edge_litert.__version__}"


def interpreter(file: TfliteFile, settings: Settings, content: bytes | None = None) -> Any:
    """An interpreter of the file, or of `content` in its place, with its tensors allocated.

    Raises RuntimeCrash with the operator that is unknown, UsageError where the delegate cannot be loaded.
    """
    source = module(file, settings)
    kinds = source.OpResolverType
    resolver = kinds.AUTO if settings.optimise else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    where = {"model_path": str(file.path)} if content is None else {"model_content": content}
    delegates = [_delegate(source, file, settings.delegate)] if settings.delegate else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = source.Interpreter(
                **where, num_threads=settings.threads or None, experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=settings.keep, experimental_delegates=delegates,
            )
            made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise RuntimeCrash(_refusal(file, error, settings)) from error
    return made


def _delegate(source: Any, file: TfliteFile, library: str) -> Any:
    try:
        return source.load_delegate(library)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{file.path}: the delegate {library!r} cannot be loaded: {error}; --provider takes the shared library of "
            "a TFLite delegate"
        ) from error


def _refusal(file: TfliteFile, error: Exception, settings: Settings) -> str:
    flex = flex_operators(file)
    if flex and "Flex delegate" in str(error):
        return (
            f"{file.path}: it holds operators of TensorFlow itself ({', '.join(flex)}), so-called Flex operators, and "
            f"{name(file, settings)} comes without the Flex delegate that runs them; install a tensorflow below 2.20, "
            "give the delegate's library with --provider, or convert without SELECT_TF_OPS"
        )
    unknown = _UNRESOLVED.search(str(error))
    if unknown and not settings.optimise:
        return (
            f"{file.path}: without XNNPACK, LiteRT does not know the custom operator {unknown[1].strip()!r}; open it "
            "with its optimisations"
        )
    if unknown:
        return (
            f"{file.path}: LiteRT does not know the custom operator {unknown[1].strip()!r}; it needs the program that "
            "the model was made for, or a conversion without that operator"
        )
    return f"{file.path}: LiteRT cannot load it: {brief(error)}"


def brief(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__


class Runner:
    """Feeds an interpreter and fetches from it, in real numbers. With `fresh`, nothing is kept between two runs."""

    def __init__(self, file: TfliteFile, ports: Ports, settings: Settings, content: bytes | None = None) -> None:
        self._file, self._ports, self._settings, self._content = file, ports, settings, content
        self._graph = ports.graph.index
        operators = {o.op for g in file.subgraphs for o in g.operators}
        self._remake = bool(operators & set(VARIABLES))
        self._reset = any(t.variable for g in file.subgraphs for t in g.tensors)
        self.interpreter = interpreter(file, settings, content)
        self._used = False
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def stateful(self) -> bool:
        """Whether the model keeps something from one run to the next, unless it is reset, as it is here."""
        return self._remake or self._reset

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by interface name. Raises InputDataError, RuntimeCrash."""
        codes = {p.name: _fit(p, feeds[p.name]) for p in self._ports.inputs}
        try:
            self._forget()
            self._resize(codes)
            self._invoke(codes)
            fetched = {p.name: self._fetch(p) for p in self._ports.outputs}
        except (RuntimeError, ValueError) as error:
            self._shapes = {}
            shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in codes.items())
            raise RuntimeCrash(f"{self._file.path}: LiteRT cannot run it on {shapes}: {brief(error)}") from error
        return fetched

    def tensor(self, index: int) -> Array | None:
        """The last run's values of any tensor, as stored; None where it has none. True ones only if all are kept."""
        try:
            return np.asarray(self.interpreter._interpreter.GetTensor(index, self._graph))
        except ValueError:
            return None

    def _forget(self) -> None:
        if self._used and self._remake:
            self.interpreter = interpreter(self._file, self._settings, self._content)
            self._shapes = {}
        elif self._reset:
            self.interpreter.reset_all_variables()
        self._used = True

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        """Allocate anew where a shape differs from the last run's."""
        shapes = {n: v.shape for n, v in feeds.items()}
        if shapes == self._shapes:
            return
        inner = self.interpreter._interpreter  # the public methods serve the first subgraph only
        for p in self._ports.inputs:
            wanted = np.array(shapes[p.name], np.int32)
            if tuple(inner.TensorSize(p.tensor.index, self._graph)) != shapes[p.name]:
                self._admit(p, shapes[p.name])
                inner.ResizeInputTensor(p.tensor.index, wanted, False, self._graph)
        inner.AllocateTensors(self._graph)
        self._shapes = shapes

    def _admit(self, port: Port, shape: tuple[int, ...]) -> None:
        """Raise where a dimension that the file fixes would change."""
        declared = port.tensor.signature
        fits = len(declared) == len(shape) and all(d in (-1, s) for d, s in zip(declared, shape, strict=True))
        if not fits and declared:
            raise ValueError(f"input {port.name!r} takes {['?' if d < 0 else d for d in declared]}, not {list(shape)}")

    def _invoke(self, codes: Mapping[str, Array]) -> None:
        inner = self.interpreter._interpreter
        for p in self._ports.inputs:
            inner.SetTensor(p.tensor.index, codes[p.name], self._graph)
        inner.Invoke(self._graph)

    def _fetch(self, port: Port) -> Array:
        value = self.interpreter._interpreter.GetTensor(port.tensor.index, self._graph)
        return value if port.quantisation is None else tflite_codes.dequantise(value, port.quantisation)


def _fit(port: Port, array: Array) -> Array:
    if port.quantisation is not None:
        return tflite_codes.quantise(onnx_cast.fit(port.name, array, "float32"), port.quantisation, port.tensor.dtype)
    return onnx_cast.fit(port.name, array, port.tensor.dtype)
