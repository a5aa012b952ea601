"""The gate's summary, held by golden files; FETAFIX_GOLDEN=write renews them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fetafix.render import gate
from tests.render.gates import GATES, LONG

GOLDEN = Path(__file__).parent / "golden"
MODES = {"short": False, "verbose": True}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["gate", "gate_passes"])
def test_golden(name: str, mode: str) -> None:
    rendered, path = gate.render(GATES[name], verbose=MODES[mode]), GOLDEN / f"{name}.{mode}.txt"
    if os.environ.get("FETAFIX_GOLDEN") == "write":
        path.write_text(rendered, "utf-8")
    assert rendered == path.read_text("utf-8")


def test_colour_changes_nothing_but_colour() -> None:
    coloured, plain = (gate.render(GATES["gate"], verbose=True, colour=c) for c in (True, False))
    for code in ("0", "1", "2", "1;31", "1;32", "1;33", "31", "32", "33"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain and "\x1b" not in plain


def test_quiet_is_one_line() -> None:
    assert gate.render(GATES["gate"], quiet=True) == (
        "fetafix gate: FAILED, 4 pairs: 1 passed, 1 accepted, 1 failed, 1 undecided; 1 source not run again\n")


def test_names_are_whole() -> None:
    pair = msgspec.structs.replace(GATES["gate"].pairs[0], name=LONG)
    text = gate.render(msgspec.structs.replace(GATES["gate"], pairs=[pair, GATES["gate"].pairs[2]]))
    rows = [line for line in text.splitlines() if " divergent " in line or " equivalent " in line]
    assert rows[0].startswith(f"  {LONG}  failed") and rows[0].index("divergent") == rows[1].index("equivalent")
