"""What --data may name, what each kind gives to one model, and what is said where it does not suit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fetafix.errors import InputDataError, UsageError
from fetafix.inputs.preprocess import apply, parse
from fetafix.inputs.samples import SampleSet
from fetafix.inputs.sources import Source, open_source
from fetafix.inputs.splits import draw_from
from fetafix.report import TensorInfo


def spec(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=list(shape))


NCHW = spec("x", "N", 3, 16, 16)


def values(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def opened(path: Path, array: np.ndarray, **options: object) -> Source:
    np.save(path / "data.npy", array)
    return open_source(path / "data.npy", trust=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    return tmp_path


def test_a_folder_skips_and_names_what_is_broken(folder: Path) -> None:
    source = open_source(folder, trust=False)
    assert (source.kind, len(source)) == ("images", 5) and str(folder) in source.origin
    samples = source.feeds([4, 2, 0], [NCHW], parse("torchvision"))
    assert samples.indices == (4, 0) and samples.arrays["x"].shape == (2, 3, 16, 16)
    assert samples.images == "x" and not samples.assumed and samples.stackable
    assert len(source.skipped) == 1 and source.skipped[0].startswith("2.png: not an image")
    assert source.usable(range(5)) == [0, 1, 3, 4]
    expected = apply(parse("torchvision"), np.asarray(Image.open(folder / "4.png")), NCHW)
    assert np.array_equal(samples.arrays["x"][:1], expected)


def test_a_draw_replaces_what_is_broken_and_names_it_where_too_few_remain(folder: Path) -> None:
    ticks: list[tuple[int, int]] = []
    source = open_source(folder, trust=False)
    (split,) = draw_from(source, 4, 0, progress=lambda done, total: ticks.append((done, total)))
    assert split.indices == (0, 1, 3, 4) and ticks
    for name in ("0", "1", "3"):
        (folder / f"{name}.png").write_bytes(b"")
    with pytest.raises(InputDataError) as caught:
        draw_from(open_source(folder, trust=False), 4, 0)
    assert "1 of 5 samples can be read, expected at least 2: 0.png: the file is empty; 1.png" in str(caught.value)


def test_nothing_readable_is_an_error(folder: Path) -> None:
    with pytest.raises(InputDataError, match=r"no image could be read; 2\.png: not an image"):
        open_source(folder, trust=False).feeds([2], [NCHW])


def test_assumed_preprocessing_is_said(folder: Path) -> None:
    samples = open_source(folder, trust=False).feeds([0], [NCHW])
    assert samples.assumed and any("no preprocessing was given" in n for n in samples.notes)
    assert 0 <= samples.arrays["x"].min() < 0.3 and 0.7 < samples.arrays["x"].max() <= 1


def test_one_image_file(folder: Path) -> None:
    source = open_source(folder / "1.png", trust=False)
    assert len(source) == 1 and source.feeds([0], [NCHW]).arrays["x"].shape == (1, 3, 16, 16)


def test_images_need_one_image_input(folder: Path) -> None:
    source = open_source(folder, trust=False)
    inputs = r"x \[N, 3, 16, 16\] float32, y \[1, 4\] float32; give one array per input"
    with pytest.raises(InputDataError, match=inputs):
        source.feeds([0], [NCHW, spec("y", 1, 4)])


def test_rows_that_suit_stay_in_their_file(tmp_path: Path) -> None:
    array = values(10, 3, 16, 16)
    source = opened(tmp_path, array)
    assert source.kind == "array" and len(source) == 10
    samples = source.feeds([7, 2, 3], [NCHW])
    assert samples.files == {"x": tmp_path / "data.npy"} and samples.rows == (7, 2, 3)
    assert np.array_equal(samples.arrays["x"], array[[7, 2, 3]])
    following = source.feeds([2, 3, 4], [NCHW]).arrays["x"]
    assert isinstance(following, np.memmap) and np.array_equal(following, array[2:5])
    fewer = samples.take([2, 0])
    assert fewer.rows == (3, 7) and fewer.files == samples.files and fewer.indices == (3, 7)
    assert np.array_equal(fewer.arrays["x"], array[[3, 7]])


@pytest.mark.parametrize("declared", [("N", 16, 16, 3), (1, None, None, 3)])
def test_the_other_layout_is_transposed(tmp_path: Path, declared: tuple) -> None:
    array = values(4, 3, 16, 16)
    samples = opened(tmp_path, array).feeds([1, 3], [spec("x", *declared)])
    assert not samples.files and np.array_equal(samples.arrays["x"], array[[1, 3]].transpose(0, 2, 3, 1))
    assert any("transposed" in n for n in samples.notes)


@pytest.mark.parametrize(
    ("shape", "declared", "item", "batched"),
    [
        ((4, 1, 3, 8, 8), (1, 3, 8, 8), (3, 8, 8), True),  # rows with the batch axis of 1
        ((4, 5), (None, 5), (5,), True),
        ((4, 5), (-1, 5), (5,), True),
        ((4, 5), (5,), (5,), False),  # rank 1: the whole tensor
        ((4,), (), (), False),
        ((4, 2, 5), (2, 5), (2, 5), False),  # a fixed first dimension
        ((4, 3, 8, 8), (2, 3, 8, 8), (2, 3, 8, 8), False),  # items repeated to fill it
    ],
)
def test_batch_axis(tmp_path: Path, shape: tuple, declared: tuple, item: tuple, batched: bool) -> None:
    array = values(*shape)
    samples = opened(tmp_path, array).feeds([2, 1], [spec("x", *declared)])
    assert samples.arrays["x"].shape == (2, *item) and samples.batched == {"x": batched}
    one = samples.feed(0)["x"]
    assert one.shape == ((1, *item) if batched else item)
    assert np.array_equal(np.broadcast_to(array[2], one.shape), one)
    if batched:
        assert samples.feed(0, 2)["x"].shape == (2, *item)
    else:
        with pytest.raises(ValueError, match="no batch axis"):
            samples.feed(0, 2)


def test_an_undeclared_shape_takes_rows_as_they_are(tmp_path: Path) -> None:
    samples = opened(tmp_path, values(4, 7, 2)).feeds([0], [TensorInfo(name="x", dtype="float32")])
    assert samples.arrays["x"].shape == (1, 7, 2) and samples.batched["x"]


@pytest.mark.parametrize(
    ("shape", "declared", "says"),
    [
        ((4, 3, 20, 20), ("N", 3, 16, 16), "expected [samples, 3, 16, 16] for input 'x', found [4, 3, 20, 20]; height"),
        ((3, 16, 16), ("N", 3, 16, 16), "looks like a single sample"),
        ((4, 7), ("N", 8), "axis 0 counts the samples"),
        ((4, 3, 3, 8), ("N", 8, 8, 3), "expected [samples, 8, 8, 3]"),
        ((4, 3, 8), ("N", 8, 3), "expected [samples, 8, 3]"),  # rank 2: nothing says that it is a layout
    ],
)
def test_a_shape_that_does_not_suit(tmp_path: Path, shape: tuple, declared: tuple, says: str) -> None:
    with pytest.raises(InputDataError) as caught:
        opened(tmp_path, values(*shape)).feeds([0], [spec("x", *declared)])
    assert says in str(caught.value) and "data.npy" in str(caught.value)


def test_dtypes_are_cast_where_values_survive(tmp_path: Path) -> None:
    def fed(array: np.ndarray, dtype: str) -> np.ndarray:
        padded = np.concatenate([np.zeros_like(array), np.zeros_like(array[:1]), array])
        return opened(tmp_path, padded).feeds([3, 4], [spec("x", "N", 2, dtype=dtype)]).arrays["x"]

    floats = np.asarray([[0.1, 2.0], [3.0, -4.5]])
    assert np.array_equal(fed(floats, "float32"), floats.astype(np.float32))
    assert fed(floats, "float16").dtype == np.float16 and fed(floats, "bfloat16").dtype.name == "bfloat16"
    assert np.array_equal(fed(np.asarray([[1.0, 2.0], [3.0, 4.0]]), "int64"), [[1, 2], [3, 4]])
    assert fed(np.asarray([[1, 0], [0, 1]]), "bool").dtype == bool
    assert fed(np.asarray([[1, 200], [0, 1]], np.uint8), "float32").max() == 200
    for array, dtype, says in (
        (floats, "int64", "sample 3 holds 0.1 at [0]"),
        (np.asarray([[1, 300], [0, 1]]), "uint8", "sample 3 holds 300 at [1]"),
        (np.asarray([[np.nan, 3], [0, 1]]), "int32", "holds nan at [0]"),
        (np.asarray([[1, 2], [0, 1]]), "bool", "holds 2 at [1]"),
        (np.asarray([[1e9, 3], [0, 1]]), "float16", "exceeds its range"),
    ):
        with pytest.raises(InputDataError) as caught:
            fed(array, dtype)
        assert says in str(caught.value)
    with pytest.raises(InputDataError, match="takes string; only real numbers"):
        fed(floats, "string")


def test_nan_is_allowed_and_noted(tmp_path: Path) -> None:
    array = values(4, 3)
    array[1, 2], array[3] = np.nan, np.inf
    samples = opened(tmp_path, array).feeds([0, 1, 3], [spec("x", "N", 3)])
    assert samples.notes == (f"{tmp_path / 'data.npy'} (4 samples): 2 of 3 samples for input 'x' hold NaN or infinity",)
    assert samples.files


def test_uint8_arrays_are_images_once_preprocessing_is_given(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    for array in (pixels, pixels.transpose(0, 3, 1, 2)):
        samples = opened(tmp_path, array).feeds([2, 0], [NCHW], parse("keras-tf"))
        assert samples.images == "x"
        assert np.array_equal(samples.arrays["x"], apply(parse("keras-tf"), pixels[[2, 0]], NCHW))
    plain = opened(tmp_path, pixels).feeds([0], [spec("x", 1, 20, 24, 3)])
    assert not plain.images and np.array_equal(plain.arrays["x"][0], pixels[0])


def test_npz_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", ids=np.arange(12).reshape(4, 3), mask=np.ones((4, 3), bool), labels=np.arange(4))
    source = open_source(tmp_path / "d.npz", trust=False)
    assert source.kind == "arrays" and len(source) == 4
    inputs = [spec("ids", "N", 3, dtype="int64"), spec("mask", "N", 3, dtype="bool")]
    samples = source.feeds([3, 1], inputs)
    assert np.array_equal(samples.arrays["ids"], [[9, 10, 11], [3, 4, 5]]) and samples.arrays["mask"].dtype == bool
    assert any("unused array(s) labels" in n for n in samples.notes)
    with pytest.raises(InputDataError, match="no array for input 'masks'; did you mean 'mask'"):
        source.feeds([0], [inputs[0], spec("masks", "N", 3)])


def test_one_array_serves_whatever_single_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", anything=values(4, 3))
    assert open_source(tmp_path / "d.npz", trust=False).feeds([0], [spec("x", "N", 3)]).arrays["x"].shape == (1, 3)
    with pytest.raises(InputDataError, match=r"one array for 2 inputs \(x, y\); give them as .npz"):
        opened(tmp_path, values(4, 3)).feeds([0], [spec("x", "N", 3), spec("y", "N", 3)])


class Exploit:
    """Unpickling an instance would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = np.asarray([Exploit(tmp_path / "pwned")], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=trap)
    (tmp_path / "renamed.png").write_bytes((tmp_path / "a.npy").read_bytes())
    for name in ("a.npy", "a.npz", "renamed.png"):
        with pytest.raises(InputDataError, match="unpickling them would run code"):
            open_source(tmp_path / name, trust=True)
    assert not (tmp_path / "pwned").exists()


