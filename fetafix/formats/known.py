"""Formats that are known by sight but cannot be opened, so that an error can say what a file is."""

from __future__ import annotations

from pathlib import Path

_MAGIC = (
    (0, b"\x89HDF\r\n\x1a\n", "a Keras HDF5 file (.h5)"),
    (4, b"TFL3", "a TensorFlow Lite model (.tflite)"),
    (4, b"ORTM", "an ONNX Runtime .ort file; give the .onnx file that it was made from"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x93NUMPY", "a numpy array; give it as --data"),
    (0, b"\xff\xd8\xff", "a JPEG image; give it as --data"),
    (0, b"\x89PNG", "a PNG image; give it as --data"),
    (0, b"\x80", "a Python pickle that torch.save did not write"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
)


def name(path: Path) -> str | None:
    """What the file or folder is, in words that follow 'this is'; None where it is not known either."""
    if path.is_dir():
        return None
    with path.open("rb") as file:
        head = file.read(4096)
    for offset, magic, meaning in _MAGIC:
        if head[offset:].startswith(magic):
            return meaning
    if head.startswith(b"PK"):
        return _archive(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file"
    return _text(head)


def _archive(path: Path) -> str:
    import zipfile  # with its decompressors, which no other file needs

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except zipfile.BadZipFile:
        return "a zip archive that is cut off or damaged; copy or download it again"
    if {"config.json", "model.weights.h5"} <= names:
        return "a Keras 3 archive (.keras)"
    if names and all(n.endswith(".npy") for n in names):
        return "a numpy archive; give it as --data"
    inner = next((n for n in sorted(names) if n.endswith((".onnx", ".pt", ".pth"))), None)
    return f"a zip archive; unpack it, and give {inner}" if inner else "a zip archive without a model"


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if text.startswith(("<!DOCTYPE", "<html", "<!doctype")):
        return "a web page (a download that went wrong?)"
    return "a text file" if (text and text.isprintable()) or "\n" in text else None
