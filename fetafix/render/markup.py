"""Text from models and files, made harmless for Markdown and XML."""

from __future__ import annotations

import re

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, escaped or not
_ACTIVE = re.compile(r"[\\`*_\[\]|~$]|:(?=[\w+-]+:)")  # the last would be an emoji
_FIRST = re.compile(r"^(\d*)([-+#=.)])")  # what makes a list or a heading of a line


def clean(text: str) -> str:
    """Text without control characters and halves of surrogate pairs, which no XML may hold and no reader wants."""
    return _ILLEGAL.sub("", text)


def line(text: str) -> str:
    """The same on one line."""
    return " ".join(clean(text).split())


def escape(text: str) -> str:
    """One line of Markdown that shows exactly this text, in tables as well."""
    plain = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _FIRST.sub(r"\1\\\2", _ACTIVE.sub(r"\\\g<0>", plain)).replace("@", "&#64;")  # which would call somebody


def code(text: str, table: bool = False) -> str:
    """Text as a code span, in which Markdown has no meaning. table: a bar in it would end the table's cell."""
    plain = line(text)
    if table:
        plain = plain.replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else ""
