"""From a Keras file to a model in memory: configuration vetted and settled first, then built, then filled."""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.arch import built
from fetafix.formats.base import OpenOptions
from fetafix.formats.keras import legacy as keras_legacy
from fetafix.formats.keras.recognise import KERAS

_MARK = "model_config"


def load(path: Path, format: str, options: OpenOptions) -> tuple[Any, dict[str, Any]]:
    """(the Keras model, built and filled; what the file tells about itself).

    Raises UnreadableModel, UntrustedModel, or UsageError for a wrong --arch.
    """
    return _load_archive(path, options) if format == KERAS else _load_h5(path, options)


def check(path: Path, format: str, options: OpenOptions) -> None:
    """What can be said against a file without loading Keras: damaged, without architecture or weights, not trusted.

    Raises UnreadableModel or UntrustedModel.
    """
    if format == KERAS:
        config, members, _ = _archived(path)
        if "model.weights.h5" not in members:
            found = ", ".join(sorted(members))
            raise UnreadableModel(f"{path}: expected model.weights.h5 in the archive, found {found}")
    else:
        with _opened(path) as file:
            raw = file.attrs.get(_MARK)
            if raw is None and not options.arch:
                raise UnreadableModel(_bare(path, file))
            config = _decoded(raw, path) if raw is not None else {}
    if not options.trust and not options.arch:
        keras_legacy.vet(config, path)


def _archived(path: Path) -> tuple[keras_legacy.Config, list[str], dict[str, Any]]:
    """(configuration, members, metadata) of a `.keras` archive whose checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in members else {}
            broken = archive.testzip()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if broken:
        raise _damaged(path, f"the checksum of {broken} does not match")
    return config, members, metadata


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _load_archive(path: Path, options: OpenOptions) -> tuple[Any, dict[str, Any]]:
    config, _, metadata = _archived(path)
    written = f"keras {metadata.get('keras_version', '?')}"
    details = {"written_by": written, "training": bool(config.get("compile_config"))}
    if options.arch:
        return _fill(path, make(options.arch), "weights.keras"), {**details, "arch": options.arch}
    _vet(config, path, options)
    return _deserialise(path, options), details


def _deserialise(path: Path, options: OpenOptions) -> Any:
    import keras

    with suffixed(path, "model.keras") as place:
        try:
            return keras.saving.load_model(place, compile=False, safe_mode=not options.trust)
        except Exception as error:  # Keras raises anything for a file that does not fit
            raise _misfit(path, error) from error


def _load_h5(path: Path, options: OpenOptions) -> tuple[Any, dict[str, Any]]:
    with _opened(path) as file:
        if options.arch:
            return _weights_for(path, file, options.arch), {"arch": options.arch}
        raw = file.attrs.get(_MARK)
        if raw is None:
            raise UnreadableModel(_bare(path, file))
        config, version = _decoded(raw, path), _text(file.attrs.get("keras_version", "?"))
        _vet(config, path, options)
        model = _from_config(config, path, options)
        _legacy_weights(path, file, model)
        return model, {"written_by": f"keras {version}", "training": "training_config" in file.attrs}


def _decoded(raw: Any, path: Path) -> keras_legacy.Config:
    try:
        config = json.loads(_text(raw))
    except ValueError as error:
        raise UnreadableModel(f"{path}: its model_config is no JSON: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise UnreadableModel(f"{path}: its model_config describes no model")
    return config


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _vet(config: keras_legacy.Config, path: Path, options: OpenOptions) -> None:
    if not options.trust:
        keras_legacy.vet(config, path)
    unknown = keras_legacy.unknown_class(config, known_class)
    if unknown:
        raise UnreadableModel(
            f"{path}: {unknown}, which Keras does not have. Give the function that builds the model with your own "
            f"classes: --arch module:factory (importable from the current folder); its weights are then read from here"
        )


def known_class(layer: keras_legacy.Config) -> type[Any] | None:
    """The class of a layer's configuration: of Keras, or registered with it; None where there is none."""
    import keras

    name = layer["class_name"]
    found = keras.saving.get_registered_object(layer.get("registered_name") or name)
    if found is None:
        found = getattr(keras.layers, keras_legacy.current_name(name), None) or getattr(keras.models, name, None)
    if found is None:
        found = getattr(keras.initializers, name, None)
    if found is None and name == "Functional":
        found = keras.Model
    module = layer.get("module")
    if found is None and isinstance(module, str) and module.startswith("keras.src."):
        try:
            found = vars(importlib.import_module(module)).get(name)
        except ImportError:
            return None
    return found if isinstance(found, type) else None