def damaged(tmp_path: Path) -> dict[str, bytes]:
    np.save(tmp_path / "a.npy", values(10, 30))
    np.savez(tmp_path / "a.npz", x=values(10, 30))
    npy, npz = (tmp_path / "a.npy").read_bytes(), (tmp_path / "a.npz").read_bytes()
    return {
        "empty": b"", "text": b"hello, world", "npy cut in the data": npy[:500], "npy cut in the header": npy[:50],
        "npy cut in the magic": npy[:7], "npz cut": npz[:200], "npz flipped": npz[:300] + b"\0\1\2" + npz[303:],
    }  # fmt: skip


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for what, content in damaged(tmp_path).items():
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InputDataError) as caught:
            open_source(tmp_path / "bad", trust=False)
        assert str(tmp_path / "bad") in str(caught.value), what
        expected = "an empty file" if what == "empty" else "begins with" if what == "text" else "damaged or truncated"
        assert expected in str(caught.value), what


def test_arrays_that_cannot_be_samples(tmp_path: Path) -> None:
    for array, says in (
        (np.zeros((0, 3)), "holds no samples"),
        (np.float32(3), "is a single number"),
        (np.asarray(["a", "b"]), "expected real numbers"),
        (np.zeros(3, complex), "expected real numbers"),
    ):
        with pytest.raises(InputDataError, match=says):
            opened(tmp_path, np.asarray(array))
    np.savez(tmp_path / "d.npz", a=values(3, 1), b=values(4, 1))
    with pytest.raises(InputDataError, match=r"the same number of samples .*'a': 3, 'b': 4"):
        open_source(tmp_path / "d.npz", trust=False)
    np.savez(tmp_path / "d.npz")
    with pytest.raises(InputDataError, match="it holds none"):
        open_source(tmp_path / "d.npz", trust=False)


