"""The comparators there are: by name, those of other packages first."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from fetafix.errors import UsageError
from fetafix.judge.tasks.base import Comparator
from fetafix.judge.tasks.classification import Classification
from fetafix.judge.tasks.detection import Detection
from fetafix.judge.tasks.embedding import Embedding
from fetafix.judge.tasks.numeric import Numeric
from fetafix.judge.tasks.regression import Regression
from fetafix.judge.tasks.segmentation import Segmentation
from fetafix.judge.tasks.tokens import Tokens

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "fetafix.comparators"
NUMERIC = Numeric.name
CLASSIFICATION = Classification.name
_PARTS = ("name", "needs", "limits", "claim", "observe", "agree", "lost", "final", "likeness", "figures", "words",
          "answer")


@cache
def comparators() -> dict[str, Comparator]:
    """All comparators by name. Raises UsageError where one of another package cannot be had."""
    from importlib.metadata import entry_points  # brings the email package with it: not before it is wanted

    return known(entry_points(group=GROUP))


def known(points: Iterable[EntryPoint]) -> dict[str, Comparator]:
    """The comparators of some entry points, and fetafix's own behind them."""
    own: tuple[Comparator, ...] = (
        Classification(), Detection(), Segmentation(), Tokens(), Embedding(), Regression(), Numeric())
    points = sorted(points, key=lambda p: (p.name, p.value))
    others = [_loaded(p) for p in points]
    made: dict[str, Comparator] = {}
    for comparator in (*others, *own):
        if comparator.name in made:
            names = ", ".join(p.value for p in points)
            raise UsageError(f"two comparators are called {comparator.name!r}: uninstall one of {names}")
        made[comparator.name] = comparator
    return made


def _loaded(point: EntryPoint) -> Comparator:
    where = f"the comparator {point.name!r} ({point.value}, entry point group {GROUP})"
    try:
        found: Comparator = point.load()()
    except Exception as error:  # anything may go wrong in another package, and its user has to know
        raise UsageError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
    lacking = [part for part in _PARTS if not hasattr(found, part)]
    if lacking:
        raise UsageError(f"{where} is none: it lacks {', '.join(lacking)} (see fetafix.judge.tasks.base.Comparator)")
    return found
