"""Real classifiers in other formats, over real images: nothing is found, nothing is edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.faults import catalogue
from fetafix.localize import locate
from fetafix.operation import localized, repaired
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from fetafix.session import Session
from fetafix.workbench import Workbench
from tests.assets.zoo import ASSETS, NEEDS_ASSETS, NETWORKS, Zoo

pytestmark = NEEDS_ASSETS
PAIRS = [
    ("legacy.onnx", "onnx2torch.pt"),
    ("legacy.onnx", "script.pt"),
    ("legacy.onnx", "program.pt2"),
    ("legacy.onnx", "dynamo.onnx"),
    ("dynamo.onnx", "checkpoint"),
    ("onnx2torch.pt", "legacy.onnx"),
    ("script.pt", "dynamo.onnx"),
    ("program.pt2", "legacy.onnx"),
    ("checkpoint", "legacy.onnx"),
]


DEEP = [*PAIRS[:1], *PAIRS[3:6]]  # the deepest network in fewer forms
CASES = [(name, *pair) for name in NETWORKS for pair in (DEEP if name == "resnet56" else PAIRS)]


@pytest.mark.parametrize(("name", "source", "target"), CASES)
def test_converted_network_has_no_finding_and_no_edit(
    zoo: Zoo, tmp_path: Path, name: str, source: str, target: str
) -> None:
    network = NETWORKS[name]
    first, second = (ASSETS / network.checkpoint if f == "checkpoint" else zoo(name, f) for f in (source, target))
    archs = {k: network.arch for k, f in (("source_arch", source), ("target_arch", target)) if f == "checkpoint"}
    out = tmp_path / f"out{second.suffix}"
    with Session(first, second, network.options(**archs)) as session:
        report = repaired(session, RepairOptions(apply=True, output=out))
        located = localized(session)
        with Workbench(session, tmp_path) as bench:  # looked into all the same, layer by layer
            found = locate(bench, catalogue())
    assert (report.verdict, report.exit_code) == (Verdict.EQUIVALENT, 0), report.reason
    assert (report.findings, report.repairs, report.output) == ([], [], None) and not out.exists()
    assert report.agreement is not None and report.agreement.top1 == 1.0
    assert (located.verdict, located.findings) == (Verdict.EQUIVALENT, [])
    assert (found.steps, found.treatment.remaining) == ((), ())
