"""A patch as a record, and as the file that `fetafix.patch` describes."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fetafix.edit_data import ArrayStore, dtype_of, edit_from_data, edit_to_data, from_data, to_data
from fetafix.edits import Edit
from fetafix.errors import OutputError, UsageError
from fetafix.files import replacing
from fetafix.graph.structure import Outline, Print
from fetafix.ir import Array, Graph
from fetafix.plan import Entry, File, Record

PATCH_VERSION = 1
_MEMBER, _SUM, _ARRAYS = "patch.json", "sha256", "arrays/"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_MOST_JSON, _MOST = 1 << 28, 1 << 34
_WHOLE = 64  # elements up to which a constant is stored, not only its fingerprints


class Constant(Record, frozen=True, kw_only=True):
    """A constant of an outlined graph by its fingerprints; moments are null for what is no number."""

    name: str
    dtype: str
    shape: list[int]
    digest: str
    moments: Any = None


class Side(Record, frozen=True, kw_only=True):
    """A graph as an outline: nodes and interface in full, constants by fingerprints, small ones in full too."""

    graph: dict[str, Any]
    constants: list[Constant]


class Patch(Record, frozen=True, kw_only=True):
    """Reviewed repairs of one target, to be replayed.

    source, target: the models that they were found with, by name and content. entries: the repairs, as in a plan, in
    the order in which they are made. undo: for each entry the edits that take it back, or nothing where `irrevocable`
    says why they cannot be taken back. before, after: the target's graph without and with all entries. preprocess: the
    target's preprocessing without and with them, null where images play no part. inputs: shapes of one sample, for
    models that declare none. proof: the held-out figures.
    """

    patch_version: int = PATCH_VERSION
    made_by: str
    source: File
    target: File
    format: str
    seed: int
    approved_by: str = ""
    entries: list[Entry]
    undo: list[list[dict[str, Any]]] = []
    irrevocable: str = ""
    before: Side
    after: Side
    preprocess: list[dict[str, Any] | None] = []
    inputs: list[list[int]] = []
    proof: dict[str, Any] = {}


def side(outline: Outline, store: ArrayStore) -> Side:
    """An outline as plain data; arrays go to `store`."""
    graph, tensors = outline.graph, outline.graph.initializers
    scales = {t for n in graph.nodes if n.op in ("QuantizeLinear", "DequantizeLinear") for t in n.inputs[1:]}
    whole = {k: v for k, v in tensors.items() if v.size <= _WHOLE or k in scales}
    bare = Graph(graph.nodes, whole, graph.inputs, graph.outputs, graph.opset)
    constants = [
        Constant(name=k, dtype=v.dtype.name, shape=list(v.shape), digest=outline.prints[k].digest,
                 moments=to_data(outline.prints[k].moments, store))
        for k, v in tensors.items()
    ]  # fmt: skip
    return Side(graph=to_data(bare, store), constants=constants)


def outline_of(data: Side, store: ArrayStore) -> Outline:
    """The outline again; constants that were not stored are zeros. Raises UsageError where it cannot be read."""
    graph = from_data(data.graph, store)
    if not isinstance(graph, Graph):
        raise UsageError("the patch holds no graph where one belongs")
    tensors: dict[str, Array] = {}
    prints: dict[str, Print] = {}
    for c in data.constants:
        stored = graph.initializers.get(c.name)
        dtype = np.dtype(object) if c.dtype == "object" else dtype_of(c.dtype)
        tensors[c.name] = np.broadcast_to(np.zeros((), dtype), c.shape) if stored is None else stored
        prints[c.name] = Print(c.digest, tuple(c.shape), from_data(c.moments, store))
    return Outline(Graph(graph.nodes, tensors, graph.inputs, graph.outputs, graph.opset), prints)


def edits_of(data: list[dict[str, Any]], store: ArrayStore) -> tuple[Edit, ...]:
    """Edits again. Raises UsageError."""
    return tuple(edit_from_data(e, store) for e in data)


def edits_to(edits: tuple[Edit, ...], store: ArrayStore) -> list[dict[str, Any]]:
    """Edits as plain data."""
    return [edit_to_data(e, store) for e in edits]


def save(patch: Patch, path: str | Path, store: ArrayStore) -> None:
    """Write a patch. Raises OutputError, also where it would replace a file that is no patch."""
    path = Path(path)
    if path.exists() and not _is_patch(path):
        raise OutputError(f"{path} is a file that is no patch, which is kept; name another, or remove it first")
    text = msgspec.json.encode(patch)
    members = {_MEMBER: text, _SUM: hashlib.sha256(text).hexdigest().encode()}
    members |= {f"{_ARRAYS}{digest}": blob for digest, blob in sorted(store.blobs.items())}
    try:
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, blob in members.items():
                info = zipfile.ZipInfo(name, _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, blob)
    except OSError as error:
        raise OutputError(f"the patch {path} cannot be written: {error.strerror or error}") from error


def load(path: str | Path) -> tuple[Patch, ArrayStore]:
    """A patch and its arrays. Raises UsageError that says what is wrong with the file."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            text, store = _members(archive, path)
    except OSError as error:
        raise UsageError(f"the patch {path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise UsageError(f"{path} is no patch of fetafix, or it is damaged: {error}") from error
    _check_version(text, path)
    try:
        patch = msgspec.json.decode(text, type=Patch)
        for data in (patch.before, patch.after):
            outline_of(data, store)
        for edits in (*(e.edits for e in patch.entries), *patch.undo):
            edits_of(edits, store)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is no patch of fetafix: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"{path} is no patch that this fetafix can read: {error}") from error
    return patch, store


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[bytes, ArrayStore]:
    """patch.json, as its sum says, and the arrays. Nothing is unpacked to the disk."""
    infos = {i.filename: i for i in archive.infolist()}
    foreign = [n for n in infos if n not in (_MEMBER, _SUM) and not n.startswith(_ARRAYS)]
    if foreign or {_MEMBER, _SUM} - infos.keys():
        what = f"it holds {foreign[0]!r}" if foreign else "it lacks patch.json or its sum"
        raise UsageError(f"{path} is no patch of fetafix: {what}")
    if infos[_MEMBER].file_size > _MOST_JSON or sum(i.file_size for i in infos.values()) > _MOST:
        raise UsageError(f"{path} would unpack to more than any patch holds; it is not read")
    text, wanted = archive.read(_MEMBER), archive.read(_SUM)
    if hashlib.sha256(text).hexdigest().encode() != wanted.strip():
        raise UsageError(f"{path} was damaged or changed after it was made, and is not applied; make it again with "
                         "`fetafix repair --save-patch`")  # fmt: skip
    return text, ArrayStore({n.removeprefix(_ARRAYS): archive.read(n) for n in infos if n.startswith(_ARRAYS)})


def _check_version(text: bytes, path: Path) -> None:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get("patch_version")
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is no patch of fetafix: {error}") from error
    if found != PATCH_VERSION:
        raise UsageError(f"{path} is a patch of version {found}; this fetafix reads version {PATCH_VERSION}")


def _is_patch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {_MEMBER, _SUM} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
