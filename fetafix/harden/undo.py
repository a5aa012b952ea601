"""Take a protection off, and mend what flips have done as far as it allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix import formats
from fetafix.errors import UsageError
from fetafix.formats import stored as stored_tensors
from fetafix.formats.staging import staging
from fetafix.harden.files import beside, files_of, move
from fetafix.harden.report import Mended
from fetafix.outputs import keep_apart, writable
from fetafix.storage import index, secded, sidecar
from fetafix.storage.holding import Held

Array = npt.NDArray[Any]
TORCH = ("torch-state-dict", "safetensors")


def restore(path: str | Path, out: str | Path) -> Mended:
    """Write to `out` the plain model that a hardened file holds.

    Raises UsageError where no protection is known of the file, UnreadableModel where it or its sidecar is damaged,
    OutputError where `out` cannot be written.
    """
    path, out = Path(path), Path(out)
    keep_apart({"output": out}, {"source": path})
    writable(out)
    if beside(path, sidecar.SUFFIX).exists():
        return _from_checks(path, out)
    if beside(path, index.SUFFIX).exists():
        return _from_words(path, out)
    name = formats.recognise(path)
    done = _plain(path, name, out)
    if not done:
        raise UsageError(f"{path}: no protection is known of it: neither {beside(path, sidecar.SUFFIX).name} nor "
                         f"{beside(path, index.SUFFIX).name} is there, and its weights are read as they are stored")
    return Mended(path=str(path), out=str(out), scheme="stored form", notes=[f"{done} weights are stored plainly"])


def _plain(path: Path, name: str, out: Path) -> int:
    makers: dict[str, Callable[[Path], int]] = {}
    if name == "onnx":
        from fetafix.formats.onnx import protected
        from fetafix.formats.onnx.unprotect import unprotect

        if protected.count(path):
            makers[name] = lambda file: unprotect(path, file)
    elif name in TORCH:
        from fetafix.formats.torch import protect as torch_protect

        if torch_protect.recognise(path):
            makers[name] = lambda file: torch_protect.restore(path, file)
    if name not in makers:
        return 0
    with staging(out) as folder:
        done = makers[name](folder / out.name)
        move(folder, out, files_of(path, name))
    return done


def _from_checks(path: Path, out: Path) -> Mended:
    mended, lost, exact = 0, 0, True
    originals = [path, *(f for f in path.parent.glob("*") if f.is_file() and beside(f, sidecar.SUFFIX).exists())]
    with staging(out) as folder:
        for file in _protected_files(path):
            name = out.name if file == path else file.name
            with (folder / name).open("wb") as stream:
                found = sidecar.mend(file, beside(file, sidecar.SUFFIX), stream)
            mended, lost, exact = mended + found.mended, lost + found.lost, exact and found.exact
        move(folder, out, originals)
    return Mended(path=str(path), out=str(out), scheme="rs", corrected=mended, lost=lost, exact=exact)


def _protected_files(path: Path) -> list[Path]:
    """The file, and those of its external data that have sidecars; told from the model once it is mended."""
    others = []
    for file in sorted(path.parent.glob("*" + sidecar.SUFFIX)):
        other = file.with_name(file.name.removesuffix(sidecar.SUFFIX))
        if other != path and other.name.encode() in path.read_bytes():
            others.append(other)
    return [path, *others]


def _from_words(path: Path, out: Path) -> Mended:
    entries = index.read(beside(path, index.SUFFIX))
    corrected = lost = 0
    with staging(out) as folder:
        copy = folder / out.name
        sources = {path: copy} | {path.parent / e["file"]: folder / e["file"] for e in entries if "file" in e}
        for source, target in sources.items():
            target.write_bytes(source.read_bytes())
        for entry in entries:
            file = sources[path.parent / entry["file"]] if "file" in entry else copy
            tensor = Held(entry["name"], "weight", np.dtype("<f4"), tuple(entry["shape"]), file,
                          tuple((int(a), int(b)) for a, b in entry["pieces"]))
            read = secded.decode(stored_tensors.read(tensor).view(np.uint32))
            stored_tensors.patch(file, tensor, read.values.reshape(tensor.shape))
            corrected, lost = corrected + read.corrected, lost + read.detected
        move(folder, out, list(sources))
    notes = [f"{lost} words had two flips: these weights are 0 now"] if lost else []
    return Mended(path=str(path), out=str(out), scheme="secded", corrected=corrected, lost=lost, notes=notes)