def _from_config(config: keras_legacy.Config, path: Path, options: OpenOptions) -> Any:
    import keras
    from keras.src.legacy.saving import saving_options, saving_utils
    from keras.src.saving import serialization_lib

    settled = keras_legacy.normalised(config, known_class, path, keras.__version__)
    try:
        with (
            saving_options.keras_option_scope(use_legacy_config=True),
            serialization_lib.SafeModeScope(not options.trust),
        ):
            return saving_utils.model_from_config(settled)
    except Exception as error:  # as above
        raise _misfit(path, error) from error


def _legacy_weights(path: Path, file: Any, model: Any) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    group = file.get("model_weights", file)
    if not model.built:
        raise _unbuilt(path, model)
    try:
        legacy_h5_format.load_weights_from_hdf5_group(group, model)
    except Exception as error:  # as above
        raise UnreadableModel(f"{path}: {_weights_problem(group, model) or _short(error)}") from error


def _weights_problem(group: Any, model: Any) -> str:
    """The first layer of the model whose weights are missing or of another shape."""
    for layer in model.layers:
        if not layer.weights:
            continue
        held = group.get(layer.name)
        if held is None:
            return f"layer {layer.name!r} has no weights in the file; expected {len(layer.weights)} tensors"
        names = [_text(n) for n in held.attrs.get("weight_names", ())]
        shapes = [tuple(held[n].shape) for n in names if n in held]
        wanted = [tuple(w.shape) for w in layer.weights]
        if sorted(shapes) != sorted(wanted):
            return f"the weights of layer {layer.name!r} do not fit: expected shapes {wanted}, found {shapes}"
    return ""


def _weights_for(path: Path, file: Any, arch: str) -> Any:
    """The factory's model with the weights of an HDF5 file of either kind."""
    model = make(arch)
    if "layer_names" in file.attrs or "model_weights" in file:
        _legacy_weights(path, file, model)
        return model
    file.close()
    return _fill(path, model, "model.weights.h5")


def _fill(path: Path, model: Any, name: str) -> Any:
    with suffixed(path, name) as place:
        try:
            model.load_weights(place)
        except Exception as error:  # as above
            raise UnreadableModel(f"{path}: its weights do not fit the architecture: {_short(error)}") from error
    return model


def make(arch: str) -> Any:
    """The Keras model that a user's factory returns. Raises UsageError that says what is wrong with it."""
    import keras

    return built(arch, keras.Model, "a keras.Model", "models:my_network")


@contextlib.contextmanager
def suffixed(path: Path, name: str) -> Iterator[str]:
    """The file under a name that Keras accepts (it goes by the suffix)."""
    if path.name.endswith(name[name.index(".") :]):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        place = Path(folder) / name
        place.symlink_to(path.absolute())
        yield str(place)


def _bare(path: Path, file: Any) -> str:
    """What to say of weights without an architecture."""
    if "layer_names" in file.attrs:
        count = len(file.attrs["layer_names"])
    else:
        groups = ("layers", "_layer_checkpoint_dependencies", "model_weights")
        place = next((file[g] for g in groups if g in file), file)
        count = len(place)
    return (
        f"{path}: h5 without architecture: expected model_config; found weights of {count} layers. Give the file that "
        "model.save wrote, or the function that builds the model: --arch module:factory"
    )


def _unbuilt(path: Path, model: Any) -> UnreadableModel:
    return UnreadableModel(
        f"{path}: the model {model.name!r} declares no input shape, so its layers have no weights yet; build it before "
        "saving (model.build(shape)), or give --arch module:factory that does"
    )


def _damaged(path: Path, error: object) -> UnreadableModel:
    return UnreadableModel(f"{path}: cut off or damaged: {_short(error)}; copy or download it again")


def _misfit(path: Path, error: Exception) -> UnreadableModel:
    return UnreadableModel(f"{path}: Keras cannot make the model of this file: {_short(error)}")


def _short(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] or type(error).__name__
