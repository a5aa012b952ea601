"""Both models get the same underlying samples, whatever their names, layouts, sizes and dtypes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fetafix.errors import InputDataError
from fetafix.inputs.array_source import ArraySource
from fetafix.inputs.pairing import Side, bind, pair_feeds, reconcile, relation
from fetafix.inputs.preprocess import parse
from fetafix.inputs.samples import Pixels, SampleSet
from fetafix.inputs.sources import open_source
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.report import TensorInfo


def spec(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=list(shape))


def one_input(array: np.ndarray, source: TensorInfo, target: TensorInfo, *rows: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = pair_feeds(ArraySource({"": array}, "test"), rows or (0, 1), Side([source]), Side([target]))
    return first.arrays[source.name], second.arrays[target.name]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png")  # fmt: skip
    return tmp_path


def test_images_in_both_layouts(folder: Path) -> None:
    sides = Side([spec("x", "N", 3, 16, 16)], parse("torchvision")), Side([spec("y", 1, 16, 16, 3)])
    first, second = pair_feeds(open_source(folder, trust=False), [2, 0], *sides)
    assert np.array_equal(first.arrays["x"].transpose(0, 2, 3, 1), second.arrays["y"])
    assert first.indices == second.indices == (2, 0)
    assert second.preprocess == parse("torchvision") and not second.assumed  # taken over from the source


def test_each_model_has_its_own_preprocessing(folder: Path) -> None:
    source = Side([spec("x", "N", 3, 24, 30)], parse("raw"))
    target = Side([spec("x", "N", 3, 24, 30)], parse("keras-tf,color=bgr"))
    first, second = pair_feeds(open_source(folder, trust=False), [1], source, target)
    np.testing.assert_allclose(second.arrays["x"], first.arrays["x"][:, ::-1] / 127.5 - 1, atol=1e-6)


def test_a_broken_image_is_missing_on_both_sides(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    sides = Side([spec("x", "N", 3, 16, 16)]), Side([spec("x", "N", 16, 16, 3)])
    first, second = pair_feeds(open_source(folder, trust=False), [0, 1, 2], *sides)
    assert first.indices == second.indices == (0, 2) and len(first) == len(second.arrays["x"]) == 2


def test_sizes_come_from_the_model_that_knows_them(folder: Path) -> None:
    source = open_source(folder, trust=False)
    unknown = TensorInfo(name="x", dtype="float32")
    for open_spec in (spec("x", "N", 3, "H", "W"), spec("x", None, None, None, None), unknown):
        fixed = spec("y", 1, 3, 20, 28)
        for pair in ((open_spec, fixed), (fixed, open_spec)):
            first, second = pair_feeds(source, [0], Side([pair[0]]), Side([pair[1]]))
            assert first.arrays[pair[0].name].shape == second.arrays[pair[1].name].shape == (1, 3, 20, 28)


def test_quantised_target_gets_codes(folder: Path) -> None:
    sides = Side([spec("x", "N", 3, 16, 16)]), Side([spec("x", 1, 16, 16, 3, dtype="uint8")])
    first, second = pair_feeds(open_source(folder, trust=False), [0], *sides)
    np.testing.assert_allclose(first.arrays["x"].transpose(0, 2, 3, 1) * 255, second.arrays["x"], atol=1e-4)
    assert first.assumed and second.assumed


def test_a_file_serves_both_models(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(5, 3, 8, 8))
    source = open_source(tmp_path / "a.npy", trust=False)
    sides = Side([spec("x", "N", 3, 8, 8)]), Side([spec("other", 1, 3, 8, 8)])
    first, second = pair_feeds(source, [4, 1], *sides)
    assert first.files["x"] == second.files["other"] == tmp_path / "a.npy" and first.rows == second.rows == (4, 1)
    _, moved = pair_feeds(source, [4, 1], sides[0], Side([spec("other", 1, 8, 8, 3)]))
    assert not moved.files and np.array_equal(moved.arrays["other"], values(5, 3, 8, 8)[[4, 1]].transpose(0, 2, 3, 1))


def test_rows_in_the_targets_layout_serve_both(tmp_path: Path) -> None:
    array = values(3, 8, 8, 3)
    first, second = one_input(array, spec("x", "N", 3, 8, 8), spec("x", "N", 8, 8, 3))
    assert np.array_equal(second, array[:2]) and np.array_equal(first, array[:2].transpose(0, 3, 1, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_transport_follows_the_declared_layouts(item: list[int], last: bool, whole: bool) -> None:
    moves = (*range(1, len(item)), 0), (len(item) - 1, *range(len(item) - 1))  # channels last, channels first
    perm = moves[0] if last else moves[1]
    lead: tuple[int | str, ...] = (6,) if whole else ("N",)
    turned = [item[p] for p in perm]
    array = values(3, *((6,) if whole else ()), *item)
    first, second = one_input(array, spec("x", *lead, *item), spec("x", *lead, *turned))
    assert np.array_equal(first, array[:2])
    if turned == item:
        assert np.array_equal(second, first)
    else:
        skip = 2 if whole else 1
        expected = first.transpose(*range(skip), *(p + skip for p in perm))
        # Where both moves fit the declared shapes, either is right.
        choices = [first.transpose(*range(skip), *(p + skip for p in move)) for move in moves]
        assert second.shape == expected.shape and any(np.array_equal(second, c) for c in choices)


def test_other_forms_of_the_same_values() -> None:
    array = values(3, 1, 28, 28)
    _, flat = one_input(array, spec("x", "N", 1, 28, 28), spec("x", "N", 784))
    assert np.array_equal(flat, array[:2].reshape(2, 784))
    _, half = one_input(array, spec("x", "N", 1, 28, 28), spec("x", "N", 28, 28, 1, dtype="float16"))
    assert np.array_equal(half, array[:2].transpose(0, 2, 3, 1).astype(np.float16))
    _, repeated = one_input(array, spec("x", 1, 1, 28, 28), spec("x", 4, 1, 28, 28))
    assert repeated.shape == (2, 4, 1, 28, 28) and (repeated == array[:2, None]).all()
    filled, repeated = one_input(array, spec("x", "N", 1, 28, 28), spec("x", 4, 1, 28, 28))
    assert filled.shape == repeated.shape == (2, 4, 1, 28, 28)
    _, single = one_input(np.repeat(array[:, None], 4, axis=1), spec("x", 4, 1, 28, 28), spec("x", 1, 1, 28, 28))
    assert np.array_equal(single, array[:2])


def test_arrays_cannot_be_resized() -> None:
    with pytest.raises(InputDataError, match="arrays cannot be resized, so give a folder of images"):
        one_input(values(2, 5, 16, 16), spec("x", "N", 5, 16, 16), spec("x", "N", 5, 20, 20))


def test_but_arrays_of_images_are_for_a_target_of_another_size(tmp_path: Path) -> None:
    array = values(2, 3, 16, 16)
    first, second = one_input(array, spec("x", "N", 3, 16, 16), spec("x", "N", 20, 24, 3))
    assert first.shape == (2, 3, 16, 16) and second.shape == (2, 20, 24, 3)
    assert np.allclose(second.mean((1, 2)), first.mean((2, 3)), atol=0.2 * first.std())
    flat = np.full((2, 3, 16, 16), 7, np.float32)
    assert (one_input(flat, spec("x", "N", 3, 16, 16), spec("x", "N", 3, 9, 32))[1] == 7).all()
    np.save(tmp_path / "x.npy", array)
    sides = Side([spec("x", "N", 3, 16, 16)]), Side([spec("x", "N", 3, 20, 20)])
    notes = pair_feeds(open_source(tmp_path / "x.npy", trust=False), [0, 1], *sides)[1].notes
    assert any("were resized to [3, 20, 20]" in n for n in notes)


def test_several_inputs_by_binding(tmp_path: Path) -> None:
    ours = [spec("a", "N", 4, 9), spec("b", "N", 4, 9), spec("len", "N", 1, dtype="int64")]
    theirs = [spec("n", "N", 1, dtype="int32"), spec("p", "N", 9, 4), spec("q", "N", 4, 9)]
    np.savez(tmp_path / "d.npz", a=values(3, 4, 9), b=values(3, 4, 9) + 1, n=np.arange(3)[:, None])
    source = open_source(tmp_path / "d.npz", trust=False)  # the third array goes by the target's name
    binding = {"p": "b", "q": "a", "n": "len"}
    first, second = pair_feeds(source, [2, 0], Side(ours), Side(theirs, binding=binding))
    assert np.array_equal(second.arrays["p"], first.arrays["b"].transpose(0, 2, 1))
    assert np.array_equal(second.arrays["q"], first.arrays["a"])
    assert second.arrays["n"].dtype == np.int32 and np.array_equal(second.arrays["n"], [[2], [0]])
    assert list(second.arrays) == ["n", "p", "q"]


def test_synthetic_samples_are_the_same_for_both() -> None:
    source = SyntheticSource(seed=3)
    ours = [spec("image", 1, 3, 32, 32), spec("state", 1, 2, 8)]
    theirs = [spec("state_1", "N", 8, 2), spec("image_1", "N", 32, 32, 3)]
    binding = {"state_1": "state", "image_1": "image"}
    first, second = pair_feeds(source, [5, 9], Side(ours), Side(theirs, binding=binding))
    assert np.array_equal(second.arrays["image_1"], first.arrays["image"].transpose(0, 2, 3, 1))
    assert np.array_equal(second.arrays["state_1"], first.arrays["state"].transpose(0, 2, 1))
    flat = pair_feeds(source, [5], Side(ours[:1]), Side([spec("v", "N", 3 * 32 * 32)]))[1]
    assert np.array_equal(flat.arrays["v"][0], first.arrays["image"][0].ravel())


def test_binding_by_name_then_order() -> None:
    source, target = [spec("a", 1, 2), spec("b", 1, 2)], [spec("z", 1, 2), spec("a", 1, 2)]
    assert bind(source, target) == {"z": "b", "a": "a"}
    with pytest.raises(InputDataError, match="the source has no input 'bb'; did you mean 'b'"):
        bind(source, target, {"z": "bb", "a": "a"})
    with pytest.raises(InputDataError, match="target input 'z' is bound to no input"):
        bind(source, target, {"a": "a"})
    with pytest.raises(InputDataError, match="target input 'y' is bound to no input"):
        bind(source[:1], [spec("a", 1, 2), spec("y", 1, 2)])


def test_what_one_model_knows_the_other_learns() -> None:
    ours = [spec("ids", "batch", "seq", dtype="int64"), spec("mask", "batch", "seq", dtype="int64")]
    theirs = [spec("ids", 1, 32, dtype="int64"), TensorInfo(name="mask", dtype="int64")]
    a, b = reconcile(ours, theirs, {"ids": "ids", "mask": "mask"}, {})
    assert [s.shape for s in a] == [["batch", 32], ["batch", 32]]
    assert b[0].shape == [1, 32] and b[1].shape == ["batch", "seq"]
    a, _ = reconcile(ours, [], {}, {"seq": 7, "batch": 3})
    assert a[0].shape == ["batch", 7]


@pytest.mark.parametrize(
    ("source", "target", "perm"),
    [
        (("N", 3, 8, 9), (1, 8, 9, 3), (0, 2, 3, 1)),
        ((1, 8, 9, 3), (None, 3, 8, 9), (0, 3, 1, 2)),
        ((1, 3, 3, 3), (1, 3, 3, 3), (0, 1, 2, 3)),
        ((4, 3, 8, 9), (4, 8, 9, 3), (0, 2, 3, 1)),
        ((3, 8, 9), (8, 9, 3), (1, 2, 0)),
        ((1, 3, 8, 9), (1, 3, 9, 8), None),
        ((1, 3, 8), (1, 3, 8, 1), None),
    ],
)
def test_relation(source: tuple, target: tuple, perm: tuple | None) -> None:
    assert relation(spec("a", *source), spec("b", *target)) == perm


def test_uint8_arrays_with_preprocessing_go_through_it_for_both() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    source = ArraySource({"": pixels}, "test")
    sides = Side([spec("x", "N", 3, 16, 16)]), Side([spec("x", "N", 20, 20, 3)], parse("unit"))
    first, second = pair_feeds(source, [0, 2], *sides)
    assert first.arrays["x"].shape == (2, 3, 16, 16) and second.arrays["x"].shape == (2, 20, 20, 3)
    assert isinstance(source.draw([0], sides[0].specs, pixels=True).parts["x"], Pixels)


def test_taking_some_keeps_everything_else() -> None:
    samples = SyntheticSource().feeds([4, 5, 6], [spec("x", 1, 3, 8, 8), spec("n", 4)])
    some = samples.take([2, 0])
    assert isinstance(some, SampleSet) and some.indices == (6, 4) and some.notes == samples.notes
    assert all(np.array_equal(some.arrays[n], samples.arrays[n][[2, 0]]) for n in ("x", "n"))


def test_sample_sets_travel_between_processes_without_the_files_content(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(50, 1000))
    samples = open_source(tmp_path / "a.npy", trust=False).feeds([40, 3], [spec("x", "N", 1000)])
    content = pickle.dumps(samples)
    assert len(content) < 2000
    assert np.array_equal(pickle.loads(content).arrays["x"], values(50, 1000)[[40, 3]])
