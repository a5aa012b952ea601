"""Model formats: recognise a file by its content and open it with the module of its family.

A family is a module with `recognise(path) -> str | None` (the format's name, found without importing a framework) and
`open(path, format, options) -> Artifact`. The suffix of a file is never looked at.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib
from pathlib import Path
from typing import Protocol, cast

import msgspec

from fetafix.errors import UnreadableModel
from fetafix.formats import known
from fetafix.formats.base import Artifact, OpenOptions
from fetafix.formats.onnx import scan as onnx_scan
from fetafix.formats.tensorflow import recognise as tf_recognise
from fetafix.report import ModelInfo

FAMILIES = (
    "fetafix.formats.onnx.model", "fetafix.formats.tflite.model", "fetafix.formats.keras.model",
    "fetafix.formats.tensorflow.model", "fetafix.formats.torch.model",
)
SUPPORTED = (
    "ONNX (.onnx), TensorFlow Lite (.tflite), Keras (.keras, .h5), a TensorFlow SavedModel or frozen GraphDef (.pb), "
    "TorchScript, torch.export (.pt2), a pickled torch module or a state dict with --arch"
)
_CHUNK = 1 << 20


class _Family(Protocol):
    def recognise(self, path: Path) -> str | None: ...

    def open(self, path: Path, format: str, options: OpenOptions) -> Artifact: ...


def recognise(path: Path | str) -> str:
    """The name of the file's format, found by content.

    Raises UnreadableModel where the file is missing, empty, cut off, or no model that this version can open.
    """
    return _find(Path(path))[1]


def open(path: Path | str, options: OpenOptions | None = None) -> Artifact:
    """The model in its own runtime. Imports that runtime: meant for worker processes.

    Raises UnreadableModel, UntrustedModel or RuntimeCrash.
    """
    family, name = _find(Path(path))
    return family.open(Path(path), name, options or OpenOptions())


def prepare(path: Path | str) -> None:
    """Import what a light runtime needs (ONNX Runtime, LiteRT), where the file looks like one of its models.

    For a worker that waits for its first request. Whatever is wrong with the file is for `open` to say.
    """
    with contextlib.suppress(Exception):
        family, _ = _find(Path(path))
        get_ready = getattr(family, "prepare", None)
        if get_ready is not None:
            get_ready(Path(path))


def describe(artifact: Artifact) -> ModelInfo:
    """The artifact's info with its digest filled in."""
    return msgspec.structs.replace(artifact.info, sha256=sha256(artifact.info.path))


def sha256(path: Path | str) -> str:
    """Hex digest of a model: its file, then the files that hold its weights apart, in the order of their names.

    Raises UnreadableModel where one of them cannot be read.
    """
    path = Path(path)
    if path.name == tf_recognise.FILE and tf_recognise.recognise(path) == tf_recognise.SAVED_MODEL:
        path = tf_recognise.folder_of(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        facts = onnx_scan.scan(path)
        files = [path, *(path.parent / name for name in sorted({e.location for e in facts.external} if facts else ()))]
    digest = hashlib.sha256()
    for file in files:
        try:
            with builtins.open(file, "rb", buffering=0) as stream:
                while block := stream.read(_CHUNK):
                    digest.update(block)
        except OSError as error:
            raise UnreadableModel(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _find(path: Path) -> tuple[_Family, str]:
    _readable(path)
    for module in FAMILIES:
        family = cast(_Family, importlib.import_module(module))
        name = family.recognise(path)
        if name is not None:
            return family, name
    what = known.name(path)
    if what is None:
        what = "a folder" if path.is_dir() else "of no known format"
    elif ";" not in what:
        what = f"{what}, which this version cannot open"
    raise UnreadableModel(f"{path}: this is {what}. Expected {SUPPORTED}{_hint(path)}")


def _readable(path: Path) -> None:
    try:
        if path.is_dir():
            return
        size = path.stat().st_size
        with builtins.open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UnreadableModel(f"{path}: there is no such file. Expected {SUPPORTED}") from None
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise UnreadableModel(f"{path}: this is no ordinary file. Expected {SUPPORTED}")
    if not size:
        raise UnreadableModel(f"{path}: the file is empty (0 bytes). Expected {SUPPORTED}")


def _hint(path: Path) -> str:
    if not path.is_dir():
        return ""
    models = sorted(p.name for p in path.iterdir() if p.suffix in {".onnx", ".pt", ".pth", ".pt2"})
    return f"; the folder holds {', '.join(models[:3])}" if models else ""
