"""What a shell offers behind an option: fault types, presets, tasks, pairs of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem


def codes(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes of fault types, with their names."""
    from fetafix.faults import catalogue

    return [CompletionItem(c, help=f.name) for c, f in catalogue().items() if c.lower().startswith(incomplete.lower())]


def several_codes(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """The same behind the last comma of a list."""
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in codes(ctx, param, last)]


def presets(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Presets of preprocessing."""
    from fetafix.inputs.recipe import PRESETS

    return _beginning(PRESETS, incomplete)


def tasks(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """What outputs may be for, behind an output's name as well."""
    from fetafix.judge.tasks.registry import comparators

    output, sign, _ = incomplete.rpartition("=")
    return _beginning((f"{output}{sign}{name}" for name in comparators()), incomplete)


def pairs(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the pairs in the configuration that was named before, or is here; nothing where it cannot be read."""
    from fetafix import config
    from fetafix.errors import FetafixError

    try:
        found = config.load(Path(ctx.params.get("config") or "fetafix.yaml")).names
    except FetafixError:
        return []
    return _beginning(found, incomplete)


def _beginning(names: Iterable[str], start: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(start)]
