"""Read a model's configuration before anything is made of it: what would run code, what this Keras does not know.

Keras 3 refuses many files of Keras 2 for settings that mean nothing any more. Each layer's settings are compared with
the arguments of its class: one that is unknown is dropped where its value is the one that changes nothing, renamed
where it has another name now, and otherwise refused by name. The file itself stays as it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel, UntrustedModel

Config = dict[str, Any]
Known = Callable[[Config], type[Any] | None]
_ANY = object()
# Settings that Keras 3 has dropped, and the value at which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "groups": (1,),
    "time_major": (False,),
    "ragged": (False,),
    "sparse": (False,),
    "dynamic": (False,),
    "stateful": (False,),
    "autocast": (True,),
    "implementation": (_ANY,),  # how to compute, not what
    "fused": (_ANY,),
    "reset_after": (_ANY,),
    "batch_input_shape": (_ANY,),  # of layers that are no inputs: what the graph tells anyway
    "build_input_shape": (_ANY,),
    "input_dtype": (_ANY,),
    "experimental_autocast": (_ANY,),
    "zero_output_for_mask": (False,),
    "renorm": (False,),
    "synchronized": (False,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "input_length": (_ANY,),
    "input_dim": (_ANY,),
    "init": (_ANY,),
    "trainable": (_ANY,),
    "return_runtime": (False,),
    "keepdims": (False,),
    "ragged_rank": (None, 0),
    "type_spec": (None,),
    "noise_shape": (None,),
    "supports_masking": (_ANY,),
}
_RENAMED = {
    ("InputLayer", "batch_input_shape"): "batch_shape",
    ("LeakyReLU", "alpha"): "negative_slope",
    ("Dropout", "p"): "rate",
    ("Dense", "output_dim"): "units",
    ("Dense", "bias"): "use_bias",
    ("Convolution2D", "nb_filter"): "filters",
}
_OPERATORS = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty"}
_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization", "CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU", "LSTMV2": "LSTM",
    "GRUV2": "GRU", "DenseV2": "Dense", "Model": "Functional",
}  # fmt: skip


def layers(config: Config) -> Iterator[tuple[str, Config]]:
    """(path, layer) for every layer in a model's configuration, those within models and wrappers included."""
    yield from _walk(config, "")


def _walk(node: Any, path: str) -> Iterator[tuple[str, Config]]:
    inner = node.get("config") if isinstance(node, dict) else None
    if isinstance(inner, list):  # a Sequential of Keras 1
        inner = {"layers": inner}
    if not isinstance(inner, dict):
        return
    for child in inner.get("layers") or ():
        if isinstance(child, dict) and "class_name" in child:
            own = child.get("config")
            name = child.get("name") or (own.get("name") if isinstance(own, dict) else None) or child["class_name"]
            yield f"{path}{clean(name)}", child
            yield from _walk(child, f"{path}{clean(name)}/")
    for key in ("layer", "backward_layer", "forward_layer", "cell"):
        child = inner.get(key)
        if isinstance(child, dict) and "class_name" in child:
            yield f"{path}{key}", child
            yield from _walk(child, f"{path}{key}/")


def vet(config: Config, path: Path) -> None:
    """Raises UntrustedModel where a layer is code of the file, or an object of somebody else's module."""
    for name, layer in layers(config):
        if layer["class_name"] == "Lambda":
            raise _refuse(path, f"layer {name!r} is a Lambda, whose code is stored in the file")
    for found in _objects(config):
        if found.get("class_name") == "__lambda__":
            raise _refuse(path, "it holds a Python function as bytecode")


def _refuse(path: Path, what: str) -> UntrustedModel:
    return UntrustedModel(
        f"{path}: {what}; loading it would run that code. If you trust where the file comes from, give --trust"
    )


def _objects(node: Any) -> Iterator[Config]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _objects(child)


def unknown_class(config: Config, known: Known) -> str | None:
    """The first layer whose class Keras does not have: "layer 'x' (class Y)"; None where all are known."""
    for name, layer in layers(config):
        if layer["class_name"] in _OPERATORS:
            return (
                f"layer {name!r} is a TensorFlow operator that the model's code called ({layer['class_name']}); "
                "Keras 2 wrote such layers"
            )
        if known(layer) is None:
            module = layer.get("module")
            origin = f" of the module {module}" if module and not str(module).startswith("keras") else ""
            return f"layer {name!r} has the class {layer['class_name']}{origin}"
    return None


