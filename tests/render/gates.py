"""Reports of gates to render."""

from __future__ import annotations

import msgspec

from fetafix.gate.record import Acceptance, GateReport, PairResult, Status
from fetafix.report import Advice, Finding, Report
from tests.render.reports import FINDINGS, LONG, REPORTS

HOSTILE = "a|b`c<script>&\x00\x1b[31m]]>*_%0A::error::\r\n@here\ud800 ü → 漢"


def _pair(name: str, status: Status, report: str, **more: object) -> PairResult:
    return PairResult(name=name, status=status, report=REPORTS[report], **more)  # type: ignore[arg-type]


ADVICE = Advice(
    meaning="A layer looks at pixels that lie closer together than it should.", evidence=["It differs.", "It heals."],
    remedy="Its spacing is set to the source's.", risk="None known.",
    next_steps=["Have it repaired: fetafix repair a|b.onnx", "Ask somebody."],
)
HOSTILE_REPORT = msgspec.structs.replace(
    REPORTS["localize"], reason=HOSTILE, findings=[
        Finding(code="lh-dilation", category="LH", title=HOSTILE, source_layer=HOSTILE, target_layer=HOSTILE,
                evidence={"inf": float("inf"), HOSTILE: [HOSTILE]}, explanation=HOSTILE, advice=ADVICE),
        Finding(code="no-longer-known", category="LH", title="what an older version found"),
        FINDINGS[1], FINDINGS[1],
    ],
    source=msgspec.structs.replace(REPORTS["localize"].source, path=f"models/{HOSTILE}.onnx"),
)
GATES: dict[str, GateReport] = {
    "gate": GateReport(
        config="configs/fetafix.yaml", seconds=9.5, notes=["One pair was judged by an earlier run."], pairs=[
            _pair("mobilenet", Status.FAILED, "localize", seconds=3.25, unused=["wb-bias at fc"], accepted=[
                Acceptance(finding=FINDINGS[1], reason="known to the customer", until="2020-01-01", expired=True)]),
            _pair("resnet", Status.ACCEPTED, "localize", seconds=2.0, cached=True, accepted=[
                Acceptance(finding=FINDINGS[0], reason="retrained afterwards", until="2030-01-01"),
                Acceptance(finding=FINDINGS[1], reason="known to the customer")]),
            _pair("digits", Status.PASSED, "check_equivalent", seconds=1.0),
            _pair("large", Status.UNDECIDED, "undecided", seconds=0.5),
        ]),
    "gate_passes": GateReport(config="fetafix.yaml", pairs=[_pair("digits", Status.PASSED, "check_equivalent")]),
    "gate_hostile": GateReport(
        config=HOSTILE, pairs=[PairResult(name=HOSTILE, status=Status.FAILED, report=HOSTILE_REPORT)]),
}
ALL: dict[str, Report | GateReport] = {**REPORTS, **GATES}
__all__ = ["ADVICE", "ALL", "GATES", "HOSTILE", "HOSTILE_REPORT", "LONG"]
