"""SARIF that the official schema accepts, with results that stay the same from run to run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema
import msgspec
import pytest

from fetafix.faults import catalogue
from fetafix.gate.record import GateReport
from fetafix.render import sarif
from fetafix.render.sarif_rules import rule
from fetafix.report import ModelInfo, Report
from tests.render.gates import ALL, GATES, HOSTILE_REPORT
from tests.render.reports import REPORTS

# The schema of OASIS (SARIF 2.1.0, errata 01), byte for byte: what a package ships under that name must be it.
SCHEMA_SHA256 = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"


@cache
def validator() -> Any:
    """Of the official schema, which a package of the tests' environment carries as data."""
    files = importlib.metadata.files("linceo") or []
    text = next(f for f in files if f.name == "sarif-schema-2.1.0.json").read_binary()
    assert hashlib.sha256(text).hexdigest() == SCHEMA_SHA256
    return jsonschema.Draft4Validator(json.loads(text), format_checker=jsonschema.FormatChecker())


def run(report: Report | GateReport, locate: Callable[[str], str] = str) -> dict[str, Any]:
    log = json.loads(sarif.render(report, locate))
    return log["runs"][0]


@pytest.mark.parametrize("name", ALL)
def test_the_official_schema_accepts_it(name: str) -> None:
    assert [e.message for e in validator().iter_errors(json.loads(sarif.render(ALL[name])))] == []


def test_the_official_schema_refuses_what_is_wrong() -> None:
    log = json.loads(sarif.render(GATES["gate"]))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert [e.json_path for e in validator().iter_errors(log)] == ["$.runs[0].results[0].level"]


@pytest.mark.parametrize("name", ALL)
def test_one_result_a_finding(name: str) -> None:
    report = ALL[name]
    findings = report.findings if isinstance(report, Report) else [f for p in report.pairs for f in p.report.findings]
    found = run(report)
    assert [r["ruleId"] for r in found["results"]] == [f.code for f in findings]
    rules = found["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in found["results"])


def test_what_no_finding_stands_for_is_a_notification() -> None:
    invocation = run(GATES["gate"])["invocations"][0]
    assert [n["descriptor"]["id"] for n in invocation["toolExecutionNotifications"]] == ["undecided"]
    assert not invocation["executionSuccessful"] and invocation["exitCode"] == 1
    invocation = run(REPORTS["check_divergent"])["invocations"][0]
    assert [n["descriptor"]["id"] for n in invocation["toolExecutionNotifications"]] == ["divergent"]
    assert invocation["executionSuccessful"] and invocation["exitCode"] == 1


def test_levels_and_suppressions_follow_the_pair() -> None:
    by_pair: dict[str, list[tuple[str, str, list[str]]]] = {}
    for result in run(GATES["gate"])["results"]:
        statuses = [s["status"] for s in result["suppressions"]]
        by_pair.setdefault(result["properties"]["pair"], []).append((result["ruleId"], result["level"], statuses))
    assert by_pair == {
        "mobilenet": [("lh-dilation", "error", []), ("pp-range", "error", [])],
        "resnet": [("lh-dilation", "note", ["accepted"]), ("pp-range", "note", ["accepted"])],
    }
    assert [r["level"] for r in run(REPORTS["repair"])["results"]] == ["note", "warning"]  # mended; not mended


def test_fingerprints_outlive_what_is_measured() -> None:
    again = msgspec.structs.replace(REPORTS["localize"], seed=9, reason="Otherwise said.", findings=[
        msgspec.structs.replace(f, local_error=9.0, confidence=0.1, explanation="So.", evidence={})
        for f in REPORTS["localize"].findings])
    assert fingerprints(again) == fingerprints(REPORTS["localize"])
    moved = msgspec.structs.replace(again, findings=[
        msgspec.structs.replace(f, target_layer="elsewhere") for f in again.findings])
    assert not set(fingerprints(moved)) & set(fingerprints(again))


@pytest.mark.parametrize("report", [HOSTILE_REPORT, *GATES.values()])
def test_no_two_results_share_a_fingerprint(report: Report | GateReport) -> None:
    found = fingerprints(report)
    assert len(set(found)) == len(found)


def fingerprints(report: Report | GateReport) -> list[str]:
    return [r["partialFingerprints"]["fetafixFinding/v1"] for r in run(report)["results"]]


@pytest.mark.parametrize(("path", "uri"), [
    ("a b.pt", "a%20b.pt"), ("out/ä.onnx", "out/%C3%A4.onnx"), ("/w/m/a.onnx", "file:///w/m/a.onnx"),
    ("a:b#c?.pt", "a%3Ab%23c%3F.pt"), ("100%.pt", "100%25.pt")])
def test_files_are_uris(path: str, uri: str) -> None:
    report = msgspec.structs.replace(REPORTS["localize"], target=ModelInfo(path=path, format="ONNX"))
    found = run(report)
    place = found["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == uri
    assert uri in [a["location"]["uri"] for a in found["artifacts"]]


def test_the_same_finding_has_the_same_fingerprint_wherever_the_workspace_lies() -> None:
    def at(folder: str) -> list[str]:
        models = {k: ModelInfo(path=f"{folder}/{k}", format="") for k in ("source", "target")}
        found = run(msgspec.structs.replace(REPORTS["localize"], **models),
                    lambda path: path.removeprefix(f"{folder}/"))
        return [r["partialFingerprints"]["fetafixFinding/v1"] for r in found["results"]]

    assert at("/home/runner/work") == at("/builds/x")


@pytest.mark.parametrize("code", catalogue())
def test_every_fault_type_makes_a_rule(code: str) -> None:
    made = rule(code, "")
    log = json.loads(sarif.render(REPORTS["check_equivalent"]))
    log["runs"][0]["tool"]["driver"]["rules"] = [made]
    assert not list(validator().iter_errors(log))
    assert made["help"]["text"].startswith("What goes wrong: ") and "Repair" in made["help"]["markdown"]


def test_analyses_of_other_files_are_kept_apart() -> None:
    assert run(GATES["gate"])["automationDetails"]["id"] == "fetafix/gate/configs/fetafix.yaml/"
    assert run(REPORTS["localize"])["automationDetails"]["id"] == "fetafix/localize/digits%20converted.pt/"
