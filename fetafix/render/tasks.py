"""The part of the text report on answers other than labels: class maps, detections, tokens and the like."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.render.style import percent, plural
from fetafix.report import Agreement, TaskAgreement

_LABELS = "classification"  # the first one has a row of its own


def rows(before: Agreement, after: Agreement | None) -> Iterator[tuple[str, str]]:
    """(task, what is said of it) of every comparator, before and after a repair; guesses say that they are."""
    later = {(t.task, *t.outputs): t for t in (after.tasks if after is not None else ())}
    seen = False
    for told in before.tasks:
        if told.task == _LABELS and not seen:
            seen = True
            continue
        mended = later.get((told.task, *told.outputs))
        head = f"{', '.join(told.outputs)}: {_words(told)}"
        yield told.task, head if mended is None else f"{head}\n→ {_words(mended)}"


def _words(told: TaskAgreement) -> str:
    bounds = f" ({percent(told.bounds[0])} to {percent(told.bounds[1])})" if told.bounds else ""
    guess = "" if told.weighs else " (a guess, which decides nothing)" if told.sure == "maybe" else " (decides nothing)"
    words = f"; {told.words}" if told.words else ""
    return f"{percent(told.share)} of {plural(told.samples, 'sample')} agree{bounds}{guess}{words}"
