"""SARIF 2.1.0: one result a finding, which code scanning shows and follows from run to run.

A rule is an entry of the catalogue with its documentation; a result's physical location is the target's file, its
logical locations are layers. What no finding stands for, a pair that is undecided or fails without a finding, is a
notification of the invocation. Fingerprints hold names only, no measured number, so that a finding is the same one in
the next run; suppressions tell those that the configuration accepts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from fetafix import __version__
from fetafix.gate.record import GateReport, Status
from fetafix.render.cases import Case, cases, command, place, told, waived
from fetafix.render.markup import clean
from fetafix.render.sarif_rules import rule
from fetafix.report import Finding, ModelInfo, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LAYER = "member"  # the kind of logical location that SARIF's list has nearest to a layer
Json = dict[str, Any]
Locate = Callable[[str], str]


def render(report: Report | GateReport, locate: Locate = str) -> str:
    """The report as SARIF that ends with a newline. locate: a model's path → as code scanning is to know it."""
    found = cases(report)
    codes = sorted({f.code: f for c in found for f in c.report.findings}.items())
    rules = {code: (i, rule(code, finding.title)) for i, (code, finding) in enumerate(codes)}
    fingerprints: set[str] = set()
    run = {
        "tool": {"driver": {
            "name": "fetafix", "version": __version__, "semanticVersion": __version__,
            "rules": [made for _, made in rules.values()]}},
        "automationDetails": {"id": _analysis(report, locate)},
        "invocations": [_invocation(report, found, locate)],
        "artifacts": _artifacts(found, locate),
        "results": [_result(c, f, rules[f.code][0], locate, fingerprints) for c in found for f in c.report.findings],
    }
    return json.dumps(_cleaned({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}), indent=2) + "\n"


def _analysis(report: Report | GateReport, locate: Locate) -> str:
    """What tells this analysis from others of the same commit, which code scanning keeps apart."""
    of = report.target.path if isinstance(report, Report) else report.config
    return f"fetafix/{command(report)}/{_uri(locate(of))}/"


def _result(case: Case, finding: Finding, index: int, locate: Locate, taken: set[str]) -> Json:
    known = case.acceptance(finding)
    said = told(finding) or finding.title
    where = f"At {place(finding)} in the pair {case.name}."
    over = f" It {waived(known)}." if known and known.expired else ""
    result: Json = {
        "ruleId": finding.code, "ruleIndex": index, "level": case.level(finding), "kind": "fail",
        "message": {"text": f"{said.rstrip('.')}. {where}{over}"},
        "locations": [_location(case.report.target, finding.target_layer, locate)],
        "partialFingerprints": _fingerprints(case, finding, locate, taken),
        "suppressions": [],
        "properties": {
            "pair": case.name, "gate": case.report.gate, "verdict": case.report.verdict.value,
            "category": finding.category, "confidence": finding.confidence, "localError": finding.local_error,
            "evidence": finding.evidence},
    }
    if finding.source_layer:
        twin = _location(case.report.source, finding.source_layer, locate)
        result["relatedLocations"] = [{"id": 1, "message": {"text": "the source's layer"}, **twin}]
    if known and not known.expired:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": waived(known)}]
    return result


def _location(model: ModelInfo, layer: str | None, locate: Locate) -> Json:
    """A layer of a model file. Code scanning shows nothing without a line, and a model has only one."""
    spot: Json = {"physicalLocation": {"artifactLocation": {"uri": _uri(locate(model.path))},
                                       "region": {"startLine": 1}}}
    if layer:
        spot["logicalLocations"] = [{"name": layer, "fullyQualifiedName": layer, "kind": _LAYER}]
    return spot


def _fingerprints(case: Case, finding: Finding, locate: Locate, taken: set[str]) -> Json:
    """Of names alone. GitHub knows a result by its line's hash, which would be the same for all in a binary file."""
    source, target = (_uri(locate(m.path)) for m in (case.report.source, case.report.target))
    named = [case.name if case.named else source, target, finding.code, finding.source_layer or "",
             finding.target_layer or ""]
    digest = _digest(named)
    while digest in taken:  # the same fault at the same place twice
        digest = _digest([digest])
    taken.add(digest)
    return {"fetafixFinding/v1": digest, "primaryLocationLineHash": f"{digest[:16]}:1"}


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _invocation(report: Report | GateReport, found: Iterable[Case], locate: Locate) -> Json:
    told_of = [c for c in found if c.status is Status.UNDECIDED
               or (c.status is Status.FAILED and all(c.level(f) != "error" for f in c.report.findings))]
    return {
        "executionSuccessful": not any(c.status is Status.UNDECIDED for c in told_of), "exitCode": report.exit_code,
        "toolExecutionNotifications": [{
            "level": "error", "descriptor": {"id": c.report.verdict.value},
            "message": {"text": f"{c.name}: {c.report.verdict.value}: {c.report.reason}"},
            "locations": [_location(c.report.target, None, locate)]} for c in told_of],
    }


def _artifacts(found: Iterable[Case], locate: Locate) -> list[Json]:
    models = {_uri(locate(m.path)): m for c in found for m in (c.report.source, c.report.target) if m.path}
    hashes = {uri: {"hashes": {"sha-256": m.sha256}} if m.sha256 else {} for uri, m in models.items()}
    return [{"location": {"uri": uri}, "roles": ["analysisTarget"], **hashes[uri]} for uri in models]


def _uri(path: str) -> str:
    """A path as a URI reference."""
    pure = PurePath(clean(path))
    if pure.is_absolute():
        return pure.as_uri()
    return quote(pure.as_posix(), safe="/")


def _cleaned(value: Any) -> Any:
    """The same without control characters, and without numbers that JSON has not."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(k)): _cleaned(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value if isinstance(value, bool | int | float) or value is None else clean(str(value))
