"""The reader of the flatbuffer: what it finds in whole files, and what it says of damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.errors import UnreadableModel
from fetafix.formats.tflite import copy as tflite_copy
from fetafix.formats.tflite import file as tflite_file
from fetafix.formats.tflite import model as tflite
from fetafix.formats.tflite import records
from fetafix.formats.tflite.file import parse, read
from tests.formats.tflite_variants import with_weights_apart

HERE = Path("model.tflite")


@pytest.fixture(scope="module")
def folder(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("tflite_models")


@pytest.fixture(scope="module")
def whole(folder: Path) -> bytes:
    return (folder / "int8.tflite").read_bytes()


def test_recognised_by_content_alone(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "weights.onnx"
    odd.write_bytes((folder / "float.tflite").read_bytes())
    assert tflite.recognise(odd) == "tflite"
    assert tflite.recognise(folder / "samples.npz") is None and tflite.recognise(tmp_path) is None
    for content in (b"", b"TFL3", b"abcdefTFL3"):
        odd.write_bytes(content)
        assert tflite.recognise(odd) is None


def test_operators_dtypes_and_quantisation(folder: Path) -> None:
    plain, coded = read(folder / "float.tflite"), read(folder / "int8.tflite")
    assert plain.operators["CONV_2D"] == 3 and plain.operators == coded.operators
    assert not plain.quantised and coded.quantised
    assert plain.dtypes["float32"] > 8 and coded.dtypes["int8"] == 5 and coded.dtypes["int32"] >= 5
    assert read(folder / "fp16.tflite").dtypes["float16"] == 10
    stored = [t for t in coded.main.tensors if coded.array(t) is not None]
    kernels = [t for t in stored if t.dtype == "int8" and len(t.shape) == 4]
    assert len(kernels) == 4
    grids = [(t, t.quantisation) for t in kernels]
    assert all(q is not None and q.scale.size == t.shape[q.axis] for t, q in grids)


def test_constants_are_the_files_bytes(folder: Path) -> None:
    file = read(folder / "float.tflite")
    arrays = [a for t in file.main.tensors if (a := file.array(t)) is not None]
    assert any(a.shape == (16, 3, 3, 8) for a in arrays)
    assert all(bytes(a.tobytes()) in bytes(file.data) for a in arrays)


def test_signatures_and_subgraphs(folder: Path) -> None:
    file = read(folder / "signatures.tflite")
    assert {s.key: (set(s.inputs), set(s.outputs)) for s in file.signatures} == {
        "add": ({"a", "b"}, {"total"}), "scale": ({"a"}, {"scaled"}),
    }  # fmt: skip
    assert {s.subgraph for s in file.signatures} == {0, 1}


def test_custom_and_flex_operators_are_named(folder: Path) -> None:
    assert read(folder / "custom.tflite").custom == ("MatrixInverse",)
    flex = read(folder / "flex.tflite")
    assert flex.custom == ("FlexMatrixInverse",) and next(o for o in flex.main.operators if o.custom).flex


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_a_truncated_file_is_unreadable_or_whole(whole: bytes, cut: float) -> None:
    size = int(cut * len(whole))
    try:
        found = parse(whole[:size], HERE)
    except UnreadableModel as error:
        assert "expected" in str(error) or "found" in str(error)
    else:
        assert found.main.operators


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=20))
def test_flipped_bytes_never_crash_the_reader(whole: bytes, places: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for at, value in places:
        data[at % len(data)] = value
    try:
        file = parse(bytes(data), HERE)
        for graph in file.subgraphs:
            for tensor in graph.tensors:
                file.array(tensor)
    except UnreadableModel:
        pass


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0, 1 << 30), value=st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0]))
def test_lying_offsets_never_crash_the_reader(whole: bytes, at: int, value: int) -> None:
    data = bytearray(whole)
    struct.pack_into("<I", data, at % (len(data) // 4) * 4, value)
    try:
        parse(bytes(data), HERE)
    except UnreadableModel as error:
        assert str(HERE) in str(error)


def test_messages_say_what_was_expected_and_found(whole: bytes) -> None:
    for data, words in (
        (whole[:100], "cut off or damaged"),
        (struct.pack("<I", 1 << 30) + whole[4:], "an offset into the"),
        (b"\x00\x00\x00\x00TFL3" + b"\x00" * 32, "the root table"),
    ):
        with pytest.raises(UnreadableModel, match=words):
            parse(data, HERE)


def test_a_constant_of_another_size_than_its_shape(folder: Path) -> None:
    schema = tflite_file.names.schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray((folder / "float.tflite").read_bytes()), 0)
    tensors = (t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None)
    stored = next(t for t in tensors if len(t.shape) == 4)
    stored.shape = [*stored.shape[:3], 1 << 30]
    with pytest.raises(UnreadableModel, match=r"but its buffer holds [\d,]+"):
        parse(tflite_copy.pack(model), HERE).check_constants()


def test_four_bit_codes_are_unpacked() -> None:
    packed = np.array([0x21, 0xF8, 0x07], np.uint8).view(np.int8)
    assert records._unpacked(packed, 5).tolist() == [1, 2, -8, -1, 7]


def test_vectors_that_share_bytes_do_not_multiply() -> None:
    """65 thousand tensors that are all the same table with one large shape: 2⁴⁰ numbers, were they all read."""
    file = _bomb(1 << 16, 1 << 14)
    with pytest.raises(UnreadableModel, match="again and again"):
        parse(file, HERE)


def _bomb(tensors: int, dims: int) -> bytes:
    """A model of one subgraph whose tensors are one table, whose shape has many sizes."""
    import flatbuffers

    schema = tflite_file.names.schema()
    builder = flatbuffers.Builder(1 << 20)
    shape = builder.CreateNumpyVector(np.ones(dims, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)
    builder.StartVector(4, tensors, 4)
    for _ in range(tensors):
        builder.PrependUOffsetTRelative(tensor)
    vector = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, vector)
    graphs = _one(builder, schema.SubGraphEnd(builder))
    schema.BufferStart(builder)
    buffers = _one(builder, schema.BufferEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _one(builder: object, table: int) -> int:
    builder.StartVector(4, 1, 4)  # type: ignore[attr-defined]
    builder.PrependUOffsetTRelative(table)  # type: ignore[attr-defined]
    return int(builder.EndVector())  # type: ignore[attr-defined]


def test_weights_in_a_file_of_their_own_must_be_there(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(with_weights_apart(folder / "float.tflite", "weights.bin", 100))
    with pytest.raises(UnreadableModel, match="there is no such file"):
        read(path)
    (tmp_path / "weights.bin").write_bytes(bytes(99))
    with pytest.raises(UnreadableModel, match="it ends after 99"):
        read(path)
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    assert read(path).main.operators
    path.write_bytes(with_weights_apart(folder / "float.tflite", "../weights.bin", 100))
    with pytest.raises(UnreadableModel, match="in the model's folder"):
        read(path)


def test_data_behind_the_flatbuffer_is_found(whole: bytes) -> None:
    """Files beyond 2 GB keep weights behind the flatbuffer, at an offset from the beginning of the file."""
    schema = tflite_file.names.schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(whole), 0)
    weights = np.asarray(model.buffers[model.subgraphs[0].tensors[2].buffer].data, np.uint8).tobytes()
    buffer = model.buffers[model.subgraphs[0].tensors[2].buffer]
    buffer.data, buffer.offset, buffer.size = None, 1 << 20, len(weights)
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    data = bytes(builder.Output()).ljust(1 << 20, b"\0") + weights
    file = parse(data, HERE)
    span = file.buffers[file.main.tensors[2].buffer]
    assert span.apart and bytes(file.raw(file.main.tensors[2])) == weights
    with pytest.raises(UnreadableModel, match="the data of buffer"):
        parse(data[:-1], HERE)
