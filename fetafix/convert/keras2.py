"""A functional model as onnx2tf writes it for Keras 2, rebuilt of Keras 3's layers. Runs in child processes alone.

onnx2tf traces TensorFlow's functions, and Keras 2 saves each as a layer `TFOpLambda` with the weights among its call's
arguments; Keras 3 opens no such file. Here every call becomes the layer that computes the same (Conv2D, Dense, …) with
the weights where layers have them, or else an operation of keras.ops, which HDF5 files cannot hold. What TensorFlow
writes for a dilated convolution (SpaceToBatchND, convolution, BatchToSpaceND) becomes one again: with paddings p and
crops c it is the convolution of the input padded by p with dilated kernels, its result cropped by c. A constant that is
added to nothing but a linear layer's result becomes that layer's bias. A function that is not known is an error.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.convert.keras2_calls import Call, Name, biases, call_of, is_reference, references

_BINARY = {"add": "add", "add_v2": "add", "sub": "subtract", "subtract": "subtract", "mul": "multiply",
           "multiply": "multiply", "truediv": "divide", "divide": "divide", "maximum": "maximum", "minimum": "minimum",
           "pow": "power"}
_UNARY = {"exp": "exp", "sqrt": "sqrt", "abs": "absolute", "log": "log", "negative": "negative", "square": "square"}
_ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "sigmoid": "sigmoid", "tanh": "tanh", "silu": "silu", "swish": "silu",
                "elu": "elu", "softplus": "softplus"}
_MERGES = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum"}
_CALLS = ("TFOpLambda", "SlicingOpLambda")
_PASSING = {"cast", "identity", "stop_gradient"}
_DILATED = ("space_to_batch_nd", "batch_to_space_nd")


def rebuild(source: Path, out: Path) -> None:
    """Read a Keras 2 archive and write the same model in Keras 3's format, as `out`'s suffix says.

    Raises ValueError that names the function or layer that has no counterpart here.
    """
    import keras

    with zipfile.ZipFile(source) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    calls = [call_of(layer) for layer in config["layers"]]
    builder = _Builder(keras, biases(calls))
    for call in calls:
        builder.add(call)
    ends = [[builder.values[name] for name, *_ in references(config[k])] for k in ("input_layers", "output_layers")]
    keras.Model(*(e[0] if len(e) == 1 else e for e in ends), name="model").save(out)


class _Builder:
    """Adds layer after layer. values: layer name → its output."""

    def __init__(self, keras: Any, biases: Mapping[str, tuple[str, Any]]) -> None:
        self.keras, self.ops, self.layers = keras, keras.ops, keras.layers
        self._added, self._biases = set(biases), dict(biases.values())
        self.values: dict[str, Any] = {}
        self._blocks: dict[str, tuple[Any, Any]] = {}  # SpaceToBatchND, then its convolution, waiting for the end

    def add(self, call: Call) -> None:
        """The next call, whose arguments are there."""
        if call.kind == "InputLayer":
            shape = call.config.get("batch_input_shape") or call.config["batch_shape"]
            dtype = call.config.get("dtype", "float32")
            self.values[call.name] = self.keras.Input(batch_shape=tuple(shape), dtype=dtype, name=call.name)
            return
        if call.name in self._added:
            self.values[call.name] = self.values[call.first[0]]
            return
        if call.function in _DILATED or (call.first and str(call.first[0]) in self._blocks):
            self._dilated(call)
            return
        args = [self._value(a) for a in call.first]
        kwargs = {k: self._value(v) for k, v in call.kwargs.items()} | {"bias": self._biases.get(call.name)}
        if call.kind not in _CALLS:
            known = getattr(self.layers, call.kind, None)
            if known is None:
                raise ValueError(f"layer {call.name!r}: Keras 3 has no class {call.kind}")
            plain = {k: v for k, v in call.config.items() if k not in ("dtype", "batch_input_shape")}
            self.values[call.name] = known.from_config(plain)(args if call.listed and len(args) > 1 else args[0])
            return
        self.values[call.name] = self._function(call, args, kwargs)

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, Name):
            return self.values[argument]
        if isinstance(argument, list) and argument and all(map(is_reference, argument)):
            return [self.values[a[0]] for a in argument]
        return argument

    def _function(self, call: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name, x = call.function, args[0]
        if name in _PASSING:
            return x if name != "cast" or kwargs.get("dtype") == "float32" else self.ops.cast(x, kwargs["dtype"])
        if name in _BINARY:
            other = next(v for k, v in kwargs.items() if k in ("y", "x2") or k == "x")
            if name in ("mul", "multiply") and not self._symbolic(x) and np.all(np.equal(x, 1)):
                return other
            merge = _MERGES.get(_BINARY[name])
            if merge and self._symbolic(x) and self._symbolic(other) and x.shape == other.shape:
                return getattr(self.layers, merge)()([x, other])
            a, b = (v if self._symbolic(v) else np.asarray(v, np.float32) for v in (x, other))
            return getattr(self.ops, _BINARY[name])(a, b)
        if name in _ACTIVATIONS:
            return self.layers.Activation(_ACTIVATIONS[name])(x)
        if name in _UNARY:
            return getattr(self.ops, _UNARY[name])(x)
        method: Callable[..., Any] | None = getattr(self, f"_{name}", None)
        if method is None:
            raise ValueError(f"layer {call.name!r}: the function tf.{call.config['function']} has no counterpart here")
        return method(args if call.listed else x, kwargs)

    def _getitem(self, x: Any, k: Mapping[str, Any]) -> Any:
        return x[tuple(_index(s) for s in k["slice_spec"])]

    def _symbolic(self, value: Any) -> bool:
        return isinstance(value, self.keras.KerasTensor)

    def _convolution(self, x: Any, k: Mapping[str, Any], rate: Any = None) -> Any:
        filters = np.asarray(k["filters"] if "filters" in k else k["filter"], np.float32)
        rank = filters.ndim - 2
        kind = {1: self.layers.Conv1D, 2: self.layers.Conv2D, 3: self.layers.Conv3D}[rank]
        layer = kind(
            filters.shape[-1], filters.shape[:rank], strides=_spatial(k.get("strides"), rank),
            use_bias=k["bias"] is not None, padding=str(k.get("padding", "VALID")).lower(),
            groups=int(x.shape[-1]) // filters.shape[-2],
            dilation_rate=tuple(rate) if rate else _spatial(k.get("dilations"), rank))
        return self._filled(layer, x, filters, k["bias"])

    _conv2d = _convolution

    def _depthwise_conv2d(self, x: Any, k: Mapping[str, Any], rate: Any = None) -> Any:
        filters = np.asarray(k["filter"], np.float32)
        layer = self.layers.DepthwiseConv2D(
            filters.shape[:2], strides=_spatial(k.get("strides"), 2), depth_multiplier=filters.shape[3],
            padding=str(k.get("padding", "VALID")).lower(), use_bias=k["bias"] is not None,
            dilation_rate=tuple(rate) if rate else _spatial(k.get("dilations") or k.get("rate"), 2))
        return self._filled(layer, x, filters, k["bias"])

    def _matmul(self, x: Any, k: Mapping[str, Any]) -> Any:
        if self._symbolic(k["b"]):
            return self.ops.matmul(x, k["b"])
        kernel = np.asarray(k["b"], np.float32)
        kernel = kernel.T if k.get("transpose_b") else kernel
        layer = self.layers.Dense(kernel.shape[1], use_bias=k["bias"] is not None)
        return self._filled(layer, x, kernel, k["bias"])

    def _filled(self, layer: Any, x: Any, kernel: Any, bias: Any) -> Any:
        made = layer(x)
        layer.set_weights([kernel] if bias is None else [kernel, bias])
        return made

    def _dilated(self, call: Call) -> None:
        """SpaceToBatchND opens a block, a convolution goes into it, BatchToSpaceND closes it."""
        name = str(call.first[0])
        if call.function == "space_to_batch_nd":
            self._blocks[call.name] = (self.values[name], dict(call.kwargs))
            return
        x, k = self._blocks[name]
        if call.function != "batch_to_space_nd":
            self._blocks[call.name] = (x, {**k, "inner": call})
            return
        padded = self._pad(x, {"paddings": [[0, 0], *k["paddings"], [0, 0]]})
        inner: Call = k["inner"]
        if inner.function not in ("conv2d", "convolution", "depthwise_conv2d"):
            raise ValueError(f"layer {inner.name!r}: tf.{inner.config['function']} on blocks has no counterpart here")
        made = getattr(self, f"_{inner.function}")(padded, {**inner.kwargs, "bias": self._biases.get(inner.name)},
                                                    k["block_shape"])
        crops = [tuple(c) for c in call.kwargs["crops"]]
        self.values[call.name] = self.layers.Cropping2D(crops)(made) if any(map(any, crops)) else made

    def _pad(self, x: Any, k: Mapping[str, Any]) -> Any:
        paddings, value = [tuple(p) for p in k["paddings"]], float(k.get("constant_values") or 0)
        if value == 0 and len(paddings) == 4 and not any(paddings[0]) and not any(paddings[3]):
            return self.layers.ZeroPadding2D(paddings[1:3])(x)
        return self.ops.pad(x, paddings, mode=str(k.get("mode", "constant")).lower(), constant_values=value)

    _pad_v2 = _pad

    def _avg_pool(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self._pooled(self.layers.AveragePooling2D, x, k)

    def _max_pool(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self._pooled(self.layers.MaxPooling2D, x, k)

    _avg_pool2d, _max_pool2d, _max_pool_v2 = _avg_pool, _max_pool, _max_pool

    def _pooled(self, kind: Any, x: Any, k: Mapping[str, Any]) -> Any:
        size, strides = _spatial(k["ksize"], 2), _spatial(k["strides"], 2)
        return kind(size, strides=strides, padding=str(k["padding"]).lower())(x)

    def _clip_by_value(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self.ops.clip(x, k["clip_value_min"], k["clip_value_max"])

    def _leaky_relu(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self.layers.LeakyReLU(negative_slope=k.get("alpha", 0.2))(x)

    def _softmax(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self.layers.Softmax(axis=-1 if k.get("axis") is None else k["axis"])(x)

    def _reduce_mean(self, x: Any, k: Mapping[str, Any]) -> Any:
        if len(x.shape) == 4 and k.get("axis") in ([1, 2], [2, 1]):
            return self.layers.GlobalAveragePooling2D(keepdims=bool(k.get("keepdims")))(x)
        return self.ops.mean(x, axis=k.get("axis"), keepdims=bool(k.get("keepdims")))

    def _reshape(self, x: Any, k: Mapping[str, Any]) -> Any:
        shape = tuple(k["shape"])
        plain = shape[0] == -1 and -1 not in shape[1:]
        return self.layers.Reshape(shape[1:])(x) if plain else self.ops.reshape(x, shape)

    def _transpose(self, x: Any, k: Mapping[str, Any]) -> Any:
        order = tuple(k["perm"])
        return self.layers.Permute(order[1:])(x) if order[0] == 0 else self.ops.transpose(x, order)

    def _squeeze(self, x: Any, k: Mapping[str, Any]) -> Any:
        axes = k.get("axis")
        rest = list(x.shape[1:])
        for axis in sorted({int(a) % len(x.shape) for a in ([axes] if isinstance(axes, int) else axes or [0])})[::-1]:
            if axis == 0 or None in rest:
                return self.ops.squeeze(x, axis=axes)
            del rest[axis - 1]
        return self.layers.Reshape(rest)(x)  # a layer, which HDF5 files can name

    def _expand_dims(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self.ops.expand_dims(x, k["axis"])

    def _concat(self, x: Any, k: Mapping[str, Any]) -> Any:
        return self.layers.Concatenate(axis=k["axis"])(x if isinstance(x, list) else k["values"])


def _index(stored: Any) -> Any:
    """A part of a subscript: a slice, an ellipsis, a new axis or a place."""
    if not isinstance(stored, Mapping):
        return stored
    return Ellipsis if "class_name" in stored else slice(stored["start"], stored["stop"], stored["step"])


def _spatial(given: Any, rank: int) -> tuple[int, ...]:
    """Strides, sizes or dilations for the spatial axes, however TensorFlow has them."""
    values = [given] if isinstance(given, int) else list(given or [1])
    values = values[1:-1] if len(values) == rank + 2 else values
    return tuple(int(v) for v in (values * rank if len(values) == 1 else values))
