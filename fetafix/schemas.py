"""JSON Schemas of what people write and tools read, made of the typed records and their docstrings.

    schema("config")    fetafix.yaml, for editors; the same as the package's file fetafix.schema.json
    schema("report")    what --json writes;  schema("gate"): what `fetafix gate --json` writes

A record's docstring says what its fields are ("threads: of each runtime. device: …"); that becomes their descriptions.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from fetafix.config import Accept, Model, Pair, Pairs, Tolerance
from fetafix.gate.record import Acceptance, GateReport, PairResult
from fetafix.inputs.recipe import PRESETS, Preprocess
from fetafix.report import Report

Kind = Literal["config", "report", "gate"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILE = Path(__file__).with_name("fetafix.schema.json")
_EDITORS = "http://json-schema.org/draft-07/schema#"  # the newest that all editors know
_TOOLS = "https://json-schema.org/draft/2020-12/schema"
_FIELDS = re.compile(r"(?:^|(?<=[.:;\n] )|(?<=\n))([a-z]\w*(?:, [a-z]\w*)*): ")


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema of the configuration, of a report, or of a gate's report."""
    if kind == "config":
        return _config()
    root = Report if kind == "report" else GateReport
    made = msgspec.json.schema(root)
    _describe(made["$defs"], _records(root))
    return {"$schema": _TOOLS, "title": f"{root.__name__} of fetafix", **made}


def text(kind: Kind) -> str:
    """The schema as indented JSON that ends with a newline."""
    return json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"


def _config() -> dict[str, Any]:
    """One pair's keys, or several pairs; told apart by the key `pairs`, so that editors name the key that is wrong."""
    _, defs = msgspec.json.schema_components([Pairs, Pair, Preprocess], ref_template="#/$defs/{name}")
    _describe(defs, [Pairs, Pair, Model, Tolerance, Accept])
    defs["Preprocess"] = _preprocess(defs["Preprocess"])
    for name in ("Pair", "Model"):
        of = defs[name]["properties"]["preprocess"]
        of["anyOf"] = [{"type": "string"}, {"$ref": "#/$defs/Preprocess"}, {"type": "null"}]
    return {
        "$schema": _EDITORS, "title": "fetafix.yaml", "type": "object",
        "description": "What fetafix compares, and how: one pair of models, or several under `pairs`.",
        "if": {"required": ["pairs"]}, "then": {"$ref": "#/$defs/Pairs"}, "else": {"$ref": "#/$defs/Pair"},
        "$defs": defs,
    }  # fmt: skip


def _preprocess(made: dict[str, Any]) -> dict[str, Any]:
    """A pipeline as people write it: a preset and what differs from it, each value as itself or as text ("1/255")."""
    steps = {
        name: {"anyOf": [{k: v for k, v in _older(of).items() if k != "default"}, {"type": "string"}]}
        for name, of in made["properties"].items()}
    preset = {"description": "What the steps begin with (raw).", "enum": list(PRESETS)}
    return {
        "title": "Preprocess", "type": "object", "properties": {"preset": preset, **steps},
        "description": "How images become a model's input: a preset, and what differs from it. Without, raw pixels.",
        "additionalProperties": False,
    }


def _older(made: Any) -> Any:
    """The same in the words that editors know: the items of an array one by one."""
    if isinstance(made, list):
        return [_older(m) for m in made]
    if not isinstance(made, dict):
        return made
    plain = {k: _older(v) for k, v in made.items()}
    return {**plain, "items": plain.pop("prefixItems")} if "prefixItems" in plain else plain


def _records(root: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """All records of the module that a root is of, and of those it is made from."""
    import fetafix.exhibits
    import fetafix.report

    yield from (PairResult, Acceptance, root)
    for module in (fetafix.report, fetafix.exhibits):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                yield kind


def _describe(defs: dict[str, Any], records: Iterable[type[msgspec.Struct]]) -> None:
    """Put what docstrings say of fields beside them, and what is left of it beside the record."""
    for record in records:
        made = defs.get(record.__name__)
        if made is None:
            continue
        summary, fields = described(record)
        made["description"] = summary
        for name, said in fields.items():
            made["properties"][name] = {"description": said, **made["properties"][name]}


def described(record: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """(what a record's docstring says of it, what it says of its fields)."""
    words = re.sub(r"\s+", " ", inspect.cleandoc(record.__doc__ or "").replace("\n\n", " "))
    found = [m for m in _FIELDS.finditer(words) if set(m[1].split(", ")) <= set(record.__struct_fields__)]
    starts = [*(m.start() for m in found), len(words)]
    said = {m[1]: words[m.end():end].strip(" ;") for m, end in zip(found, starts[1:], strict=True)}
    return words[: starts[0]].strip(), {name: text for names, text in said.items() for name in names.split(", ")}
