"""The Keras format family: `.keras` archives and HDF5 files of Keras 2 and 3.

`recognise` tells them apart by content; `open` loads one without running code from it (unless trusted) on the
TensorFlow backend. How a file is read stands in keras_open and keras_legacy, the ONNX view in keras_lift, the repair in
keras_repair.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.errors import LiftError, RuntimeCrash, UnreadableModel
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.formats.feeds import check_names
from fetafix.formats.keras.interface import Port, ports
from fetafix.formats.keras.recognise import KERAS, KERAS_H5, recognise
from fetafix.formats.staging import staging
from fetafix.formats.tensorflow import env as tf_env
from fetafix.ir import Array
from fetafix.report import ModelInfo, TensorInfo

__all__ = ["FORMATS", "KerasModel", "open", "recognise"]

FORMATS = (KERAS, KERAS_H5)


def open(path: Path, format: str, options: OpenOptions) -> KerasModel:
    """A Keras model on the TensorFlow backend.

    Raises UnreadableModel or UntrustedModel with what was found, UsageError for a wrong --arch or device.
    """
    from fetafix.formats.keras.open import check, load

    check(Path(path), format, options)  # what is refused is refused before TensorFlow loads
    tf_env.prepare(options.threads, options.device)
    model, details = load(Path(path), format, options)
    return KerasModel(Path(path), format, options, model, details)


class KerasModel:
    """A Keras model: runs in Keras, lifts by tf2onnx, is repaired in its own layers."""

    preferred_batch_bytes = 1 << 22

    def __init__(self, path: Path, format: str, options: OpenOptions, model: Any, details: dict[str, Any]) -> None:
        self._path, self._format, self._options, self._model = path, format, options, model
        try:
            self._inputs, self._outputs = ports(model)
        except ValueError as error:
            raise UnreadableModel(f"{path}: {error}") from error
        self._details = {**_facts(model), **details}
        self._function: Any = None
        self._eager = False

    @property
    def info(self) -> ModelInfo:
        """Interface, and in `details`: keras, tensorflow, backend, layers, parameters, dtypes, written_by, training."""
        inputs, outputs = ([_tensor(p) for p in side] for side in (self._inputs, self._outputs))
        return ModelInfo(
            path=str(self._path), format=self._format, inputs=inputs, outputs=outputs, details=self._details
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises RuntimeCrash with TensorFlow's message, InputDataError for wrong names."""
        arguments = self._arguments(feeds)
        self._reset()
        try:
            made = self._call(arguments)
        except Exception as error:  # the runtime may raise anything; each is a result about this model
            shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in feeds.items())
            raise RuntimeCrash(f"{self._path}: Keras cannot run it on {shapes}: {_reason(error)}") from error
        return {p.name: _array(v) for p, v in zip(self._outputs, made, strict=True)}

    @contextlib.contextmanager
    def differently(self) -> Iterator[None]:
        """While it is entered, `run` goes layer by layer, without TensorFlow's graph and its optimisations."""
        usual, self._eager = self._eager, True
        try:
            yield
        finally:
            self._eager = usual

    def tap(self, feeds: Mapping[str, Array]) -> Taps:
        """What every layer makes of the feeds. Raises LiftError where the model is no graph of layers."""
        from fetafix.formats.keras.tap import tap

        self._reset()
        return tap(self._model, self._inputs, self._outputs, self._arguments(feeds))

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view with the layers' names, batch size free. Raises LiftError where tf2onnx cannot make one."""
        from fetafix.formats.keras.lift import lift

        self._reset()
        try:
            return lift(self._model, self._inputs, self._outputs, self._arguments(example), Path(folder))
        except LiftError:
            raise
        except Exception as error:  # converters raise anything
            raise LiftError(f"{self._path}: no ONNX view: {_reason(error)}") from error

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply the edits natively to a copy and write it to `out`; the artifact in memory stays as it was."""
        from fetafix.formats.keras.repair import repair

        out = Path(out)
        with staging(out) as folder:
            temporary = folder / out.name  # Keras goes by the suffix
            unsupported = repair(self._path, self._format, self._options, edits, Path(lifted), temporary)
            os.replace(temporary, out)
        return Written(out, unsupported)

    def _arguments(self, feeds: Mapping[str, Array]) -> list[Array]:
        check_names(self._path, [p.name for p in self._inputs], feeds)
        return [np.asarray(feeds[p.name], p.dtype) for p in self._inputs]

    def _call(self, arguments: Sequence[Array]) -> list[Any]:
        import tensorflow as tf
        from keras import tree

        with tf.device(tf_env.scope(self._options.device)):
            tensors = [tf.convert_to_tensor(a) for a in arguments]
            if self._eager:
                return list(tree.flatten(self._model(self._packed(tensors), training=False)))
            if self._function is None:
                self._function = self._compiled(tf)
            return list(self._function(*tensors))

    def _compiled(self, tf: Any) -> Any:
        """One graph for every batch size: shapes are those that the model declares."""
        from keras import tree

        def call(*tensors: Any) -> list[Any]:
            return list(tree.flatten(self._model(self._packed(list(tensors)), training=False)))

        signature = [tf.TensorSpec(p.shape, p.dtype, name=f"input_{i}") for i, p in enumerate(self._inputs)]
        return tf.function(call, input_signature=signature, autograph=False)

    def _packed(self, tensors: list[Any]) -> Any:
        from keras import tree

        structure = getattr(self._model, "_inputs_struct", None)
        if structure is not None:
            return tree.pack_sequence_as(structure, tensors)
        return tensors[0] if len(tensors) == 1 else tensors

    def _reset(self) -> None:
        """Recurrent layers that keep their state between batches begin anew: a sample's answer is its own."""
        for layer in self._model._flatten_layers():
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()


def _facts(model: Any) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    dtypes: dict[str, int] = {}
    for weight in model.weights:
        dtypes[str(weight.dtype)] = dtypes.get(str(weight.dtype), 0) + 1
    policies = sorted({str(layer.dtype_policy.name) for layer in model._flatten_layers()})
    return {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "backend": keras.backend.backend(),
        "layers": sum(1 for _ in model._flatten_layers(include_self=False)),
        "parameters": int(model.count_params()),
        "dtypes": dtypes,
        "quantised": any("int8" in p or "int4" in p for p in policies),
        **({"policies": policies} if policies != ["float32"] else {}),
    }


def _tensor(port: Port) -> TensorInfo:
    return TensorInfo(name=port.name, dtype=port.dtype, shape=list(port.shape))


def _array(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:400]}"
