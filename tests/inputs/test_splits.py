"""Draws: seeded, disjoint, without replacement, sensible when there is little to draw from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.errors import InputDataError, UsageError
from fetafix.inputs.splits import draw


@given(st.integers(1, 300), st.integers(1, 200), st.integers(0, 9), st.integers(1, 4), st.floats(0.01, 0.99))
def test_rounds_are_disjoint_splits(available: int, samples: int, seed: int, rounds: int, share: float) -> None:
    splits = draw(available, samples, seed, rounds, share)
    count = min(available, samples)
    assert len(splits) == rounds and splits == draw(available, samples, seed, rounds, share)
    for split in splits:
        assert len(split.search) + len(split.heldout) == count == len(set(split.indices))
        assert not set(split.search) & set(split.heldout)
        assert all(0 <= i < available for i in split.indices)
        assert split.search == tuple(sorted(split.search)) and split.heldout == tuple(sorted(split.heldout))
        assert split.search and (split.heldout or count == 1)
        assert abs(len(split.heldout) - share * count) <= 1


def test_seeds_and_rounds_differ() -> None:
    first, second = draw(1000, 50, 0, rounds=2)
    assert first != second and draw(1000, 50, 1)[0] != first
    assert draw(1000, 50, 0)[0] == first


@pytest.mark.parametrize(("n", "search", "heldout"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 2)])
def test_few_samples(n: int, search: int, heldout: int) -> None:
    (split,) = draw(n, 100, 0)
    assert (len(split.search), len(split.heldout)) == (search, heldout)


def test_nothing_held_out_when_told_so() -> None:
    (split,) = draw(10, 10, 0, heldout=0)
    assert split.search == tuple(range(10)) and not split.heldout


def test_unusable_samples_are_replaced() -> None:
    asked: list[int] = []

    def even(indices: Sequence[int]) -> list[int]:
        asked.extend(indices)
        return [i for i in indices if i % 2 == 0]

    (split,) = draw(40, 12, 3, usable=even)
    assert len(split.indices) == 12 and all(i % 2 == 0 for i in split.indices)
    assert len(asked) == len(set(asked)) < 40
    (split,) = draw(10, 8, 0, usable=even)
    assert split.indices == (0, 2, 4, 6, 8)


def test_impossible_draws() -> None:
    with pytest.raises(UsageError, match="at least 1 sample, found 0"):
        draw(10, 0, 0)
    with pytest.raises(UsageError, match="seed"):
        draw(10, 1, -1)
    with pytest.raises(UsageError, match="rounds"):
        draw(10, 1, 0, rounds=0)
    with pytest.raises(InputDataError, match="no samples"):
        draw(0, 1, 0)
    with pytest.raises(InputDataError, match="none of 4 samples can be read, expected at least 2"):
        draw(4, 3, 0, usable=lambda indices: [])
    with pytest.raises(InputDataError, match="1 of 4 samples can be read, expected at least 2"):
        draw(4, 3, 0, usable=lambda indices: [i for i in indices if i == 1])
    assert draw(4, 1, 0, usable=lambda indices: [i for i in indices if i == 1])[0].search == (1,)
