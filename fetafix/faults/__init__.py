"""The catalogue of fault types: one file each, found by walking this package; adding a file adds a fault type.

    catalogue()["pp-bgr"].detect(site)    what the type claims about a guilty segment or the interface
    get("pp-bgr")                         the same, with an error that names the nearest code
    document("pp-bgr")["Repair"]          its documentation, section by section

The file of code "pp-bgr" is pp_bgr.py (see `module_name`); it exports `FAULT` and documents itself in its module
docstring under the headings of `HEADINGS`. Modules without `FAULT` (base.py) are no fault types.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import get_args

from fetafix.errors import UsageError
from fetafix.faults.base import Category, FaultType, Interface, Site, Suspicion

__all__ = [
    "CATEGORIES", "HEADINGS", "FaultType", "Interface", "Site", "Suspicion", "catalogue", "document", "get",
    "module_name",
]  # fmt: skip

CATEGORIES: Mapping[Category, str] = MappingProxyType({
    "PP": "preprocessing", "ID": "input dimensions", "TSS": "tensor shape and structure", "WB": "weights and biases",
    "LH": "layer hyper-parameters", "CG": "computation graph", "QP": "quantisation", "DT": "precision",
    "OP": "outputs", "VS": "operator versions", "ST": "storage",
})  # fmt: skip
HEADINGS = ("What goes wrong", "How it shows", "Repair", "When not to apply", "Seen in")
_NAMES = "|".join(HEADINGS)
_HEADING = re.compile(rf"^\s*(?:[*#_]+\s*({_NAMES})[*_]*\s*[:.]?|({_NAMES})\s*(?::|$))\s*(.*)$", re.IGNORECASE)


@cache
def catalogue() -> Mapping[str, FaultType]:
    """All fault types by code, by category (in the order of `Category`) and code.

    Raises TypeError where a code is double.
    """
    found: dict[str, FaultType] = {}
    for module in pkgutil.iter_modules(__path__):
        fault = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAULT", None)
        if not isinstance(fault, FaultType):
            continue
        if fault.code in found:
            raise TypeError(f"two fault types have the code {fault.code!r}; the second is in {module.name}.py")
        found[fault.code] = fault
    order = get_args(Category)
    by_place = sorted(found.values(), key=lambda f: (order.index(f.category), f.code))
    return MappingProxyType({f.code: f for f in by_place})


def get(code: str) -> FaultType:
    """The fault type with this code. Raises UsageError that names the nearest codes."""
    known = {c.lower(): f for c, f in catalogue().items()}
    wanted = code.strip().lower().replace("_", "-")
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(known[n].code for n in near)}?" if near else "`fetafix faults` lists all codes."
    raise UsageError(f"there is no fault type {code!r}; {hint}")


def module_name(code: str) -> str:
    """The module that holds a code: words separated by underscores, in lower case ("tss-transB": tss_trans_b)."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).replace("-", "_").lower()


def document(code: str) -> Mapping[str, str]:
    """A fault type's documentation: heading → text, in the order of `HEADINGS`, after "Summary" (the first line).

    A heading that the module lacks is left out. Raises UsageError for an unknown code.
    """
    module = importlib.import_module(f"{__name__}.{module_name(get(code).code)}")
    return sections(inspect.getdoc(module) or "")


def sections(docstring: str) -> Mapping[str, str]:
    """The sections of a fault type's docstring; see `document`."""
    texts: dict[str, list[str]] = {"Summary": []}
    current = "Summary"
    for line in docstring.splitlines():
        match = _HEADING.match(line)
        heading = next((h for h in HEADINGS if match and h.lower() == (match[1] or match[2]).lower()), None)
        if match and heading and heading not in texts:
            current, line = heading, match[3]
            texts[current] = []
        texts[current].append(line)
    joined = {h: inspect.cleandoc("\n".join(lines)).strip() for h, lines in texts.items()}
    return {h: joined[h] for h in ("Summary", *HEADINGS) if joined.get(h)}
