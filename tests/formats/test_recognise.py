"""Formats are told by content; what cannot be opened is named."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fetafix import formats
from fetafix.errors import UnreadableModel
from tests.formats import onnx_zoo as zoo


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return stream.getvalue()


def test_onnx_whatever_its_name(tmp_path):
    assert formats.recognise(zoo.save(zoo.classifier(), tmp_path / "model.pt")) == "onnx"
    assert formats.recognise(str(zoo.save(zoo.relu(), tmp_path / "no_suffix"))) == "onnx"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x93NUMPY\x01\x00", "numpy array; give it as --data"),
        (zipped("x.npy"), "numpy archive"),
        (zipped("inner.onnx"), "unpack it, and give inner.onnx"),
        (zipped("a.txt"), "zip archive without a model"),
        (zipped("a.txt")[:-10], "cut off or damaged"),
        (b"import torch\nprint(1)\n", "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"\x80\x04K\x01.", "Python pickle"),
        (bytes(range(256)) * 4, "of no known format"),
        (b"", r"the file is empty \(0 bytes\)"),
    ],
)
def test_other_files_are_named(tmp_path, content, words):
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(UnreadableModel, match=words) as caught:
        formats.recognise(path)
    assert str(path) in str(caught.value) and "ONNX" in str(caught.value)


def test_missing_file_and_folders(tmp_path):
    with pytest.raises(UnreadableModel, match="no such file"):
        formats.recognise(tmp_path / "nothing.onnx")
    zoo.save(zoo.relu(), tmp_path / "inside.onnx")
    with pytest.raises(UnreadableModel, match=r"a folder.*the folder holds inside.onnx"):
        formats.recognise(tmp_path)
    with pytest.raises(UnreadableModel, match="no ordinary file"):
        formats.recognise("/dev/null")


def test_truncated_anywhere_is_no_crash(tmp_path):
    content = zoo.classifier().SerializeToString()
    path = tmp_path / "m.onnx"
    said = 0
    for size in range(1, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(UnreadableModel) as caught:
            formats.recognise(path)
        said += f"the file ends after {size:,} bytes" in str(caught.value)
    assert said > len(range(1, len(content), 97)) * 0.95


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "keras-h5"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "keras"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "tflite"),
        (b"\x0a\x14\x0a\x05input\x12\x0bPlaceholder", "graphdef"),
    ],
)
def test_other_families_whatever_their_name(tmp_path, content, name):
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    assert formats.recognise(path) == name


def test_damaged_content(tmp_path):
    content = bytearray(zoo.classifier().SerializeToString())
    at = content.index(b"/conv/Conv")
    content[at - 30 : at - 1] = b"\xff" * 29
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(UnreadableModel, match=r"ends after|damaged"):
        formats.open(path)


def test_graph_without_nodes(tmp_path):
    with pytest.raises(UnreadableModel, match="no nodes"):
        formats.recognise(zoo.save(zoo.single([], {"x": (1, [1])}, {"x": (1, [1])}), tmp_path / "m.onnx"))


def test_digest_covers_external_data(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx", external=True)
    first = formats.sha256(path)
    blob = tmp_path / "m.onnx.bin"
    data = bytearray(blob.read_bytes())
    data[7] ^= 1
    blob.write_bytes(data)
    assert formats.sha256(path) != first and len(first) == 64
    plain = zoo.save(zoo.relu(), tmp_path / "r.onnx")
    model = formats.open(plain)
    assert formats.describe(model).sha256 == formats.sha256(plain)


def test_recognising_imports_no_runtime(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    code = (
        "import sys; from fetafix import formats\n"
        f"formats.recognise({str(path)!r})\n"
        "bad = {'torch', 'onnx', 'onnxruntime', 'tensorflow'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    root = Path(formats.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_opening_for_a_run_does_not_parse_the_model(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    code = (
        "import sys, numpy; from fetafix import formats\n"
        f"formats.open({str(path)!r}).run({{'x': numpy.ones((1, 3), 'f')}})\n"
        "sys.exit('onnx' in sys.modules)"
    )
    root = Path(formats.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


