"""What a strike changes in a copy: exactly what its flips say, in bytes or in codes as the protection reads them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fetafix.errors import UsageError
from fetafix.formats import stored
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5, Fixed
from fetafix.storage.flips import flip
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan, Stored, load, store
from fetafix.stress.medium import Medium, Part, encode, target
from fetafix.stress.options import Storing
from fetafix.stress.tables import Codes
from tests.formats import onnx_zoo

PLANS = [Plan(FP32), Plan(FP32, "guard", 0), Plan(FP32, "secded"), Plan(FP16, "ceiling", 1), Plan(BF16, "scale"),
         Plan(Q2_5), Plan(Q2_5, "scale", 1), Plan(INT8, "none", 0), Plan(Fixed(3, 7), "guard", 1)]


def flips(bits: int, count: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(bits, count, replace=False))


@settings(max_examples=60)
@given(st.sampled_from(PLANS), st.integers(0, 2**32), st.integers(1, 40))
def test_reading_struck_values_alone_is_reading_all(plan: Plan, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = ((4, 5, 2), (3, 6), (2, 2, 2, 2), (7, 1))
    plans = [replace(plan, axis=i % 2 if plan.axis is not None else None) for i in range(len(shapes))]
    kept = [store(rng.normal(0, 0.1, s).astype(np.float32), p) for s, p in zip(shapes, plans, strict=True)]
    whole = np.concatenate([load(k).reshape(-1) for k in kept])
    at = np.cumsum([0, *(k.codes.size for k in kept)])
    parts = [Part(Path("m"), ((4 * int(a), 4 * k.codes.size),), k.bits,
                  Held("w", "weight", np.dtype("<f4"), k.codes.shape, Path("m"), ((4 * int(a), 4 * k.codes.size),)), k)
             for a, k in zip(at, kept, strict=False)]
    edges = np.cumsum([0, *(k.bits for k in kept)])
    where = flips(int(edges[-1]), count, seed)
    image = whole.copy().view(np.uint8)
    for change in Codes(parts, edges[:-1].tolist()).changes(where):
        image[change.at] = change.new
    for i, k in enumerate(kept):
        codes = k.codes.copy()
        flip(codes, where[(where >= edges[i]) & (where < edges[i + 1])] - edges[i], plan.encoding.bits)
        whole[at[i] : at[i + 1]] = load(Stored(codes, k.plan, k.factors, k.bounds)).reshape(-1)
    np.testing.assert_array_equal(image, whole.view(np.uint8))


def model(folder: Path, way: str = "raw") -> Path:
    made = onnx_zoo.classifier()
    if way == "fields":
        for tensor in made.graph.initializer:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, values))
    folder.mkdir(exist_ok=True)
    return onnx_zoo.save(made, folder / "model.onnx", way == "external")


@pytest.mark.parametrize("way", ["raw", "fields", "external"])
def test_bytes_of_the_file(way: str, tmp_path: Path) -> None:
    path = model(tmp_path / "copy", way)
    wanted = target(path)
    files = {p: p.read_bytes() for p in path.parent.iterdir()}
    assert wanted.bits == 32 * (4 * 27 + 5 * 256) and wanted.storage.tensors == 2
    where = np.union1d(flips(wanted.bits, 300), [0, 1, 2, wanted.bits - 1])  # several in one byte
    with Medium(wanted) as medium:
        medium.strike(where)
        changed = [np.frombuffer(old, np.uint8) ^ np.frombuffer(p.read_bytes(), np.uint8) for p, old in files.items()]
        assert sum(int(np.bitwise_count(c).sum()) for c in changed) == where.size
        loaded = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
        clean = onnx_zoo.weights()
        got = np.concatenate([(loaded[n].view(np.uint32) ^ clean[n].view(np.uint32)).reshape(-1)
                              for n in ("conv.weight", "fc.weight")])
        wrong = np.flatnonzero(np.unpackbits(got.view(np.uint8), bitorder="little"))
        np.testing.assert_array_equal(wrong, where)
        medium.heal()
        assert {p: p.read_bytes() for p in path.parent.iterdir()} == files


def test_another_copy_is_struck_and_the_first_left_alone(tmp_path: Path) -> None:
    import shutil

    path = model(tmp_path / "0")
    wanted, before = target(path), path.read_bytes()
    shutil.copytree(path.parent, tmp_path / "1")
    with Medium(wanted, tmp_path / "1") as medium:
        medium.strike(flips(wanted.bits, 10))
        assert medium.path == tmp_path / "1" / "model.onnx"
        assert path.read_bytes() == before != medium.path.read_bytes()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_codes_are_struck_and_read_into_the_file(plan: Plan, tmp_path: Path) -> None:
    path = model(tmp_path / "copy")
    wanted = target(path, storing=Storing(plan), granularity="channel")
    encode(wanted)
    whole = path.read_bytes()
    clean = {h.name: stored.read(h) for h in stored.held(path)}
    for part in wanted.parts:
        assert part.kept is not None and part.tensor is not None
        np.testing.assert_array_equal(clean[part.tensor.name], load(part.kept))
    where = flips(wanted.bits, 50)
    with Medium(wanted) as medium:
        medium.strike(where)
        for i, part in enumerate(wanted.parts):
            own = where[(where >= wanted.edges[i]) & (where < wanted.edges[i + 1])] - wanted.edges[i]
            assert part.kept is not None and part.tensor is not None
            codes = part.kept.codes.copy()
            flip(codes, own, plan.encoding.bits)
            read = load(Stored(codes, part.kept.plan, part.kept.factors, part.kept.bounds))
            np.testing.assert_array_equal(stored.read(part.tensor), read)
        medium.heal()
    assert path.read_bytes() == whole


def test_fp32_unprotected_is_the_file_itself(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    as_it_is, as_fp32 = target(first), target(second, storing=Storing(Plan(FP32)))
    where = flips(as_it_is.bits, 100)
    with Medium(as_it_is) as one, Medium(as_fp32) as other:
        one.strike(where)
        other.strike(where)
        assert first.read_bytes() == second.read_bytes()


def test_bfloat16_files_are_stored_and_read_as_such(tmp_path: Path) -> None:
    from fetafix.formats.torch import safetensors

    weights = torch.randn(6, 4).bfloat16()
    safetensors.save({"w": weights}, tmp_path / "w.safetensors")
    for plan, bits in ((None, 16), (Plan(FP32), 32), (Plan(BF16, "guard"), 16)):
        wanted = target(tmp_path / "w.safetensors", storing=Storing(plan))
        encode(wanted)
        assert wanted.bits == bits * 24
        with Medium(wanted) as medium:
            medium.strike(np.array([bits * 5 - 1]))  # the sign of the fifth value
            read = safetensors.load(tmp_path / "w.safetensors")["w"]
            medium.heal()
        expected = weights.clone()
        expected[1, 0] *= -1
        assert torch.equal(read, expected)


def test_a_transposed_view_is_struck_where_it_lies(tmp_path: Path) -> None:
    weights = torch.randn(6, 4)
    path = tmp_path / "t.pt"
    torch.save({"w": weights.t()}, path)
    wanted = target(path, storing=Storing(Plan(FP16)))
    encode(wanted)
    with Medium(wanted) as medium:
        medium.strike(np.array([16 * 7 + 15]))  # the sign of the eighth value in C order
        read = torch.load(path)["w"]
    expected = weights.t().half().float().clone()
    expected[1, 1] *= -1
    assert torch.equal(read, expected)


@pytest.mark.parametrize("plan", [None, Plan(FP16)], ids=str)
def test_the_checksums_of_a_savedmodel_are_those_of_what_was_struck(
    plan: Plan | None, tfzoo: Callable[[str], Path], tmp_path: Path
) -> None:
    """TensorFlow verifies one of each variable, and one of the table that they stand in."""
    path = stored.copy(tfzoo("convert") / "saved", tmp_path / "copy")
    wanted = target(path, "tensors" if plan is None else "weights", Storing(plan))
    encode(wanted)
    files = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    whole = tensorflow_reads(path)
    with Medium(wanted) as medium:
        medium.strike(flips(wanted.bits, 200))
        found = tensorflow_reads(path)
        different = {k for k, v in found.items() if v.tobytes() != whole[k].tobytes()}
        assert len(different) >= 3
        medium.heal()
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == files
    variables = path / "variables" / "variables.data-00000-of-00001"
    struck = bytearray(variables.read_bytes())
    struck[next(h for h in stored.held(path) if h.role == "weight").pieces[0][0]] ^= 1
    variables.write_bytes(struck)
    with pytest.raises(Exception, match="Checksum"):
        tensorflow_reads(path)


def tensorflow_reads(path: Path) -> dict[str, np.ndarray]:
    from fetafix.formats.tensorflow import env

    reader = env.load().train.load_checkpoint(str(path / "variables" / "variables"))
    return {k: reader.get_tensor(k) for k, d in reader.get_variable_to_dtype_map().items() if d.is_floating}


@pytest.mark.parametrize("plan", [None, Plan(FP16)], ids=str)
def test_the_checksum_of_a_keras_archive_is_that_of_what_was_struck(
    plan: Plan | None, tfzoo: Callable[[str], Path], tmp_path: Path
) -> None:
    path = stored.copy(tfzoo("convert") / "net.keras", tmp_path / "copy")
    wanted = target(path, storing=Storing(plan))
    encode(wanted)
    whole = path.read_bytes()
    with Medium(wanted) as medium:
        medium.strike(flips(wanted.bits, 20))
        assert path.read_bytes() != whole and zipfile.ZipFile(path).testzip() is None
        medium.heal()
    assert path.read_bytes() == whole and zipfile.ZipFile(path).testzip() is None


def test_scopes(tmp_path: Path) -> None:
    path = model(tmp_path / "copy", "external")
    assert target(path, "constants").bits == 32 * (4 + 5 + 1)
    both = target(path, "tensors", Storing(Plan(FP16)))
    assert both.bits == 16 * (4 * 27 + 5 * 256) + 32 * (4 + 5 + 1) and both.storage.mixed == 3
    whole = target(path, "file")
    assert whole.bits == 8 * sum(p.stat().st_size for p in path.parent.iterdir()) and len(whole.parts) == 2
    with pytest.raises(UsageError, match="own bytes"):
        target(path, "file", Storing(Plan(FP16)))


def test_integers_are_struck_as_they_are_or_refused(tmp_path: Path) -> None:
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    nodes = [helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"]),
             helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = onnx_zoo.single(nodes, {"x": (1, [1, 4])}, {"y": (1, [1, 4])}, {"scale": np.float32(0.5), "codes": codes})
    path = onnx_zoo.save(made, tmp_path / "q.onnx")
    wanted = target(path)
    assert wanted.bits == 8 * 16
    with Medium(wanted) as medium:
        medium.strike(np.array([8 * 5 + 7]))
        read = next(stored.read(h) for h in stored.held(path) if h.name == "codes")
    assert read.reshape(-1)[5] == np.int8(-3 ^ -128) and np.count_nonzero(read != codes) == 1
    with pytest.raises(UsageError, match=r"integers.*--dtype keep"):
        target(path, storing=Storing(Plan(FP16)))


def test_nothing_to_strike_is_said(tmp_path: Path) -> None:
    made = onnx_zoo.single([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, [1, 4])}, {"y": (1, [1, 4])})
    with pytest.raises(UsageError, match="no weights"):
        target(onnx_zoo.save(made, tmp_path / "relu.onnx"))


@pytest.mark.parametrize("scope", ["weights", "tensors", "file"])
@pytest.mark.parametrize("plan", [None, Plan(Q2_5)], ids=str)
def test_check_bytes_are_struck_too_and_mend_what_they_can(tmp_path: Path, scope: str, plan: Plan | None) -> None:
    if scope == "file" and plan is not None:
        return
    path = model(tmp_path)
    plain, wanted = target(path, scope, Storing(plan)), target(path, scope, Storing(plan, 16))
    encode(wanted)
    assert wanted.bits - plain.bits == 8 * 16 * -(-plain.bits // (8 * 239)) and wanted.storage.scheme == "rs"
    before = path.read_bytes()
    few, many = np.arange(8) * 17, flips(wanted.bits, wanted.bits // 10)
    with Medium(wanted) as medium:
        medium.strike(np.append(few[:4], wanted.bits - few[:4][::-1] - 1))
        assert path.read_bytes() == before
        medium.heal()
        medium.strike(many)
        assert path.read_bytes() != before
        medium.heal()
    assert path.read_bytes() == before
