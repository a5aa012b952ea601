"""Tell Keras files by their content, without Keras: `.keras` archives, HDF5 models and HDF5 weights."""

from __future__ import annotations

import zipfile
from pathlib import Path

KERAS, KERAS_H5 = "keras", "keras-h5"
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_MEMBERS = {"config.json", "model.weights.h5"}
_ATTRIBUTES = ("model_config", "keras_version", "layer_names")
_GROUPS = ("model_weights", "_layer_checkpoint_dependencies", "layers", "vars")


def recognise(path: Path) -> str | None:
    """"keras" for archives, "keras-h5" for HDF5 files that Keras wrote; None where the file is something else.

    A damaged file of either kind is recognised as well, so that opening it can say what is wrong.
    """
    if path.is_dir():
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return None
    if head.startswith(_HDF5):
        return KERAS_H5 if _holds_keras(path) else None
    if head.startswith(_ZIP):
        return KERAS if _is_archive(path, head) else None
    return None


def _is_archive(path: Path, head: bytes) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist() and bool(_MEMBERS & {*archive.namelist()})
    except (zipfile.BadZipFile, OSError):  # cut off: the directory at its end is missing
        return b"metadata.json" in head or b"config.json" in head


def _holds_keras(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return any(a in file.attrs for a in _ATTRIBUTES) or any(g in file for g in _GROUPS)
    except (OSError, RuntimeError):  # cut off or damaged; few other formats of models are HDF5 files
        return True
