"""Does a converted model still answer like its source; if not, where and why not; and how is it made right.

    from fetafix import api
    report = api.check("source.onnx", "converted.pt", api.Options(data="images/"))
    report.verdict, report.exit_code

`api` holds `check`, `localize` and `repair`; each takes two files and options and returns a `Report`. Importing fetafix
loads no framework, nor anything else: names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fetafix import api as api
    from fetafix.errors import (
        ConfigError,
        EditError,
        FetafixError,
        InputDataError,
        LiftError,
        ModelError,
        OutputError,
        RuntimeCrash,
        UnreadableModel,
        UntrustedModel,
        UsageError,
    )
    from fetafix.report import Agreement, Finding, Repair, Report, Verdict, from_json, to_json

__version__ = "0.1.0"

_ERRORS = (
    "ConfigError", "EditError", "FetafixError", "InputDataError", "LiftError", "ModelError", "OutputError",
    "RuntimeCrash", "UnreadableModel", "UntrustedModel", "UsageError",
)
_RECORDS = ("Agreement", "Finding", "Repair", "Report", "Verdict", "from_json", "to_json")
_HOMES = {**dict.fromkeys(_ERRORS, "fetafix.errors"), **dict.fromkeys(_RECORDS, "fetafix.report")}

__all__ = [
    "api",
    "Report", "Verdict", "Agreement", "Finding", "Repair", "to_json", "from_json",
    "FetafixError", "UsageError", "ConfigError", "InputDataError", "ModelError", "UnreadableModel", "UntrustedModel",
    "RuntimeCrash", "LiftError", "EditError", "OutputError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "api":
        return importlib.import_module("fetafix.api")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fetafix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
