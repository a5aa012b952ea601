"""Text that comes from models and files, as a page can show it: nothing invisible, nothing cut, no direction turned."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

_INVISIBLE = re.compile(  # control characters, marks that turn the direction of writing, halves of surrogate pairs
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]"
)
_BREAKS = re.compile(r"(?<=[/._:\-;,])(?=[^/._:\-;,\s])")


def visible(value: Any) -> Any:
    r"""Text with its invisible characters spelt out ("\u202e"); anything else, markup included, as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _INVISIBLE.sub(lambda m: f"\\u{ord(m[0]):04x}", value)


def flat(text: str) -> str:
    """On one line: line ends and tabs are spelt out, too."""
    return str(visible(text.replace("\n", "\\n").replace("\t", "\\t")))


def name(text: str | None) -> Markup:
    """The name of a layer or a file: whole, to be broken after separators, kept apart from the writing around it."""
    parts = [escape(p) for p in _BREAKS.split(flat(text or ""))]
    return Markup('<bdi class="name">{}</bdi>').format(Markup("<wbr>").join(parts))


def beside(name_: str, text: str) -> Markup:
    """A name and what is said of it."""
    return Markup("{} {}").format(name(name_), visible(text))


def lines(text: str, width: int) -> list[str]:
    """A name in lines of at most `width` characters, broken after separators where that is possible."""
    made, current = [], ""
    for part in _BREAKS.split(flat(text)):
        while len(current) + len(part) > width:
            if current and len(part) <= width:
                made.append(current)
                current = ""
                continue
            room = width - len(current)
            made.append(current + part[:room])
            current, part = "", part[room:]
        current += part
    return [*made, current] if current or not made else made
