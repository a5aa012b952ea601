"""TensorFlow's files by their content: SavedModel folders, GraphDefs; protobuf tags are read without TensorFlow.

Field numbers are those of saved_model.proto (SavedModel: schema version, meta graphs) and graph.proto (GraphDef: nodes,
whose first fields are name and operator).
"""

from __future__ import annotations

import mmap
from pathlib import Path

from fetafix.errors import UnreadableModel
from fetafix.formats.onnx.scan import BYTES, VARINT, Malformed, fields

SAVED_MODEL, GRAPHDEF = "saved_model", "graphdef"
FILE = "saved_model.pb"
_TEXT = (b"saved_model_schema_version", b"meta_graphs {", b"node {", b"meta_graphs{", b"node{")


def recognise(path: Path) -> str | None:
    """"saved_model", "graphdef", or None. Raises UnreadableModel for TensorFlow's files that cannot be opened."""
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return None
    if head.lstrip().startswith(_TEXT) and (b"meta_graphs" in head or b"op:" in head):
        raise UnreadableModel(f"{path}: this is a graph in protobuf's text form; expected the binary one ({FILE}, or a "
                              "frozen .pb): load it with google.protobuf.text_format and write SerializeToString()")
    kind = _kind(path)
    if kind == SAVED_MODEL and path.name != FILE:
        raise UnreadableModel(f"{path}: this is a SavedModel's graph, which is opened by its name; expected {FILE} in "
                              "a folder with the variables beside it")
    return kind


def folder_of(path: Path) -> Path:
    """The SavedModel folder, where its saved_model.pb may be given as well."""
    return path if path.is_dir() else path.parent


def _folder(path: Path) -> str | None:
    if (path / FILE).is_file():
        return SAVED_MODEL
    if (path / "saved_model.pbtxt").is_file():
        raise UnreadableModel(f"{path}: this SavedModel is in protobuf's text form (saved_model.pbtxt); expected {FILE}"
                              ": load it with TensorFlow and save it again")
    if (path / "variables" / "variables.index").is_file() or (path / "keras_metadata.pb").is_file():
        raise UnreadableModel(f"{path}: this is a part of a SavedModel: expected {FILE} in the folder, it is missing; "
                              "copy or download the folder again")
    if (path / "checkpoint").is_file() or any(path.glob("*.ckpt*.index")):
        raise UnreadableModel(f"{path}: this is a checkpoint, which holds weights without a graph; expected a "
                              "SavedModel (tf.saved_model.save)")
    return None


def _kind(path: Path) -> str | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            walk = fields(data, 0, len(data))
            number, wire, start, end = next(walk)
            if (number, wire, start) == (1, VARINT, 1):
                return _saved_model(path, data, end)
            return GRAPHDEF if (number, wire) == (1, BYTES) and _is_node(data, start, end) else None
        except (Malformed, StopIteration):
            return None


def _saved_model(path: Path, data: mmap.mmap, end: int) -> str | None:
    """Behind the schema version there are meta graphs (field 2), which ONNX's producer field resembles."""
    try:
        number, wire, start, stop = next(fields(data, end, len(data)))
        inner = next(fields(data, start, stop), None) if (number, wire) == (2, BYTES) else None
    except Malformed as error:
        if error.truncated and path.name == FILE:
            raise UnreadableModel(f"{path}: this is a SavedModel's graph, but the file ends after {len(data):,} bytes, "
                                  "in the middle of it; copy or download it again") from None
        return None
    except StopIteration:
        return None
    return SAVED_MODEL if inner is not None and inner[1] == BYTES and inner[0] in (1, 2) else None


def _is_node(data: mmap.mmap, start: int, end: int) -> bool:
    inner = [(n, bytes(data[a:b])) for n, w, a, b in fields(data, start, end) if w == BYTES][:2]
    named = len(inner) == 2 and [n for n, _ in inner] == [1, 2]
    return named and all(t and t.isascii() for _, t in inner)