def test_a_missing_path_names_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputDataError, match=r"no such file or folder; did you mean .*images"):
        open_source(tmp_path / "image", trust=False)


LOADER = """
import numpy as np
def rows(): return np.arange(12, dtype=np.float32).reshape(4, 3)
def named(): return {"x": np.ones((2, 3)), "y": np.zeros((2, 1))}
def samples():
    for i in range(5): yield np.full(3, i)
def dicts(): return [{"x": np.full(3, i), "y": [i]} for i in range(3)]
def pixels():
    from PIL import Image
    yield Image.fromarray(np.full((9, 12, 3), 7, np.uint8))
    yield Image.fromarray(np.full((12, 9), 9, np.uint8))
def arrays_as_pixels(): return [np.full((10 + i, 12, 3), i, np.uint8) for i in range(3)]
def endless():
    while True: yield np.zeros(2)
def ragged(): return [np.zeros(2), np.zeros(3)]
def nothing(): return []
def words(): return ["a", "b"]
def fails(): raise KeyError("lost")
def lacks(): return [{"x": [1]}, {"z": [1]}]
"""


def loaded(folder: Path, name: str) -> Source:
    (folder / "my_loader.py").write_text(LOADER)
    return open_source(f"{folder / 'my_loader.py'}:{name}", trust=True)


