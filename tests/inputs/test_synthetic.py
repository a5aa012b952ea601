"""Made-up samples: determined by seed and index, never constant, valid for what the inputs mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.errors import InputDataError
from fetafix.inputs import natural
from fetafix.inputs.preprocess import parse
from fetafix.inputs.synthetic import DEFAULT_BOUND, SyntheticSource
from fetafix.report import TensorInfo


def spec(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=list(shape))


def made(*inputs: TensorInfo, indices: tuple[int, ...] = tuple(range(12)), **options: object) -> dict[str, np.ndarray]:
    source = SyntheticSource(**options)  # type: ignore[arg-type]
    return dict(source.feeds(indices, list(inputs)).arrays)


INPUTS = (
    spec("image", "N", 3, 20, 24), spec("ids", "N", "seq", dtype="int64"), spec("wave", 1, 1, 257),
    spec("attention_mask", "N", "seq", dtype="int64"), spec("state", 1, 2, 128, 2), spec("scalar", dtype="float32"),
    spec("flag", "N", 9, dtype="bool"),
)  # fmt: skip


def test_a_sample_depends_on_seed_and_index_alone() -> None:
    whole, some = made(*INPUTS, seed=4), made(*INPUTS, seed=4, indices=(7, 2))
    other, alone = made(*INPUTS, seed=5), made(INPUTS[2], seed=4)
    for name, array in whole.items():
        assert np.array_equal(array[[7, 2]], some[name])
        assert not np.array_equal(array, other[name])
    assert np.array_equal(whole["wave"], alone["wave"])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=4).filter(lambda s: np.prod(s) > 1),
    dtype=st.sampled_from(["float32", "float16", "float64", "int64", "int32", "uint8"]),
)
def test_never_constant(seed: int, shape: list[int], dtype: str) -> None:
    array = made(spec("x", "N", *shape, dtype=dtype), indices=(0, 1, 2), seed=seed)["x"]
    assert array.dtype == dtype and array.shape == (3, *shape) and np.isfinite(array).all()
    for item in array:
        assert item.min() < item.max()
    assert not np.array_equal(array[0], array[1]) or array[0].size < 4


@pytest.mark.parametrize("shape", [(1, 3, 32, 40), ("N", 32, 40, 3), (1, 1, 28, 28), (1, 8, 8, 4)])
def test_images_look_like_photographs(shape: tuple) -> None:
    array = made(spec("x", *shape, dtype="uint8"), indices=tuple(range(20)))["x"]
    assert array.shape == (20, *shape[1:])
    means, spreads = array.mean(axis=(1, 2, 3)), array.std(axis=(1, 2, 3))
    assert means.std() > 15 and 60 < means.mean() < 190
    assert spreads.min() > 10 and spreads.std() > 4


def test_natural_statistics() -> None:
    images = [natural.image(np.random.default_rng(i), 128, 128) for i in range(12)]
    near, colours, slopes = [], [], []
    for image in images:
        luma = image.mean(axis=2)
        near.append(np.corrcoef(luma[:, 1:].ravel(), luma[:, :-1].ravel())[0, 1])
        colours.append(np.corrcoef(image.reshape(-1, 3).T)[np.triu_indices(3, 1)].mean())
        spectrum = np.abs(np.fft.fft2(luma - luma.mean()))
        radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None]) * 128
        band = (radius > 2) & (radius < 50)
        slopes.append(np.polyfit(np.log(radius[band]), np.log(spectrum[band] + 1e-9), 1)[0])
    assert np.median(near) > 0.85  # neighbours are alike
    assert np.median(colours) > 0.4  # channels are correlated
    assert -2.0 < np.median(slopes) < -0.7  # amplitude falls as about 1/f


def test_images_go_through_preprocessing() -> None:
    source, x = SyntheticSource(), spec("x", 1, 3, 32, 32)
    raw = source.feeds([0], [spec("x", 1, 3, 32, 32, dtype="uint8")]).arrays["x"].astype(np.float32)
    tf = source.feeds([0], [x], parse("keras-tf"))
    np.testing.assert_allclose(tf.arrays["x"], raw / 127.5 - 1, atol=1e-6)
    assert tf.images == "x" and not tf.assumed and source.feeds([0], [x]).assumed
    assert source.feeds([0], [x], parse("torchvision")).arrays["x"].shape == (1, 3, 32, 32)


def test_ids_are_valid() -> None:
    ids = made(spec("ids", "N", 64, dtype="int64"), spec("u", "N", 64, dtype="int64"), bounds={"ids": 1000})
    assert ids["ids"].min() >= 0 and 900 < ids["ids"].max() < 1000
    assert ids["u"].min() >= 0 and ids["u"].max() == DEFAULT_BOUND - 1
    assert (made(spec("ids", "N", 5, dtype="int64"), bounds={"ids": 1})["ids"] == 0).all()
    assert made(spec("ids", "N", 99, dtype="int8"), bounds={"ids": 30_000})["ids"].min() >= 0


def test_inputs_of_language_models() -> None:
    inputs = [spec(n, "batch", "seq", dtype="int64")
              for n in ("input_ids", "attention_mask", "token_type_ids", "position_ids")]  # fmt: skip
    made_up = made(*inputs, spec("encoder_mask", "batch", "seq"), spec("lengths", "batch", dtype="int32"))
    assert all(a.shape == (12, 16) for n, a in made_up.items() if n != "lengths")
    mask = made_up["attention_mask"]
    assert set(np.unique(mask)) == {0, 1} and (mask[:, 0] == 1).all() and (np.diff(mask) <= 0).all()
    assert made_up["encoder_mask"].dtype == np.float32 and np.array_equal(made_up["encoder_mask"], mask)
    assert (np.diff(made_up["token_type_ids"]) >= 0).all() and set(np.unique(made_up["token_type_ids"])) == {0, 1}
    assert (made_up["position_ids"] == np.arange(16)).all()
    assert made_up["lengths"].shape == (12, 1) and np.array_equal(made_up["lengths"][:, 0], mask.sum(axis=1))


def test_open_dimensions() -> None:
    names = made(spec("a", "N", "T", 4), spec("b", "N", 3, "T"), spec("c", "N", None, 5), sizes={"T": 11})
    assert names["a"].shape == (12, 11, 4) and names["b"].shape == (12, 3, 11) and names["c"].shape == (12, 16, 5)
    image = spec("x", "N", 3, "h", "w")
    assert made(image, indices=(0,))["x"].shape == (1, 3, 224, 224)
    assert made(image, indices=(0,), sizes={"h": 40, "w": 48})["x"].shape == (1, 3, 40, 48)
    with pytest.raises(InputDataError, match="declares no shape"):
        made(TensorInfo(name="x", dtype="float32"))


def test_floats_vary_in_scale_sign_and_sparsity() -> None:
    array = made(spec("x", "N", 400), indices=tuple(range(60)))["x"]
    spreads = array.std(axis=1)
    assert spreads.max() > 4 * spreads.min()
    assert any((row >= 0).all() for row in array) and any((row == 0).mean() > 0.5 for row in array)
    assert (array < 0).any(axis=1).sum() > 30


def test_the_report_calls_it_weaker() -> None:
    source = SyntheticSource(seed=7)
    assert "weaker evidence" in source.origin and "seed 7" in source.origin and not source.skipped
    assert len(source) > 100_000 and source.usable([5, 6]) == [5, 6]


def test_progress_is_told() -> None:
    ticks: list[tuple[int, int]] = []
    SyntheticSource().feeds([0, 1, 2], [spec("x", 1, 3, 8, 8)], None, lambda done, total: ticks.append((done, total)))
    assert ticks == [(1, 3), (2, 3), (3, 3)]
