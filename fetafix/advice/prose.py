"""Documentation as plain sentences: without marks, without the catalogue's own words."""

from __future__ import annotations

import re

_WORDS = (
    (re.compile(r"[`*]+"), ""),
    (re.compile(r"\bNO-OP(s?):"), "Harmless:"),
    (re.compile(r"\b[Aa] NO-OP\b"), "harmless"),
    (re.compile(r"\bNO-OPs?\b"), "harmless"),
    (re.compile(r"\btwin(s?)\b"), r"counterpart\1"),
    (re.compile(r"\banchors\b"), "places where both models agree"),
    (re.compile(r"\bguilty segment\b"), "part that is to blame"),
    (re.compile(r"\bsegment(s?)\b"), r"part\1"),
)
_END = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|\d)")


def plain(text: str) -> str:
    """A documentation's text on one line, without marks."""
    text = " ".join(text.split())
    for pattern, word in _WORDS:
        text = pattern.sub(word, text)
    return text


def sentence(text: str) -> str:
    """With a capital in front and a full stop behind; a name in front stays as it is written."""
    text = " ".join(text.split())
    if not text:
        return ""
    first = text.split(maxsplit=1)[0]
    kept = not text[0].isascii() or any(c in first for c in "/_.:'\"") or first != first.lower()
    capital = text if kept else text[0].upper() + text[1:]
    return capital if capital.endswith((".", "!", "?")) else f"{capital}."


def sentences(text: str) -> list[str]:
    """A text's sentences."""
    return [s for s in _END.split(text.strip()) if s]


def off(error: float) -> str:
    """A relative error as people read it: 42%, or 12 times."""
    return f"{error:.2g} times" if error >= 10 else f"{100 * error:.3g}%"


def sure(confidence: float) -> str:
    """How likely something is."""
    words = ((0.95, "practically certain"), (0.8, "very likely"), (0.5, "likely"), (0.2, "possible"))
    return next((word for least, word in words if confidence >= least), "no more than a guess")
