"""Advice on a finding as text: a line by default, all of it with `-v`. Commands stand on lines of their own, whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fetafix.render.style import Style, wrap
from fetafix.report import Advice, Finding

_INDENT = 5
_COMMAND = re.compile(r"\s*(?<=[:,.])\s+(?=fetafix [a-z])")
_FIRST = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z])")


def line(finding: Finding) -> Iterator[str]:
    """What a finding means, in its first sentence; nothing where the title says that already."""
    if finding.advice is None:
        return
    first = _FIRST.split(finding.advice.meaning, maxsplit=1)[0]
    if first.rstrip(".") not in (finding.title, finding.explanation.rstrip(".")):
        yield from wrap(first, _INDENT)


def full(advice: Advice, paint: Style) -> Iterator[str]:
    """What it means, why it is believed, what the repair does and risks, and what to do next."""
    rest = _FIRST.split(advice.meaning, maxsplit=1)[1:]
    yield from _part("what it means", rest, paint)
    yield from _part("why it is believed", advice.evidence, paint, "- ")
    yield from _part("what the repair does", [advice.remedy], paint)
    yield from _part("what could go wrong", [advice.risk], paint)
    yield from _part("what to do next", advice.next_steps, paint, "- ")


def parted(step: str) -> list[str]:
    """The words of a step, then the commands in it."""
    return _COMMAND.split(step)


def _part(heading: str, texts: Sequence[str], paint: Style, mark: str = "") -> Iterator[str]:
    told = [t for t in texts if t]
    if not told:
        return
    blank = " " * (_INDENT + 2)
    yield f"{' ' * _INDENT}{paint(heading, 'bold')}"
    for text in told:
        words, *commands = parted(text)
        yield from wrap(words, len(blank) + len(mark), blank + mark)
        yield from (f"{blank}    {command}" for command in commands)
