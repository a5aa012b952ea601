"""Keras models of every kind: containers, forms, files of Keras 2, and files that must be refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import h5py
import keras
import numpy as np
from keras import layers as L


def make(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    models = {"cnn": cnn(), "chain": chain(), "rnn": rnn(), "several": several(), "nested": nested(), "mlp": mlp()}
    for name, model in models.items():
        _enliven(model)
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
    model = models["cnn"]
    model.save_weights(folder / "cnn.weights.h5")
    _answers(models, folder)
    keras2(folder / "cnn.h5", folder / "cnn-keras2.h5")
    unknown_setting(folder / "cnn-keras2.h5", folder / "cnn-unknown.h5")
    _legacy_weights(folder / "cnn.h5", folder / "cnn-bare.h5")
    _lambda(folder)
    _broken(folder)


def cnn() -> Any:
    """Strided, depthwise and dilated convolutions, normalisations, a residual, a concatenation."""
    x = inputs = keras.Input((16, 12, 3), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = L.BatchNormalization(name="stem_bn")(x)
    x = start = L.ReLU(max_value=6.0, name="stem_relu")(x)
    x = L.DepthwiseConv2D(3, padding="same", name="dw")(x)
    x = L.BatchNormalization(name="dw_bn", epsilon=0.01)(x)
    x = L.Activation("relu", name="dw_relu")(x)
    x = L.Conv2D(8, 3, padding="same", dilation_rate=2, name="dilated")(x)
    x = L.Add(name="residual")([x, start])
    left = L.Conv2D(6, 1, activation="relu", name="left")(x)
    right = L.LeakyReLU(negative_slope=0.2, name="leaky")(L.Conv2D(4, 3, padding="same", name="right")(x))
    x = L.Concatenate(name="join")([left, right])
    x = L.MaxPooling2D(2, name="pool")(x)
    x = L.Conv2D(5, 3, padding="valid", name="last")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dropout(0.3, name="drop")(x)
    x = L.Dense(7, activation="softmax", name="scores")(x)
    return keras.Model(inputs, x, name="cnn")


def chain() -> Any:
    """A Sequential model."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 2), name="picture"),
            L.ZeroPadding2D(1, name="pad"),
            L.Conv2D(6, 3, name="conv"),
            L.BatchNormalization(name="bn"),
            L.ELU(alpha=0.7, name="elu"),
            L.AveragePooling2D(2, padding="same", name="average"),
            L.UpSampling2D(2, name="up"),
            L.GlobalAveragePooling2D(name="gap"),
            L.Dense(4, name="answer"),
        ],
        name="chain",
    )


def mlp() -> Any:
    x = inputs = keras.Input((9,), name="features")
    x = L.Dense(12, activation="relu", name="first")(x)
    x = L.BatchNormalization(name="bn")(x)
    x = L.Dense(5, name="second")(x)
    return keras.Model(inputs, x, name="mlp")


def rnn() -> Any:
    x = inputs = keras.Input((7,), dtype="int32", name="tokens")
    x = L.Embedding(20, 6, name="embedding")(x)
    x = L.LSTM(5, return_sequences=True, name="lstm")(x)
    x = L.GRU(4, name="gru")(x)
    return keras.Model(inputs, L.Dense(3, name="label")(x), name="rnn")


def several() -> Any:
    """Two inputs, two outputs, a layer used twice."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    shared = L.Dense(8, activation="tanh", name="shared")
    x, y = shared(a), shared(b)
    both = L.Multiply(name="product")([x, y])
    return keras.Model([a, b], [L.Dense(3, name="classes")(both), L.Dense(1, name="value")(x)], name="several")


def nested() -> Any:
    inner = keras.Input((8, 8, 4))
    y = L.Conv2D(4, 3, padding="same", name="conv")(inner)
    y = L.BatchNormalization(name="bn")(y)
    block = keras.Model(inner, L.Add(name="sum")([y, inner]), name="block")
    x = inputs = keras.Input((8, 8, 4), name="field")
    x = block(x)
    x = L.ReLU(name="relu")(x)
    x = L.GlobalMaxPooling2D(name="top")(x)
    return keras.Model(inputs, L.Dense(2, name="out")(x), name="nested")


def cnn_arch() -> Any:
    """For --arch."""
    return cnn()


def _enliven(model: Any) -> None:
    """Weights as after training: statistics and offsets that are not zero and one."""
    rng = np.random.default_rng(len(model.name))
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            n = layer.gamma.shape[0]
            scale, offset, mean = rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.2, n)
            layer.set_weights([scale, offset, mean, rng.uniform(0.5, 2, n)])
        elif getattr(layer, "bias", None) is not None and hasattr(layer.bias, "assign"):
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))


def feeds(model: Any, count: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        t.name: rng.integers(0, 20, (count, *t.shape[1:]), np.int32) if "int" in str(t.dtype)
        else rng.normal(0, 1, (count, *t.shape[1:])).astype(np.float32)
        for t in model.inputs
    }  # fmt: skip


def _answers(models: dict[str, Any], folder: Path) -> None:
    """What Keras's own predict says."""
    arrays: dict[str, Any] = {}
    for name, model in models.items():
        fed = feeds(model)
        made = model.predict(list(fed.values()) if len(fed) > 1 else next(iter(fed.values())), verbose=0)
        arrays.update({f"{name}/in/{k}": v for k, v in fed.items()})
        outputs = made if isinstance(made, list) else [made]
        names = [t._keras_history[0].name for t in model.outputs]
        arrays.update({f"{name}/out/{k}": v for k, v in zip(names, outputs, strict=True)})
    np.savez(folder / "answers.npz", **arrays)


