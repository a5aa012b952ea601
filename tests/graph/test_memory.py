"""Bytes read some places beside where they were written."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.graph.memory import bytes_off

REFERENCE = np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32)
NOISE = 1e-5


def late(reference: np.ndarray, count: int) -> np.ndarray:
    """The tensor as read `count` bytes late; what lies behind it in the file follows."""
    raw = np.frombuffer(reference.tobytes() + np.full(count, 0x3F, np.uint8).tobytes(), np.uint8)[count:]
    return np.frombuffer(raw.tobytes(), np.float32).reshape(reference.shape)


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_the_offset_is_told_in_bytes(count: int) -> None:
    assert bytes_off(late(REFERENCE, count), REFERENCE, True, NOISE) == count
    whole = bytes_off(late(REFERENCE, count), REFERENCE, False, NOISE)
    assert (whole is not None) == (count % 4 == 0)


def test_folded_by_another_exporter_the_last_bits_differ() -> None:
    rounded = REFERENCE * np.float32(1 + 2e-7)
    assert not np.array_equal(rounded, REFERENCE)
    assert bytes_off(late(rounded, 4), REFERENCE, True, NOISE) == bytes_off(late(REFERENCE, 4), REFERENCE, True, NOISE)


@pytest.mark.parametrize("exact", [True, False])
def test_other_values_and_rolled_ones_are_no_offset(exact: bool) -> None:
    assert bytes_off(REFERENCE, REFERENCE, exact, NOISE) is None
    assert bytes_off(np.roll(REFERENCE.ravel(), 1).reshape(REFERENCE.shape), REFERENCE, exact, NOISE) is None
    assert bytes_off(REFERENCE[::-1] * np.float32(1.1), REFERENCE, exact, NOISE) is None
