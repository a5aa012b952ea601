"""What CI systems read, held by golden files; FETAFIX_GOLDEN=write renews them, for a person to read in the diff."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fetafix.gate.record import GateReport
from fetafix.render import annotations, junit, markdown, sarif
from fetafix.report import Report
from tests.render.gates import ALL

GOLDEN = Path(__file__).parent / "golden" / "ci"


def slim(report: Report | GateReport) -> str:
    """SARIF without the catalogue's words and the version, which change with the catalogue."""
    log = json.loads(sarif.render(report))
    driver = log["runs"][0]["tool"]["driver"]
    driver["rules"] = [rule["id"] for rule in driver["rules"]]
    del driver["version"], driver["semanticVersion"]
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


RENDERERS = {"junit.xml": junit.render, "md": markdown.render, "annotations.txt": annotations.render, "sarif": slim}


@pytest.mark.parametrize("suffix", RENDERERS)
@pytest.mark.parametrize("name", ALL)
def test_golden(name: str, suffix: str) -> None:
    rendered, path = RENDERERS[suffix](ALL[name]), GOLDEN / f"{name}.{suffix}"
    if os.environ.get("FETAFIX_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rendered.encode())
    assert rendered == path.read_bytes().decode()


@pytest.mark.parametrize("name", ALL)
def test_all_end_with_one_newline(name: str) -> None:
    for render in (junit.render, markdown.render, sarif.render):
        assert render(ALL[name]).endswith("\n") and not render(ALL[name]).endswith("\n\n")
