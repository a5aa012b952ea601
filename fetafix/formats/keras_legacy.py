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
            yield f"{path}{name}", child
            yield from _walk(child, f"{path}{name}/")
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


def unknown_class(config: Config, known: Callable[[Config], type[Any] | None]) -> str | None:
    """The first layer whose class Keras does not have: "layer 'x' (class Y)"; None where all are known."""
    for name, layer in layers(config):
        if known(layer) is None:
            module = layer.get("module")
            origin = f" of the module {module}" if module and not str(module).startswith("keras") else ""
            return f"layer {name!r} has the class {layer['class_name']}{origin}"
    return None


def normalised(config: Config, known: Callable[[Config], type[Any] | None], path: Path, version: str) -> Config:
    """The configuration as this Keras takes it. Raises UnreadableModel naming layer, setting and value otherwise."""
    made: Config = copy.deepcopy(config)
    if isinstance(made.get("config"), list):
        made["config"] = {"layers": made["config"], "name": made.get("name", "sequential")}
    if made.get("class_name") in _CLASSES:
        made["class_name"] = _CLASSES[made["class_name"]]
    for name, layer in layers(made):
        layer["class_name"] = _CLASSES.get(layer["class_name"], layer["class_name"])
        cls = known(layer)
        if cls is not None and isinstance(layer.get("config"), dict) and "layers" not in layer["config"]:
            layer["config"] = _settle(layer["class_name"], name, layer["config"], cls, path, version)
    return made


def _settle(kind: str, name: str, config: Config, cls: type[Any], path: Path, version: str) -> Config:
    allowed = arguments(cls)
    made: Config = {}
    for key, value in config.items():
        key = _RENAMED.get((kind, key), key) if key not in allowed else key
        if key in allowed:
            made.setdefault(key, value)
        elif not _neutral(key, value):
            raise UnreadableModel(
                f"{path}: layer {name!r} ({kind}) has the setting {key} = {value!r}, which Keras {version} does not "
                f"know; open the file with the Keras that wrote it and save it again as .keras"
            )
    if kind == "InputLayer" and made.get("batch_shape") is None and config.get("batch_input_shape") is not None:
        made["batch_shape"] = config["batch_input_shape"]
    return made


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