def fed(source: Source, *inputs: TensorInfo) -> SampleSet:
    return source.feeds(range(len(source)), list(inputs))


def test_what_a_loader_may_return(tmp_path: Path) -> None:
    assert fed(loaded(tmp_path, "rows"), spec("a", "N", 3)).arrays["a"].shape == (4, 3)
    x, y = spec("x", "N", 3), spec("y", "N", 1)
    assert fed(loaded(tmp_path, "named"), x, y).arrays["y"].shape == (2, 1)
    assert np.array_equal(fed(loaded(tmp_path, "samples"), x).arrays["x"][:, 0], range(5))
    assert np.array_equal(fed(loaded(tmp_path, "dicts"), x, y).arrays["y"], [[0], [1], [2]])
    assert len(loaded(tmp_path, "endless")) == 10_000
    for name, count in (("pixels", 2), ("arrays_as_pixels", 3)):
        source = loaded(tmp_path, name)
        assert source.kind == "loader" and fed(source, NCHW).arrays["x"].shape == (count, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ragged", "samples must have one shape"), ("nothing", "gave no samples"), ("words", "expected arrays of"),
        ("fails", "raised KeyError: 'lost'"), ("row", "has no function 'row'; did you mean 'rows'"),
        ("lacks", "expected arrays of numbers"),
    ],
)  # fmt: skip
def test_a_loader_that_does_not_work(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(InputDataError) as caught:
        loaded(tmp_path, name)
    assert says in str(caught.value)


def test_a_loader_is_code_and_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_loader.py").write_text("open('ran', 'w')\ndef f(): return [[1.0]]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--trust"):
        open_source("beside_loader:f", trust=False)
    assert not (tmp_path / "ran").exists()
    assert len(open_source("beside_loader:f", trust=True)) == 1 and (tmp_path / "ran").exists()
    with pytest.raises(InputDataError, match="cannot import 'no_such_module'"):
        open_source("no_such_module:f", trust=True)
