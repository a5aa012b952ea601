"""Where a model file holds its tensors, to read and to overwrite them in place, without the framework.

    for h in held(Path("model.onnx")):
        values = read(h)
        patch(copy, h, values * 2)        # `copy`: a copy of the file h.path; every other byte stays as it is

A family of formats tells where in `fetafix.formats.<family>.stored`: `held(path, format)`.
"""

from __future__ import annotations

import importlib
import shutil
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from fetafix import formats
from fetafix.errors import UnreadableModel, UsageError
from fetafix.formats import checksums
from fetafix.formats.onnx import stored as onnx_stored
from fetafix.formats.tensorflow.recognise import FILE as SAVED_MODEL
from fetafix.storage.holding import Held

Array = npt.NDArray[Any]
_FAMILIES = {"onnx": "onnx", "tflite": "tflite", "keras": "keras", "keras-h5": "keras", "safetensors": "torch",
             "saved_model": "tensorflow", "graphdef": "tensorflow", "torchscript": "torch",
             "torch-export": "torch", "torch-module": "torch", "torch-state-dict": "torch"}
ADDRESSABLE = ("ONNX, TensorFlow Lite, SavedModels, frozen GraphDefs, safetensors, PyTorch (.pt, .pth, .pt2, "
               "TorchScript), Keras (.keras, .h5)")


class _Family(Protocol):
    def held(self, path: Path, format: str) -> list[Held]: ...


def held(path: Path) -> list[Held]:
    """The tensors of a model file that lie in it as they are, in the order of the file; shared bytes once.

    Raises UnreadableModel where the file is none, or keeps tensors in a form that cannot be overwritten in place.
    """
    path = Path(path)
    name = formats.recognise(path)
    family = _FAMILIES.get(name)
    if family is None:
        raise UnreadableModel(
            f"{path}: where a {name} file holds its tensors is not known to this version. Expected {ADDRESSABLE}; "
            "convert it to one of these (fetafix convert), or strike the file as a whole (--scope file)")
    module = cast(_Family, importlib.import_module(f"fetafix.formats.{family}.stored"))
    return _once(module.held(path, name))


def copy(path: Path, folder: Path, needed: Literal["all", "weights", "none"] = "all") -> Path:
    """A copy of a model in a folder, with the files that hold its weights apart, in which tensors needed have places.

    The same bytes, but for ONNX files that keep a tensor needed as numbers of varying width: stored as raw bytes then.
    """
    path, family = Path(path), _FAMILIES.get(formats.recognise(Path(path)))
    if family == "onnx":
        return onnx_stored.copy(path, folder, needed)
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    if family == "tensorflow" and path.name == SAVED_MODEL:
        return Path(shutil.copytree(path.parent, folder / path.parent.name)) / path.name
    return Path(shutil.copyfile(path, folder / path.name))


def read(tensor: Held, path: Path | None = None) -> Array:
    """A tensor's values, writable, as its file holds them; path: another copy of that file.

    Raises UnreadableModel where the file is shorter than it was.
    """
    file = Path(path or tensor.path)
    parts = []
    with file.open("rb") as stream:
        for offset, size in tensor.pieces:
            stream.seek(offset)
            parts.append(stream.read(size))
    data = bytearray(b"".join(parts))
    if len(data) != tensor.nbytes:
        raise UnreadableModel(f"{file}: tensor {tensor.name!r}: expected {tensor.nbytes:,} bytes, found {len(data):,}; "
                              "the file is cut off")
    flat = np.frombuffer(data, tensor.dtype)
    if tensor.order is None:
        return flat.reshape(tensor.shape)
    return flat.reshape([tensor.shape[i] for i in tensor.order]).transpose(np.argsort(tensor.order))


def patch(copy: Path, tensor: Held, values: Array) -> None:
    """Overwrite a tensor in place in a copy of its file; see `patch_all`."""
    patch_all(copy, [(tensor, values)])


def patch_all(copy: Path, changes: Iterable[tuple[Held, Array]]) -> None:
    """Overwrite tensors in place in a copy of the file that holds them; every other byte stays as it is.

    Values have their tensor's shape and dtype. The checksums that a format keeps (`checksums`) are renewed.
    Raises UsageError where values do not fit.
    """
    struck: list[int] = []
    with Path(copy).open("r+b") as stream:
        for tensor, values in changes:
            if tuple(values.shape) != tensor.shape or values.dtype != tensor.dtype:
                raise UsageError(f"tensor {tensor.name!r}: expected {tensor.dtype}{list(tensor.shape)}, found "
                                 f"{values.dtype}{list(values.shape)}")
            data, at = laid(tensor, values).tobytes(), 0
            for offset, size in tensor.pieces:
                stream.seek(offset)
                stream.write(data[at : at + size])
                at += size
                struck.append(offset)
    checksums.renew(Path(copy), np.asarray(struck, np.int64))


def laid(tensor: Held, values: Array) -> Array:
    """Values in the order in which they lie in storage."""
    return values if tensor.order is None else values.transpose(tensor.order)


def _once(tensors: Sequence[Held]) -> list[Held]:
    """Each byte once: of tensors that share bytes, the largest, and of equals the first."""
    taken: dict[Path, list[tuple[int, int]]] = {}
    kept = []
    for i in sorted(range(len(tensors)), key=lambda i: (-tensors[i].nbytes, i)):
        known = taken.setdefault(tensors[i].path, [])
        if tensors[i].nbytes and not any(_overlaps(known, piece) for piece in tensors[i].pieces):
            for piece in tensors[i].pieces:
                insort(known, piece)
            kept.append(i)
    return [tensors[i] for i in sorted(kept)]


def _overlaps(known: Sequence[tuple[int, int]], piece: tuple[int, int]) -> bool:
    at = bisect_left(known, piece)
    before = at > 0 and sum(known[at - 1]) > piece[0]
    return before or (at < len(known) and known[at][0] < sum(piece))
