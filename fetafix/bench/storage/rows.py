"""What the benchmark keeps: one JSON line a result."""

from __future__ import annotations

from typing import Literal

from fetafix.report import Record
from fetafix.stress.record import Subject


class Row(Record, frozen=True, kw_only=True):
    """A result. kind "measured": model under storage, subject its record, images how many; trained on what is told by
    `model`. kind "analytic": figures by name. kind "speed": figures of the injection. asked: what the result rests on
    besides. seconds: it took. reason: why there is none.
    """

    kind: Literal["measured", "analytic", "speed"]
    model: str
    storage: str = ""
    asked: str = ""
    images: int = 0
    seconds: float = 0.0
    subject: Subject | None = None
    figures: dict[str, float] = {}
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same result."""
        return self.kind, self.model, self.storage, self.asked