def keras2(source: Path, out: Path) -> None:
    """The file as Keras 2 would have written it: settings that Keras 3 has dropped or renamed, dtypes as words."""
    shutil.copyfile(source, out)
    with h5py.File(out, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            _aged(layer)
        config["config"].pop("trainable", None)
        # Keras 2 allowed slashes in names
        file.attrs["model_config"] = json.dumps(config).replace('"stem_bn"', '"stem/bn"')
        file.attrs["keras_version"] = "2.4.0"


def _aged(layer: dict[str, Any]) -> None:
    own = layer["config"]
    for key in ("dtype", "quantization_config", "optional", "renorm", "renorm_clipping", "renorm_momentum"):
        value = own.pop(key, None)
        if key == "dtype":
            own["dtype"] = value["config"]["name"] if isinstance(value, dict) else value
    for key, value in list(own.items()):
        if isinstance(value, dict) and "class_name" in value:
            own[key] = {"class_name": value["class_name"], "config": {**value["config"]}}
            if key.endswith("_initializer"):
                own[key]["config"]["dtype"] = "float32"
    if "batch_shape" in own:
        own["batch_input_shape"] = own.pop("batch_shape")
        own["ragged"] = False
    if layer["class_name"] == "DepthwiseConv2D":
        own["groups"] = 1
    if layer["class_name"] == "LeakyReLU":
        own["alpha"] = own.pop("negative_slope")
    if layer["class_name"] == "BatchNormalization":
        own["axis"] = [3]
        own.pop("synchronized", None)
    layer["inbound_nodes"] = [_legacy_node(n) for n in layer["inbound_nodes"]]


def _legacy_node(node: dict[str, Any]) -> list[Any]:
    args = node["args"][0]
    tensors = args if isinstance(args, list) else [args]
    return [[*t["config"]["keras_history"], {}] for t in tensors]


def unknown_setting(source: Path, out: Path) -> None:
    shutil.copyfile(source, out)
    with h5py.File(out, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        next(x for x in config["config"]["layers"] if x["class_name"] == "DepthwiseConv2D")["config"]["groups"] = 2
        file.attrs["model_config"] = json.dumps(config)


def _legacy_weights(source: Path, out: Path) -> None:
    """What `save_weights("x.h5")` of Keras 2 wrote."""
    with h5py.File(source) as old, h5py.File(out, "w") as new:
        for name in old["model_weights"]:
            old.copy(f"model_weights/{name}", new)
        for key, value in old["model_weights"].attrs.items():
            new.attrs[key] = value


def _lambda(folder: Path) -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Lambda(lambda t: t * 2, name="twice")(x))
    model.save(folder / "lambda.keras")
    model.save(folder / "lambda.h5")


class Mine(L.Layer):
    """A class that nobody else has."""

    def call(self, x: Any) -> Any:
        return x + 1


def _broken(folder: Path) -> None:
    for name in ("cnn.keras", "cnn.h5"):
        data = (folder / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(data[: len(data) // 2])
    x = keras.Input((4,), name="x")
    keras.Model(x, Mine(name="mine")(x)).save(folder / "custom.keras")
    shutil.copyfile(folder / "cnn.h5", folder / "missing.h5")
    with h5py.File(folder / "missing.h5", "r+") as file:
        names = [n for n in file["model_weights"].attrs["layer_names"] if n not in (b"dilated", "dilated")]
        del file["model_weights"]["dilated"]
        file["model_weights"].attrs["layer_names"] = names
    shutil.copyfile(folder / "cnn.h5", folder / "shape.h5")
    with h5py.File(folder / "shape.h5", "r+") as file:
        group = file["model_weights"]["dilated"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group[name] = np.zeros((3, 3, 8, 9), np.float32)
    with zipfile.ZipFile(folder / "cnn.keras") as source, zipfile.ZipFile(folder / "weightless.keras", "w") as target:
        for item in source.infolist():
            if item.filename != "model.weights.h5":
                target.writestr(item, source.read(item))
