"""Equal values are recognised whatever their layout, and strangers are not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fetafix.graph.fingerprint import Index, compare, distance, fingerprint, layouts, relate

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def values(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(SHAPES, st.integers(0, 99), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_no_permutation_changes_a_fingerprint(shape: tuple[int, ...], seed: int, random: object) -> None:
    x = values(shape, seed)
    shuffled = np.random.default_rng(seed + 1).permutation(x.ravel()).reshape(shape[::-1])
    assert distance(fingerprint(x), fingerprint(shuffled)) < 1e-5


@given(SHAPES, st.integers(0, 99), st.data())
@settings(max_examples=80, deadline=None)
def test_the_layout_of_a_transposed_tensor_is_found(shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    assume(np.prod(shape) > 1)
    x = values(shape, seed)
    perm = data.draw(st.permutations(range(len(shape))))
    moved = np.ascontiguousarray(x.transpose(perm))
    found = list(compare(moved, x, 1e-6))
    assert found
    for layout, error in found:
        assert error < 1e-6
        assert np.array_equal(relate(x, layout, moved.shape), moved)


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_merged_axes_are_seen_through(shape: tuple[int, ...], seed: int) -> None:
    assume(np.prod(shape) > 1)
    x = values(shape, seed)
    flat = x.reshape(shape[0], -1)
    assert any(np.array_equal(relate(x, layout, flat.shape), flat) for layout, _ in compare(flat, x, 1e-6))


def test_flattening_in_the_other_order_is_a_layout_too() -> None:
    x = values((2, 3, 4, 5), 0)
    flat = x.transpose(0, 2, 3, 1).reshape(2, -1)
    (layout,) = [layout for layout, _ in compare(flat, x, 1e-6)]
    assert layout.perm == (0, 2, 3, 1)
    assert layout.reshaped


def test_strangers_are_told_apart() -> None:
    assert not list(compare(values((2, 3, 4), 0), values((2, 3, 4), 1), 1e-3))
    assert not list(layouts((2, 3), (7,)))


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 3, 3)])
def test_every_layout_gives_the_target_its_shape(shape: tuple[int, ...]) -> None:
    for perm in permutations(range(3)):
        target = tuple(shape[p] for p in perm)
        for layout in layouts(shape, target):
            assert relate(values(shape, 0), layout, target).shape == target


def test_the_index_finds_the_nearest_of_equal_size() -> None:
    index = Index()
    stored = {f"s{i}": values((4, 5), i) for i in range(6)}
    for name, value in stored.items():
        index.add(name, value)
    assert next(iter(index.near(stored["s3"].T + np.float32(1e-6), 1e-3))) == "s3"
    assert not list(index.near(values((4, 6), 0), 1.0))


def test_what_is_not_finite_matches_nothing() -> None:
    x = values((3, 4), 0)
    broken = x.copy()
    broken[0, 0] = np.nan
    assert distance(fingerprint(broken), fingerprint(x)) == float("inf")
    assert not list(compare(broken, x, 1e-3))
