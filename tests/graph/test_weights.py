"""Reorderings are recognised and undone, for random shapes, with float noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.graph.weights import alike, blocks, close, deviation, flatten_orders, permutation

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**16)


def weight(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_recovered(moved: np.ndarray, reference: np.ndarray) -> None:
    found = permutation(moved, reference)
    if close(moved, reference):
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found.undo(moved, reference.shape), reference, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(shapes, seeds, st.data())
def test_transposed_bytes_are_undone(shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    reference = weight(shape, seed)
    perm = data.draw(st.permutations(range(len(shape))))
    assert_recovered(np.ascontiguousarray(reference.transpose(perm)).reshape(shape), reference)


@settings(max_examples=40, deadline=None)
@given(shapes, seeds, st.data())
def test_flips_with_noise_are_undone(shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    reference = weight(shape, seed)
    axes = data.draw(st.sets(st.sampled_from(range(len(shape)))))
    noise = 1 + 1e-7 * np.random.default_rng(seed + 1).standard_normal(shape)
    assert_recovered((np.flip(reference, tuple(axes)) * noise).astype(np.float32), reference)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 6), seeds)
def test_rows_in_any_order_are_undone(rows: int, columns: int, seed: int) -> None:
    reference = weight((rows, columns), seed)
    assert_recovered(reference[np.random.default_rng(seed).permutation(rows)], reference)


@pytest.mark.parametrize(("moved", "kind"), [
    (lambda w: w[:, :, ::-1, ::-1], "flip"),
    (lambda w: w.transpose(0, 1, 3, 2), "axes"),
    (lambda w: w.transpose(2, 3, 1, 0).reshape(w.shape), "layout"),
    (lambda w: blocks(w, 0, 2), "blocks"),
    (lambda w: np.roll(w, 2, 0), "roll"),
])
def test_names_of_reorderings(moved, kind: str) -> None:
    reference = weight((6, 4, 3, 3), 0)
    found = permutation(np.ascontiguousarray(moved(reference)), reference)
    assert found is not None and found.kind == kind


def test_other_values_are_no_reordering() -> None:
    reference = weight((4, 3), 0)
    assert permutation(reference + 0.01, reference) is None
    assert permutation(reference, reference) is None
    assert not alike(reference, reference[:3])


def test_not_finite() -> None:
    reference = weight((4,), 0)
    broken = np.where(np.arange(4) == 1, np.nan, reference)
    assert deviation(broken, reference) == np.inf
    assert deviation(broken, broken) == 0


def test_flatten_orders_begin_with_the_maps_own() -> None:
    orders = list(flatten_orders(24, [(2, 3, 4), (24,), (5, 5)]))
    assert len(orders) == 6
    np.testing.assert_array_equal(orders[0][1], np.arange(24))
