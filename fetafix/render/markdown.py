"""Markdown, as GitHub shows it in a job's summary: a table of verdicts, then each pair's findings, folded away.

GitHub refuses a summary over a mebibyte, so that details end before that, which is said.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator

from fetafix.gate.record import GateReport, Status
from fetafix.render.advice import parted
from fetafix.render.cases import WORDS, Case, cases, command, told, waived
from fetafix.render.markup import code, escape, line
from fetafix.render.style import number, percent, plural
from fetafix.report import Advice, Agreement, Finding, ModelInfo, Report

LIMIT = 1_000_000  # bytes
LEAST = 10_000  # what a table and a remark take
_SIGNS = {Status.PASSED: "✅", Status.ACCEPTED: "☑️", Status.FAILED: "❌", Status.UNDECIDED: "❓"}
ANSWERS, LARGEST = "answers that agree", "largest difference"
_FIGURES: dict[str, Callable[[Agreement], str]] = {
    ANSWERS: lambda a: _answers(a),
    LARGEST: lambda a: _largest(a),
    "mean difference": lambda a: "" if a.mean_abs is None else number(a.mean_abs),
    "tolerance": lambda a: "" if a.tolerance is None else number(a.tolerance),
    "samples": lambda a: str(a.samples) if a.samples else "",
}


def render(report: Report | GateReport, limit: int = LIMIT) -> str:
    """The report as Markdown that ends with a newline, in at most `limit` bytes."""
    found = cases(report)
    text = "\n".join([f"## {_headline(report, found)}", "", *_table(found), ""])
    for index, case in enumerate(found):
        details = "\n".join(["", *_details(case), ""])
        if len(f"{text}{details}".encode()) > limit - 200:
            left = len(found) - index
            return f"{text}\nThe details of {plural(left, 'pair')} are left out: this page may be no longer.\n"
        text += details
    notes = report.notes if isinstance(report, GateReport) else []
    return text + "".join(f"\nNote: {escape(note)}\n" for note in notes)


def _headline(report: Report | GateReport, found: list[Case]) -> str:
    what = f"fetafix {command(report)}"
    if isinstance(report, Report):
        passed = {True: f", passes the {report.gate} gate", False: f", fails the {report.gate} gate", None: ""}
        return f"{_SIGNS[found[0].status]} {what}: {report.verdict.value.replace('_', ' ')}{passed[report.passed]}"
    counts = [(sum(c.status is s for c in found), WORDS[s]) for s in Status]
    sign = _SIGNS[{0: Status.PASSED, 3: Status.UNDECIDED}.get(report.exit_code, Status.FAILED)]
    said = ", ".join(f"{n} {word}" for n, word in counts if n)
    return f"{sign} {what}: {plural(len(found), 'pair')}{f', {said}' if said else ''}"


def _table(found: list[Case]) -> Iterator[str]:
    yield f"| pair | result | verdict | gate | {ANSWERS} | {LARGEST} | findings |"
    yield "|---|---|---|---|---|---|---|"
    for case in found:
        report = case.report
        cells = [
            escape(case.name), f"{_SIGNS[case.status]} {WORDS[case.status]}", report.verdict.value.replace("_", " "),
            escape(report.gate), *(_change(report, name) for name in (ANSWERS, LARGEST)),
            str(len(report.findings) or ""),
        ]
        yield f"| {' | '.join(cells)} |"


def _answers(agreement: Agreement) -> str:
    """The least share of samples whose answers agree, of the tasks that count in the verdict; labels where none is."""
    shares = [t.share for t in agreement.tasks if t.weighs and t.share is not None]
    share = min(shares, default=agreement.top1)
    return "" if share is None else percent(share)


def _largest(agreement: Agreement) -> str:
    """The largest difference of any output, in its own unit."""
    known = [o.max_abs for o in agreement.outputs if o.max_abs is not None]
    largest = max(known, default=agreement.max_abs)
    return "" if largest is None else number(largest)


def _change(report: Report, figure: str) -> str:
    said = [_FIGURES[figure](a) for a in (report.agreement, report.after) if a is not None]
    return " → ".join(filter(None, said))


def _details(case: Case) -> Iterator[str]:
    report = case.report
    opened = " open" if case.status in (Status.FAILED, Status.UNDECIDED) else ""
    told_of = f", {plural(len(report.findings), 'finding')}" if report.findings else ""
    yield f"<details{opened}><summary>{_html(case.name)}: {WORDS[case.status]}{told_of}</summary>"
    yield ""
    if report.reason:
        yield f"{escape(report.reason)}\n"
    yield f"- source: {_model(report.source)}"
    yield f"- target: {_model(report.target)}"
    yield from ([f"- written: {code(report.output.path)}"] if report.output else [])
    yield from (f"- accepted, but not found: {escape(entry)}" for entry in case.unused)
    yield from (f"- note: {escape(note)}" for note in report.notes)
    yield ""
    yield from _before_after(report)
    for index, finding in enumerate(report.findings, 1):
        yield from _finding(index, case, finding)
    yield from _repairs(report)
    yield "</details>"


def _html(text: str) -> str:
    """For a line that begins with a tag: Markdown has no meaning there."""
    return html.escape(line(text)).replace("@", "&#64;")


def _model(model: ModelInfo) -> str:
    return code(model.path) + (f" ({escape(model.format)})" if model.format else "")


def _before_after(report: Report) -> Iterator[str]:
    before, after = report.agreement, report.after
    if before is None or after is None:
        return
    yield "| | before | after |"
    yield "|---|---|---|"
    for name, figure in _FIGURES.items():
        if figure(before) or figure(after):
            yield f"| {name} | {figure(before)} | {figure(after)} |"
    yield ""


def _finding(index: int, case: Case, finding: Finding) -> Iterator[str]:
    known = case.acceptance(finding)
    yield f"{index}. **{escape(finding.code)}: {escape(finding.title)}**{' (mended)' if case.mended(finding) else ''}"
    yield f"   - in the target: {code(finding.target_layer) if finding.target_layer else 'the interface'}"
    if finding.source_layer:
        yield f"   - in the source: {code(finding.source_layer)}"
    if said := told(finding):
        yield f"   - {escape(said)}"
    if known:
        yield f"   - {escape(waived(known))}"
    facts = [] if finding.local_error is None else [f"error introduced here {number(finding.local_error)}"]
    facts += [f"confidence {percent(finding.confidence)}"] if finding.confidence else []
    if facts:
        yield f"   - {', '.join(facts)}"
    yield from (_advice(finding, finding.advice) if finding.advice else ())
    yield ""


def _advice(finding: Finding, advice: Advice) -> Iterator[str]:
    if advice.meaning and advice.meaning != told(finding):
        yield f"   - what it means: {escape(advice.meaning)}"
    if advice.evidence:
        yield "   - why it is believed:"
        yield from (f"     - {escape(sentence)}" for sentence in advice.evidence)
    for label, text in (("repair", advice.remedy), ("what could go wrong", advice.risk)):
        if text:
            yield f"   - {label}: {escape(text)}"
    if advice.next_steps:
        yield "   - what to do next:"
        yield from (f"     - {_step(step)}" for step in advice.next_steps)


def _step(step: str) -> str:
    """A step, with the commands in it as code."""
    words, *commands = parted(step)
    return " ".join([escape(words), *map(code, commands)])


def _repairs(report: Report) -> Iterator[str]:
    shown = [r for r in report.repairs if r.status != "rejected"]
    if not shown:
        return
    yield "| repair | at | result | error before | error after |"
    yield "|---|---|---|---|---|"
    for repair in shown:
        where = code(repair.target_layer, table=True) if repair.target_layer else "the interface"
        figures = [number(v) if v is not None else "" for v in (repair.before, repair.after)]
        yield f"| {escape(repair.code)} | {where} | {repair.status} | {figures[0]} | {figures[1]} |"
    yield ""
