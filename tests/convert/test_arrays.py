"""Samples find the inputs that they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.convert.arrays import fitted, turned

IMAGE = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def test_images_are_turned_to_the_layout_of_the_model() -> None:
    assert turned(IMAGE, (None, 3, 4, 5)) is IMAGE
    assert np.array_equal(turned(IMAGE, (-1, 4, 5, 3)), IMAGE.transpose(0, 2, 3, 1))
    assert np.array_equal(turned(IMAGE.transpose(0, 2, 3, 1), ("N", 3, 4, 5)), IMAGE)
    assert turned(IMAGE, (None, 7, 7, 3)) is None


def test_by_name_then_by_shape_then_by_order() -> None:
    other = np.zeros((2, 6), np.float32)
    samples = {"image": IMAGE, "state": other}
    assert [a.shape for a in fitted(samples, [("state", None), ("x", None)])] == [(2, 6), (2, 3, 4, 5)]
    assert [a.shape for a in fitted(samples, [("a", (1, 6)), ("b", (1, 4, 5, 3))])] == [(2, 6), (2, 4, 5, 3)]
    assert [a.shape for a in fitted(samples, [("a", None), ("b", None)])] == [(2, 3, 4, 5), (2, 6)]


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="2 inputs, and samples exist for 1"):
        fitted({"a": IMAGE}, [("a", None), ("b", None)])
