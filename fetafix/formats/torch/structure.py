"""Names for what a PyTorch model returns: tensors, tuples, lists and dicts of them, flattened in a stable order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fetafix.edits.surgery import free


def flatten(result: Any, is_leaf: Any, prefix: str = "output") -> dict[str, Any]:
    """Leaves by name: "output", "output_1", … by position; dict entries by their key. Non-leaves are skipped."""
    named: dict[str, Any] = {}
    for name, leaf in _walk(result, is_leaf, ""):
        base = name or (prefix if not named else f"{prefix}_{len(named)}")
        named[free(base, named)] = leaf
    return named


def _walk(value: Any, is_leaf: Any, name: str) -> Iterator[tuple[str, Any]]:
    if is_leaf(value):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, is_leaf, str(key))
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _walk(item, is_leaf, f"{name}_{i}" if name else "")
