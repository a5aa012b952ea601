from __future__ import annotations

import numpy as np

from fetafix.judge.tasks.base import OUTPUT
from fetafix.judge.tasks.numeric import Numeric, largest
from tests.judge.tasks.support import asked, claimed, seen

NUM = Numeric()
S = np.arange(12.0).reshape(3, 4)


def test_the_largest_difference_of_each_sample() -> None:
    t = S.copy()
    t[1, 2] += 0.5
    t[2, 0] = np.nan
    assert largest(S, t).tolist() == [0.0, 0.5, np.inf]
    noted = seen(NUM, S, t)
    assert NUM.agree(noted, {"max_abs": 0.4}).tolist() == [True, False, False]
    assert NUM.agree(noted, {"max_abs": 0.6}).tolist() == [True, True, False]
    assert NUM.answer(noted, 1) == "differs by 0.5"


def test_equal_infinities_do_not_differ() -> None:
    assert largest(np.array([[np.inf, np.nan]]), np.array([[np.inf, np.nan]])).tolist() == [0.0]


def test_it_never_offers_itself() -> None:
    assert claimed(NUM, y=S) == [] and asked(NUM, y=S).sure == "asked"


def test_strings_are_left_to_equality() -> None:
    words = np.array([["a"], ["b"]])
    assert NUM.observe({OUTPUT: words}, {OUTPUT: words}, asked(NUM, y=words), {}, {}) is None
