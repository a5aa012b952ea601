"""safetensors files: an 8-byte length, a JSON header, the tensors' bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.torch.recognise import SAFETENSORS, recognise

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_CODES = {name: code for code, name in _DTYPES.items()}


def is_file(path: Path) -> bool:
    """Whether a file is a safetensors file."""
    return recognise(path) == SAFETENSORS


def load(path: Path) -> dict[str, Any]:
    """The tensors by name, in the order of the file. Raises UnreadableModel where the file is damaged."""
    import torch

    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors: dict[str, Any] = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + int(o) for o in entry["data_offsets"])
        if entry["dtype"] not in _DTYPES or not start <= begin <= end <= len(data):
            raise UnreadableModel(
                f"{path}: tensor {name} lies outside the file or has the unknown type {entry['dtype']}"
            )
        dtype = getattr(torch, _DTYPES[entry["dtype"]])
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def metadata(path: Path) -> dict[str, str]:
    """What the header says beside the tensors."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return dict(header.get("__metadata__", {}))


def save(tensors: Mapping[str, Any], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and text under `__metadata__`."""
    import torch

    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    blobs, offset = [], 0
    for name, tensor in tensors.items():
        blob = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        code = _CODES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))
