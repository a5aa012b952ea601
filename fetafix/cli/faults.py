"""`fetafix faults`: the catalogue, or one entry in full."""

from __future__ import annotations

from typing import Any

import click

CATEGORIES = {
    "PP": "preprocessing", "ID": "input dimensions", "TSS": "tensor shape and structure", "WB": "weights and biases",
    "LH": "layer hyper-parameters", "CG": "computation graph", "QP": "quantisation", "DT": "precision",
    "OP": "outputs", "VS": "operator versions", "ST": "storage",
}


@click.command()
@click.argument("code", required=False)
@click.option("--json", "json_path", metavar="FILE", help="Write JSON to FILE; - for stdout.")
def faults(code: str | None, json_path: str | None) -> None:
    """List the catalogue of conversion faults, or show the entry CODE in full."""
    from fetafix.faults import get

    entries = [_entry(get(code).code, True)] if code else _all(bool(json_path))
    if json_path is None:
        click.echo(_full(entries[0]) if code else _list(entries))
        return
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(entries[0] if code else entries), indent=2).decode()
    if json_path == "-":
        click.echo(text)
        return
    from pathlib import Path

    from fetafix.cli.run import write_text

    write_text(Path(json_path), text + "\n")


def _all(documented: bool) -> list[dict[str, Any]]:
    from fetafix.faults import catalogue

    return [_entry(code, documented) for code in catalogue()]


def _entry(code: str, documented: bool) -> dict[str, Any]:
    from fetafix.faults import document, get

    fault = get(code)
    entry: dict[str, Any] = {
        "code": fault.code, "name": fault.name, "category": fault.category, "safety": fault.safety,
        "scope": fault.scope,
    }
    return entry | ({"documentation": dict(document(code))} if documented else {})


def _list(entries: list[dict[str, Any]]) -> str:
    lines = []
    width = max((len(e["code"]) for e in entries), default=0)
    for category, meaning in CATEGORIES.items():
        members = [e for e in entries if e["category"] == category]
        if members:
            lines += [f"{category}: {meaning}"]
            review = {"review": " (asks for a review)", "safe": ""}
            lines += [f"  {e['code']:<{width}}  {e['name']}{review[e['safety']]}" for e in members] + [""]
    return "\n".join([*lines, f"{len(entries)} fault types; `fetafix faults CODE` shows one in full."])


def _full(entry: dict[str, Any]) -> str:
    lines = [f"{entry['code']}: {entry['name']} ({entry['category']}, {CATEGORIES[entry['category']]})"]
    lines += [f"repairs are {'applied freely' if entry['safety'] == 'safe' else 'to be reviewed by a person'}"]
    for heading, text in entry["documentation"].items():
        lines += ["", heading, *(f"  {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines)
