"""Edit Keras files in place: datasets of weights and the configuration's JSON, everything else byte for byte as it was.

An HDF5 file of Keras 2 stays one that Keras 2 opens. Structural changes are saved by Keras itself, in the container
that the original came in.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetafix.formats.base import Unsupported
from fetafix.formats.keras import legacy as keras_legacy
from fetafix.formats.keras.recognise import KERAS
from fetafix.formats.tensorflow import lift as tf_lift
from fetafix.ir import Array

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
Settings = Mapping[str, Mapping[str, Any]]


def save(model: Any, format: str, out: Path) -> None:
    """The model as Keras writes it, in a container of the given format."""
    import keras

    suffix = ".keras" if format == KERAS else ".h5"
    with tempfile.TemporaryDirectory(prefix="fetafix-", dir=out.parent) as folder:
        place = Path(folder) / f"model{suffix}"
        with tf_lift.quiet():  # Keras advises against HDF5, which the original is
            keras.saving.save_model(model, place, **({} if format == KERAS else {"include_optimizer": False}))
        shutil.copyfile(place, out)


def edit(path: Path, format: str, model: Any, weights: Mapping[int, Array], settings: Settings, out: Path) -> None:
    """A copy of `path` with other weights (id of a variable of `model` → value) and settings (layer → key → value)."""
    if format == KERAS:
        _edit_archive(path, model, weights, settings, out)
        return
    import h5py

    shutil.copyfile(path, out)
    with h5py.File(out, "r+") as file:
        places = _datasets(_weights_in(file), model) if weights else {}
        for variable, value in weights.items():
            if variable not in places:
                raise Unsupported("the file holds no dataset for one of the weights")
            places[variable][...] = value
        if settings:
            raw = file.attrs["model_config"]
            text = _configured(raw.decode() if isinstance(raw, bytes) else raw, settings)
            file.attrs["model_config"] = text.encode() if isinstance(raw, bytes) else text


def _weights_in(file: Any) -> Any:
    return file.get("model_weights", file)


def _datasets(group: Any, model: Any) -> dict[int, Any]:
    """Id of the variable → its dataset in an HDF5 file of whole models, in the order in which Keras reads them."""
    from keras.src.legacy.saving.legacy_h5_format import _legacy_weights, load_attributes_from_hdf5_group

    if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
        return {v: group[place] for v, place in _stored(model).items() if place in group}
    groups = [group[n] for n in load_attributes_from_hdf5_group(group, "layer_names")]
    named = [(g, load_attributes_from_hdf5_group(g, "weight_names")) for g in groups]
    held = [(layer, w) for layer in model.layers if (w := _legacy_weights(layer))]
    found: dict[int, Any] = {}
    for (own, names), (_, variables) in zip([n for n in named if n[1]], held, strict=True):
        found.update({id(v): own[n] for v, n in zip(variables, names, strict=True)})
    return found


def _edit_archive(path: Path, model: Any, weights: Mapping[int, Array], settings: Settings, out: Path) -> None:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename == _CONFIG and settings:
                data = _configured(data.decode(), settings).encode()
            elif item.filename == _WEIGHTS and weights:
                data = _reweighted(data, model, weights)
            target.writestr(item, data)


def _reweighted(data: bytes, model: Any, weights: Mapping[int, Array]) -> bytes:
    """The archive's weights with those that change, found by the place where Keras itself would write them."""
    import h5py

    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for variable, place in _stored(model).items():
            if variable in weights:
                file[place][...] = weights[variable]
    return buffer.getvalue()


def _stored(model: Any) -> dict[int, str]:
    """Id of the variable → its dataset's path: Keras writes the model once with a number in place of each weight."""
    from keras.src.saving import saving_lib

    paths: dict[int, str] = {}

    class Entry(dict[str, Any]):
        def __init__(self, path: str) -> None:
            super().__init__()
            self._path = path

        def __setitem__(self, key: str, value: Any) -> None:
            paths[id(value)] = f"{self._path}/vars/{key}" if self._path else f"vars/{key}"

    class Recorder(saving_lib.H5IOStore):  # type: ignore[misc]
        """A store of weights that writes nothing and notes where each object's variables would go."""

        def __init__(self) -> None:
            self.mode = "w"

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> Entry:
            return Entry(path)

        def close(self) -> None:
            pass

    saving_lib._save_state(model, weights_store=Recorder(), assets_store=None, inner_path="", visited_saveables=set())
    return paths


def _configured(text: str, settings: Settings) -> str:
    """The configuration with other settings. Raises Unsupported where a layer is not found in it."""
    config = json.loads(text)
    if isinstance(config.get("config"), list):
        raise Unsupported("the configuration is of Keras 1")
    left = dict(settings)
    for name, layer in keras_legacy.layers(config):
        for key, value in left.pop(name, {}).items():
            layer["config"][keras_legacy.held_as(layer, key)] = value
    if left:
        raise Unsupported(f"the configuration has no layer {next(iter(left))!r}")
    return json.dumps(config)
