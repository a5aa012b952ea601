"""JUnit XML: one test case a pair and gate, as Jenkins, GitLab, GitHub's reporters, Azure and CircleCI read it.

A pair that fails is a failure with the verdict's reason and the findings, one that is undecided an error, one whose
findings are all accepted passes and says so in system-out. Nothing beyond what all of those readers know is written:
no properties of test cases, no nested suites.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from fetafix.gate.record import GateReport, Status
from fetafix.render.cases import WORDS, Case, cases, command, place, told, waived
from fetafix.render.markup import clean, line
from fetafix.report import Finding, Report

_TAGS = {Status.FAILED: "failure", Status.UNDECIDED: "error"}


def render(report: Report | GateReport) -> str:
    """The report as JUnit XML that ends with a newline."""
    found = cases(report)
    what = f"fetafix {command(report)}"
    counts = {
        "tests": str(len(found)), "failures": str(sum(c.status is Status.FAILED for c in found)),
        "errors": str(sum(c.status is Status.UNDECIDED for c in found)), "skipped": "0",
        "time": f"{sum(c.seconds for c in found):.3f}",
    }
    suites = ET.Element("testsuites", {"name": what, **counts})
    name = line(report.config) if isinstance(report, GateReport) else what
    suite = ET.SubElement(suites, "testsuite", {"name": name, **counts})
    for case in found:
        _add(suite, case)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _add(suite: ET.Element, case: Case) -> None:
    gate = case.report.gate
    test = ET.SubElement(suite, "testcase", {
        "classname": f"fetafix.{line(gate)}", "name": f"{line(case.name)} ({line(gate)})",
        "time": f"{case.seconds:.3f}"})
    tag = _TAGS.get(case.status)
    if tag is not None:
        reason = line(case.report.reason) or WORDS[case.status]
        problem = ET.SubElement(test, tag, {"message": reason, "type": case.report.verdict.value})
        problem.text = clean("\n".join([case.report.reason, *(_said(case, f) for f in case.report.findings)]))
    output = ET.SubElement(test, "system-out")
    output.text = clean(_output(case, whole=tag is None))


def _output(case: Case, whole: bool) -> str:
    """What is said beside the result; of a pair that passes, its findings too."""
    report = case.report
    lines = [f"{WORDS[case.status]}: {report.verdict.value.replace('_', ' ')}"]
    if whole:
        lines += [report.reason, *(_said(case, f) for f in report.findings)]
    lines += [f"source: {report.source.path}", f"target: {report.target.path}"]
    lines += ["the source's outputs were known from an earlier run"] if case.cached else []
    lines += [f"accepted, but not found: {entry}" for entry in case.unused]
    return "\n".join(filter(None, lines))


def _said(case: Case, finding: Finding) -> str:
    known = case.acceptance(finding)
    accepted = f" [{waived(known)}]" if known else ""
    said = told(finding)
    return f"{finding.code}: {finding.title}, at {place(finding)}{accepted}" + (f"\n  {said}" if said else "")