def normalised(config: Config, known: Known, path: Path, version: str) -> Config:
    """The configuration as this Keras takes it. Raises UnreadableModel naming layer, setting and value otherwise."""
    made: Config = copy.deepcopy(config)
    if isinstance(made.get("config"), list):
        made["config"] = {"layers": made["config"], "name": made.get("name", "sequential")}
    if made.get("class_name") in _CLASSES:
        made["class_name"] = _CLASSES[made["class_name"]]
    made = _without_slashes(made)
    for model in (made, *(layer for _, layer in layers(made))):
        _declare_input(model)
    for name, layer in layers(made):
        layer["class_name"] = _CLASSES.get(layer["class_name"], layer["class_name"])
        cls = known(layer)
        if cls is not None and isinstance(layer.get("config"), dict) and "layers" not in layer["config"]:
            layer["config"] = _settle(layer, name, cls, known, path, version)
    return made


def _settle(layer: Config, name: str, cls: type[Any], known: Known, path: Path, version: str) -> Config:
    kind, config, allowed = layer["class_name"], layer["config"], arguments(cls)
    made: Config = {}
    for key, value in config.items():
        key = _RENAMED.get((kind, key), key) if key not in allowed else key
        if key in allowed:
            made.setdefault(key, value)
        elif key not in allowed and not _neutral(key, value):
            raise UnreadableModel(
                f"{path}: layer {name!r} ({kind}) has the setting {key} = {value!r}, which Keras {version} does not "
                f"know; open the file with the Keras that wrote it and save it again as .keras"
            )
    for key, value in made.items():
        if key.endswith("_initializer") and isinstance(value, dict) and "class_name" in value:
            made[key] = _initialiser(value, known)
    if kind == "InputLayer" and made.get("batch_shape") is None and config.get("batch_input_shape") is not None:
        made["batch_shape"] = config["batch_input_shape"]
    return made


def _initialiser(value: Config, known: Known) -> Config | None:
    """How weights begin means nothing to weights that are read from a file, so what is unknown is left out."""
    cls, own = known(value), value.get("config")
    if cls is None or not isinstance(own, dict):
        return None
    allowed = arguments(cls).keys() - {"name", "dtype", "trainable"}
    return {**value, "config": {k: v for k, v in own.items() if k in allowed}}


def clean(name: str) -> str:
    """A layer's name as Keras 3 allows it."""
    return str(name).replace("/", "_")


def _without_slashes(config: Config) -> Config:
    """Keras 2 allowed slashes in names; a layer is referred to by its name from other layers."""
    own = (layer.get("config") for _, layer in layers(config))
    names = {n for c in own if isinstance(c, dict) and "/" in str(n := c.get("name", ""))}

    def renamed(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: renamed(v) for k, v in node.items()}
        if isinstance(node, list):
            return [renamed(v) for v in node]
        return clean(node) if isinstance(node, str) and node in names else node

    made: Config = renamed(config) if names else config
    return made


def _declare_input(model: Config) -> None:
    """A Sequential of older versions tells its input's shape in its first layer, or beside its layers."""
    own = model.get("config")
    if model.get("class_name") != "Sequential" or not isinstance(own, dict) or not own.get("layers"):
        return
    first = own["layers"][0]
    shape = first["config"].get("batch_input_shape") or own.get("build_input_shape")
    if first["class_name"] != "InputLayer" and shape and "layers" not in first["config"]:
        named = f"{first['config'].get('name', 'sequential')}_input"
        dtype = first["config"].get("dtype") if isinstance(first["config"].get("dtype"), str) else "float32"
        dtype = "int32" if first["class_name"] == "Embedding" else dtype
        declared = {"batch_shape": shape, "dtype": dtype, "name": named}
        own["layers"] = [{"class_name": "InputLayer", "config": declared}, *own["layers"]]


def _neutral(key: str, value: Any) -> bool:
    if value is None:
        return True
    idle = _NEUTRAL.get(key, ())
    return any(n is _ANY or (value == n and type(value) is type(n)) for n in idle)


def arguments(cls: type[Any]) -> Mapping[str, Any]:
    """All keyword arguments that a layer class takes, those it passes on to its bases included; name → default."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        for name, parameter in parameters.items():
            if name != "self" and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(name, parameter.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    for name in ("name", "dtype", "trainable", *(("batch_shape", "input_shape") if "batch_shape" in found else ())):
        found.setdefault(name, None)
    return found


def current_name(class_name: str) -> str:
    """What Keras 3 calls a class of Keras 2."""
    return _CLASSES.get(class_name, class_name)


def held_as(layer: Config, key: str) -> str:
    """The name under which a layer's configuration holds a setting: an older file may have another."""
    config = layer["config"]
    old = (was for (kind, was), now in _RENAMED.items() if kind == layer["class_name"] and now == key and was in config)
    return key if key in config else next(old, key)
