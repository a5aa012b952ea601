"""Where Keras files hold their weights: contiguous HDF5 datasets, in an archive (.keras) or on their own.

Variables of optimisers are left out: no inference reads them.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.checksums import data_start
from fetafix.formats.keras.recognise import KERAS
from fetafix.storage.holding import Held

_WEIGHTS = "model.weights.h5"
_MATRIX = 2


def held(path: Path, format: str) -> list[Held]:
    """The datasets of the file, by their path in it. Raises UnreadableModel where one is compressed or chunked."""
    import h5py

    try:
        if format != KERAS:
            with h5py.File(path, "r") as h5:
                return _datasets(path, h5, 0)
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            member = archive.getinfo(_WEIGHTS)
            if member.compress_type != zipfile.ZIP_STORED:
                raise UnreadableModel(f"{path}: its weights are compressed in the archive and cannot be overwritten in "
                                      "place; save the model again with Keras 3, which stores them as they are")
            with h5py.File(io.BytesIO(archive.read(member)), "r") as h5:
                return _datasets(path, h5, data_start(file, member))
    except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise UnreadableModel(f"{path}: cut off or damaged: {error}; copy or download it again") from error


def _datasets(path: Path, h5: Any, start: int) -> list[Held]:
    import h5py

    found: list[Held] = []

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith(("optimizer", "_optimizer")) or not item.size:
            return
        if item.dtype.kind not in "fiub":
            return
        offset = item.id.get_offset()
        if offset is None:
            why = "compressed" if item.compression else "chunked" if item.chunks else "kept within a header"
            raise UnreadableModel(f"{path}: dataset {name!r} is {why}, so it cannot be overwritten in place; save the "
                                  "model again with Keras, which writes contiguous datasets")
        shape, dtype = tuple(item.shape), item.dtype
        weight = len(shape) >= _MATRIX
        axis = _axis(name, shape) if weight else None
        found.append(Held(name, "weight" if weight else "constant", dtype, shape, path,
                          ((start + int(offset), int(item.nbytes)),), axis))

    h5.visititems(visit)
    return found


def _axis(name: str, shape: tuple[int, ...]) -> int:
    """Keras' kernels end with their output channels, but for transposed and depthwise convolutions.

    Layers bear names of the user's: a kernel for one output of many inputs is taken for a depthwise one.
    """
    turned = "transpose" in name or "depthwise" in name or shape[-1] == 1 < shape[-2]
    return len(shape) - 2 if turned and len(shape) > _MATRIX else len(shape) - 1
