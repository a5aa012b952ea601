"""Fault types as rules of SARIF: what goes wrong, how it shows, how it is repaired, in text and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fetafix.errors import UsageError

_HELP = ("What goes wrong", "How it shows", "Repair", "When not to apply")


def rule(code: str, title: str) -> dict[str, Any]:
    """The rule of a code. title: what is said of a code that the catalogue has no more."""
    from fetafix.render.catalogue import entry

    try:
        known = entry(code)
    except UsageError:
        return {"id": code, "shortDescription": {"text": title}, "help": {"text": title},
                "defaultConfiguration": {"level": "error"}}
    documentation: Mapping[str, str] = known["documentation"]
    sections = [(h, " ".join(documentation[h].split())) for h in _HELP if h in documentation]
    return {
        "id": code, "name": "".join(w.capitalize() for w in code.replace("-", " ").split()),
        "shortDescription": {"text": known["name"]},
        "fullDescription": {"text": " ".join(documentation.get("What goes wrong", known["name"]).split())},
        "help": {
            "text": "\n\n".join(f"{heading}: {text}" for heading, text in sections),
            "markdown": "\n\n".join(f"**{heading}.** {text}" for heading, text in sections)},
        "defaultConfiguration": {"level": "error"},
        "properties": {"category": known["category"], "tags": ["model-conversion", known["category_name"]]},
    }  # fmt: skip
