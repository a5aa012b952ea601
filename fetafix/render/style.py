"""Small pieces of text: colour on request, and numbers as people read them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WIDTH = 100
_width: ContextVar[int] = ContextVar("width", default=WIDTH)
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Style:
    """Paints text with ANSI codes, or leaves it alone."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, name: str) -> str:
        """The text in a colour or weight of `_CODES`; several names are joined by a blank."""
        if not self._colour or not name:
            return text
        return f"\x1b[{';'.join(_CODES[n] for n in name.split())}m{text}\x1b[0m"


@contextmanager
def within(columns: int) -> Iterator[None]:
    """Text is wrapped at another width than WIDTH inside the block."""
    before = _width.set(columns)
    try:
        yield
    finally:
        _width.reset(before)


def wrap(text: str, indent: int, first: str | None = None) -> list[str]:
    """Lines of at most WIDTH characters, or as `within` says.

    A word, such as a layer's name, is never cut, however long it is: it is there to be copied.
    """
    blank = " " * indent
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        lines += textwrap.wrap(
            paragraph, _width.get(), initial_indent=blank if lines or first is None else first, subsequent_indent=blank,
            break_long_words=False, break_on_hyphens=False,
        )
    return lines


def percent(share: float | None) -> str:
    """A share as a percentage that says 100% only where it is whole."""
    if share is None:
        return "?"
    text = f"{100 * share:.1f}"
    if share < 1 and text == "100.0":
        text = f"{100 * share:.3f}" if f"{100 * share:.3f}" != "100.000" else "99.999"
    return f"{text.removesuffix('.0')}%"


def number(value: float | None) -> str:
    """A measured number with three significant digits."""
    return "?" if value is None else f"{value:.3g}"


def plural(count: int, thing: str) -> str:
    """A count and its noun: 1 finding, 2 findings."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
