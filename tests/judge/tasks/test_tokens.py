from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.tasks.base import Observed
from fetafix.judge.tasks.tokens import Tokens
from tests.judge.tasks.support import agree, asked, claimed, figures, seen

TOK = Tokens()
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 7, 30)).astype(np.float32)
IDS = LOGITS.argmax(2)
SEQUENCES = hnp.arrays(np.int64, (3, 6), elements=st.integers(0, 3))


def test_by_hand() -> None:
    s = np.array([[1, 2, 3, 4], [1, 2, 3, 4]])
    t = np.array([[1, 2, 9, 4], [1, 2, 3, 4]])
    assert figures(TOK, s, t) == {"tokens": 7 / 8, "beginning": 3 / 4, "sequences": 0.5}
    assert agree(TOK, s, t) == [False, True]
    noted = seen(TOK, s, t)
    assert TOK.answer(noted, 0) == "token 2: source says 3, target 9" and TOK.answer(noted, 1) == "equal"


def test_logits_and_ids_say_the_same() -> None:
    other = LOGITS.copy()
    other[2, 4] = other[2, 4, ::-1]
    assert figures(TOK, LOGITS, other) == figures(TOK, IDS, other.argmax(2))
    assert figures(TOK, LOGITS, other)["tokens"] < 1.0


@given(SEQUENCES)
def test_equal_sequences_agree(s: np.ndarray) -> None:
    assert agree(TOK, s, s) == [True] * 3 and set(figures(TOK, s, s).values()) == {1.0}


@given(SEQUENCES, SEQUENCES)
def test_symmetric_and_bounded(s: np.ndarray, t: np.ndarray) -> None:
    assert figures(TOK, s, t) == figures(TOK, t, s)
    assert all(0.0 <= v <= 1.0 for v in figures(TOK, s, t).values())
    assert figures(TOK, s, t)["beginning"] <= figures(TOK, s, t)["tokens"] + 1e-12


@given(SEQUENCES, st.integers(0, 6), st.integers(0, 6))
def test_more_damage_is_never_better(s: np.ndarray, first: int, more: int) -> None:
    damaged = [np.where(np.arange(6) < n, 9, s) for n in (first, first + more)]
    found = [figures(TOK, s, d) for d in damaged]
    assert all(found[0][k] >= found[1][k] for k in found[0])


@given(SEQUENCES, SEQUENCES)
def test_chunks_join(s: np.ndarray, t: np.ndarray) -> None:
    parts = Observed() + seen(TOK, s[:1], t[:1]) + seen(TOK, s[1:], t[1:])
    assert TOK.figures(parts, TOK.limits) == pytest.approx(figures(TOK, s, t)) and parts.n == 3


def test_a_limit_below_1_allows_other_tokens() -> None:
    t = IDS.copy()
    t[:, -1] += 1
    noted = seen(TOK, IDS, t)
    assert not TOK.agree(noted, TOK.limits).any() and TOK.agree(noted, {"tokens": 0.8}).all()


def test_ties_within_noise_agree() -> None:
    s = np.zeros((1, 2, 5))
    s[0, 0, 1], s[0, 0, 3] = 1.0, 1.0 - 1e-6
    t = s[..., [0, 3, 2, 1, 4]]
    assert agree(TOK, s, t) == [False] and agree(TOK, s, t, tie=1e-5) == [True]


SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(2, keepdims=True)
SQUARE = np.full((5, 7, 7), 1 / 7)


@pytest.mark.parametrize(("name", "values", "sure"), [
    ("y", IDS, ["yes"]), ("tokens", IDS.astype(np.int32), ["yes"]), ("y", IDS.astype(np.uint8), []),
    ("y", IDS[:, :1], []), ("logits", LOGITS, ["yes"]), ("y", LOGITS, []), ("last_hidden_state", LOGITS, []),
    ("y", SOFT, ["yes"]), ("y", SQUARE, []), ("logits", LOGITS[:, :, :2], []), ("y", LOGITS[0], []),
])
def test_what_it_takes_for_tokens(name: str, values: np.ndarray, sure: list[str]) -> None:
    assert claimed(TOK, **{name: values}) == sure


def test_beside_other_outputs_only_names_tell() -> None:
    assert claimed(TOK, False, logits=LOGITS) == ["yes"] and claimed(TOK, False, y=SOFT) == ["maybe"]
    assert asked(TOK, y=LOGITS).why == "it has scores of 30 tokens at 7 places"
