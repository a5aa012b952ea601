"""What a case is: a conversion that really went wrong, made again, and what fetafix has to say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Ending = Literal["repaired", "explained"]


@dataclass(frozen=True)
class Pair:
    """Two model files, and the samples to compare them on (.npy of the source's input)."""

    source: Path
    target: Path
    data: Path


Make = Callable[[Path], Pair]


@dataclass(frozen=True)
class Case:
    """One conversion.

    issue: where it was reported. by: what converted it, "again" where the defect is made again in the graph because
    the pinned converter has since been mended or cannot be installed. codes: what the first finding may be called.
    ending: "repaired", or "explained" where the right code is named at the right place and nothing can mend it.
    """

    issue: str
    by: str
    codes: tuple[str, ...]
    ending: Ending
    make: Make

    @property
    def name(self) -> str:
        """The test's name."""
        return f"{self.issue.replace('/', '-')}-{self.make.__name__.strip('_')}"


CASES: list[Case] = []


def case(issue: str, by: str, *codes: str, ending: Ending = "repaired") -> Callable[[Make], Make]:
    """Make a function that writes a pair into a folder a case; its docstring says what went wrong and why."""

    def add(make: Make) -> Make:
        CASES.append(Case(issue, by, codes, ending, make))
        return make

    return add
