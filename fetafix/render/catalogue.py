"""The catalogue of fault types for readers: plain records, a list, one entry in full, and a page in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fetafix.faults import CATEGORIES, catalogue, document, get
from fetafix.render.style import plural, wrap

Entry = Mapping[str, Any]

_WIDTH = 120
_SAFETY = {"safe": "repairs are applied freely", "review": "repairs are to be reviewed by a person"}
_SCOPE = {
    "segment": "a place within the target", "interface": "the models' inputs and outputs",
    "both": "a place within the target, and the models' inputs and outputs",
}  # fmt: skip
_INTRODUCTION = """\
# The catalogue of conversion faults

What goes wrong when a neural network is converted, in {count} types: each with what goes wrong, how it shows, how it is
repaired, when that must not be applied, and where it was seen (project#issue). `fetafix faults` lists them, `fetafix
faults CODE` shows one.

This page is made from the docstrings of the files in this folder, one file a type: `make catalogue`.
"""


def entry(code: str) -> dict[str, Any]:
    """A fault type as plain data. Raises UsageError for an unknown code, which names the nearest."""
    fault = get(code)
    facts = {"code": fault.code, "name": fault.name, "category": fault.category, "safety": fault.safety,
             "scope": fault.scope}  # fmt: skip
    return {**facts, "category_name": CATEGORIES[fault.category], "documentation": dict(document(fault.code))}


def listing(entries: Sequence[Entry]) -> str:
    """One line an entry, by category."""
    lines: list[str] = []
    width = max((len(e["code"]) for e in entries), default=0)
    for category, meaning, members in _grouped(entries):
        review = {"review": " (asks for a review)", "safe": ""}
        lines += [f"{category}: {meaning}"]
        lines += [f"  {e['code']:<{width}}  {e['name']}{review[e['safety']]}" for e in members] + [""]
    return "\n".join([*lines, f"{plural(len(entries), 'fault type')}; `fetafix faults CODE` shows one in full."])


def full(entry: Entry) -> str:
    """One entry, section by section."""
    lines = [f"{entry['code']}: {entry['name']} ({entry['category']}, {entry['category_name']})"]
    lines += [f"looked for in {_SCOPE[entry['scope']]}; {_SAFETY[entry['safety']]}"]
    for heading, text in entry["documentation"].items():
        lines += ["", heading, *(line for part in text.split("\n\n") for line in wrap(" ".join(part.split()), 2))]
    return "\n".join(lines)


def page(entries: Sequence[Entry]) -> str:
    """The whole catalogue in Markdown; ends with a newline."""
    lines = [_INTRODUCTION.format(count=len(entries))]
    for category, meaning, members in _grouped(entries):
        lines += ["| code | fault type |", "|---|---|"] if not lines[1:] else []
        lines += [f"| **{category}** | **{meaning}** |"]
        lines += [f"| [{e['code']}](#{e['code'].lower()}) | {_escaped(e['name'])} |" for e in members]
    for category, meaning, members in _grouped(entries):
        lines += ["", f"## {category}: {meaning}"]
        for each in members:
            lines += _section(each)
    return "\n".join(lines) + "\n"


def _section(entry: Entry) -> list[str]:
    documentation = dict(entry["documentation"])
    summary = documentation.pop("Summary")
    name = entry["name"]
    texts = [f"**{_escaped(name)}.**" + ("" if summary.rstrip(".") == name else f" {_linked(summary)}")]
    texts += [f"*{heading}.* {_linked(text)}" for heading, text in documentation.items()]
    texts += [f"*Looked for in* {_SCOPE[entry['scope']]}; {_SAFETY[entry['safety']]}."]
    return ["", f"### {entry['code']}", *(line for text in texts for line in _paragraphs(text))]


def _paragraphs(text: str) -> Iterable[str]:
    """Its paragraphs, each after an empty line, in lines as long as this page's."""
    for paragraph in text.split("\n\n"):
        yield ""
        yield from textwrap.wrap(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _grouped(entries: Iterable[Entry]) -> Iterable[tuple[str, str, list[Entry]]]:
    """(category, its meaning, its entries) for each category that has any."""
    everything = list(entries)
    for category, meaning in CATEGORIES.items():
        members = [e for e in everything if e["category"] == category]
        if members:
            yield category, meaning, members


def _escaped(text: str) -> str:
    """Text in which only `code` is Markdown."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<|\[\]])", r"\\\1", p) for p in parts)


def _linked(text: str) -> str:
    """Text in which other fault types' codes lead to their entries."""
    known = "|".join(map(re.escape, sorted(catalogue(), key=len, reverse=True)))
    return re.sub(rf"(?<![\w`-])({known})(?![\w`-])", lambda m: f"[{m[1]}](#{m[1].lower()})", _escaped(text))
