"""Write an edited ONNX model: what the edits do not touch stays byte for byte, and nothing invalid is left behind.

The edits' meaning is that of `fetafix.edits.apply` on the graph; `sync` carries the outcome over to the original
protobuf. The files are made in a hidden folder beside their destination, validated by `onnx.checker`, loaded by ONNX
Runtime and then renamed, so that a failure leaves nothing behind and an older output as it was.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from fetafix.edits import Edit
from fetafix.errors import EditError, OutputError, RuntimeCrash
from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx import store as onnx_store
from fetafix.formats.onnx import sync as onnx_sync
from fetafix.formats.onnx.model import make_session
from fetafix.formats.staging import staging


def write(path: Path, edits: Sequence[Edit], out: Path) -> None:
    """Write the model at `path` with edits to `out`, and to `out`.data where it has weights in files of their own.

    Raises EditError where an edit does not fit or the result is no valid model, OutputError where `out` cannot be
    written.
    """
    model = onnx.load(str(path), load_external_data=False)
    with placed(path, out, model) as place:
        synced = onnx_sync.edited(model, path.parent, edits)
        place.save(synced.model, synced.apart)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a changed copy of the model at `path` is made before it becomes `out`. folder: hidden, for it alone."""

    path: Path
    out: Path
    folder: Path
    data_name: str

    def save(self, model: onnx.ModelProto, apart: Collection[str] = ()) -> None:
        """Write, validate and load the model, then give it its name, and that of `apart` weights' file to theirs."""
        file = self.folder / self.out.name
        moved = onnx_store.save(model, self.path.parent, file, self.data_name, apart)
        _verify(file, self.path)
        if moved:
            os.replace(self.folder / self.data_name, self.out.parent / self.data_name)
        os.replace(file, self.out)


@contextmanager
def placed(path: Path, out: Path, model: onnx.ModelProto) -> Iterator[Place]:
    """A place for a copy of the model at `path`. Raises OutputError where `out` cannot be written or is an original."""
    originals = [path, *(path.parent / name for name in onnx_store.locations(model))]
    _refuse_overwriting(out, originals)
    with staging(out) as folder:
        yield Place(path, out, folder, _data_name(out, originals))


def _refuse_overwriting(out: Path, originals: Sequence[Path]) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: expected a file to write to, found a folder; name a file in it")
    if out.exists() and any(o.exists() and out.samefile(o) for o in originals):
        raise OutputError(f"{out}: this is the original model, which is never changed; choose another output")


def _data_name(out: Path, originals: Sequence[Path]) -> str:
    """The name for the weights' file, never that of a file of the original."""
    taken = {o.resolve() for o in originals}
    names = (f"{out.name}{'' if i == 0 else f'.{i}'}.data" for i in range(len(taken) + 1))
    return next(n for n in names if (out.parent / n).resolve() not in taken)


def _verify(file: Path, original: Path) -> None:
    """The result must pass the checker, unless the original does not either, and load in its runtime."""
    reason = _complaint(file)
    if reason and not _complaint(original):
        raise EditError(f"{original}: the edited model is not valid ONNX, so nothing is written: {reason}")
    try:
        make_session(file, OpenOptions(threads=1, optimise=False))
    except RuntimeCrash as error:
        reason = str(error).replace(str(file), file.name)
        raise EditError(f"{original}: the edited model does not load, so nothing is written: {reason}") from error


def _complaint(file: Path) -> str:
    """What the checker has against a model, or ""."""
    try:
        onnx.checker.check_model(str(file))
    except onnx.checker.ValidationError as error:
        return " ".join(str(error).split())[:600]
    return ""
