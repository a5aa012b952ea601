"""The report for people: the verdict first, then why, then what was found and done. Short; `verbose` tells the rest.

Names of layers and files are never shortened: they are there to be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fetafix.render import advice, rounding, tasks
from fetafix.render.style import Style, number, percent, plural, wrap
from fetafix.report import Agreement, Finding, ModelInfo, OutputAgreement, Repair, Report, TensorInfo, Verdict

_COLOURS = {
    Verdict.EQUIVALENT: "green", Verdict.REPAIRED: "green", Verdict.DRIFTING: "yellow",
    Verdict.PARTLY_REPAIRED: "yellow", Verdict.UNDECIDED: "yellow", Verdict.DIVERGENT: "red",
}
_STATUS = {"kept": "green", "unsupported": "yellow", "rejected": "dim"}
_LABEL = 12
_MISMATCHES = 10


def render(report: Report, verbose: bool = False, colour: bool = False, quiet: bool = False) -> str:
    """The report as text that ends with a newline; `quiet` gives the verdict's line alone."""
    paint = Style(colour)
    lines = [_headline(report, paint)]
    if not quiet:
        lines += [*wrap(report.reason, 2), ""] if report.reason else [""]
        lines += [*_models(report, verbose), *_agreement(report, verbose), *_search(report, verbose)]
        lines += [*_findings(report, paint, verbose), *rounding.render(report.quantisation, paint, verbose)]
        lines += [*_repairs(report, paint, verbose), *_end(report, verbose)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _headline(report: Report, paint: Style) -> str:
    verdict = paint(report.verdict.value.replace("_", " ").upper(), f"bold {_COLOURS[report.verdict]}")
    gate = {True: f", passes the {report.gate} gate", False: f", fails the {report.gate} gate"}
    return f"fetafix {report.command}: {verdict}{gate.get(report.passed, '') if report.passed is not None else ''}"


def _row(label: str, text: str) -> list[str]:
    return wrap(text, _LABEL + 2, f"  {label:<{_LABEL - 1}} ")


def _models(report: Report, verbose: bool) -> Iterator[str]:
    apart = len({_runtime(m).get("threads") for m in (report.source, report.target) if m.format}) > 1
    for role, model in (("source", report.source), ("target", report.target)):
        yield f"  {role:<{_LABEL}}{model.path} ({_facts(model, threads=apart)})"
        if verbose:
            yield from _row("", f"SHA-256 {model.sha256}") if model.sha256 else ()
            yield from _row("", f"inputs {_tensors(model.inputs)}; outputs {_tensors(model.outputs)}")
    s = report.samples
    if s.search or s.heldout or s.origin:
        counts = f"{s.search} to search with, {s.heldout} held out"
        if report.command == "check" or not s.heldout:
            counts = str(s.search + s.heldout)
        rounds = f", {plural(s.rounds, 'round')}" if s.rounds > 1 else ""
        early = ", stopped early: decided" if s.stopped_early else ""
        origin = f", from {s.origin}" if s.origin else ""
        yield from _row("samples", f"{counts}{origin}; seed {report.seed}{rounds}{early}")
    if s.skipped:
        shown = s.skipped if verbose or len(s.skipped) <= 3 else [*s.skipped[:3], f"and {len(s.skipped) - 3} more (-v)"]
        yield from _row("skipped", f"{len(s.skipped)}: {'; '.join(shown)}")


def _facts(model: ModelInfo, threads: bool = False) -> str:
    """Format, opset, and how its runtime was told to run where that is not as usual."""
    facts = [model.format or "unknown format"]
    facts += [f"{k} {v}" for k, v in model.details.items() if isinstance(v, str | int | float) and k == "opset"]
    facts += [f"{k} {v}" for k, v in _runtime(model).items() if k != "threads" or threads]
    return ", ".join(facts)


def _runtime(model: ModelInfo) -> dict[str, Any]:
    told = model.details.get("runtime_options", {})
    return told if isinstance(told, dict) else {}


def _tensors(tensors: list[TensorInfo]) -> str:
    def one(t: TensorInfo) -> str:
        shape = "?" if t.shape is None else "×".join("?" if d is None else str(d) for d in t.shape)
        return f"{t.name} {t.dtype} {shape}"

    return ", ".join(one(t) for t in tensors) or "none"


def _agreement(report: Report, verbose: bool) -> Iterator[str]:
    before, after = report.agreement, report.after
    if before is None:
        return
    if before.top1 is not None:
        yield from _row("labels", _change(_labels, before, after))
    for task, words in tasks.rows(before, after):
        yield from _row(task, words)
    if before.max_abs is not None or before.cosine is not None:
        yield from _row("numbers", _change(_numbers, before, after))
        if before.noise_floor is not None:
            tolerance = "" if before.tolerance is None else f"; tolerance {number(before.tolerance)}"
            yield from _row("noise", f"the source differs from itself by up to {number(before.noise_floor)}{tolerance}")
    last = after or before
    if verbose or len(last.outputs) > 1 or any(o.code_step is not None for o in last.outputs):
        for output in last.outputs:
            yield from _row("output", _output(output))
    if verbose and last.mismatches:
        more = len(last.mismatches) - _MISMATCHES
        shown = [*last.mismatches[:_MISMATCHES], *([f"and {more} more"] if more > 0 else [])]
        yield from _row("differ", "; ".join(shown))


def _search(report: Report, verbose: bool) -> Iterator[str]:
    s = report.search
    if s is None or (s.skipped and not verbose):
        return
    if s.skipped:
        yield from _row("searched", f"nothing beside the samples: {s.skipped}")
        return
    what = f"{s.found} show a difference" if s.found else "none within their range shows a difference"
    yield from _row("searched", f"{plural(s.tried, 'input')} beside the samples ({s.level}): {what}")
    for shown in s.shown if verbose or s.found else ():
        known = shown.max_abs is not None
        figure = f"max |difference| {number(shown.max_abs)}" if known else "another shape, or not finite"
        labels = "" if shown.labels is None else f", source says {shown.labels[0]}, target {shown.labels[1]}"
        yield from _row("", f"{shown.what}: {figure}{labels}{'' if shown.inside else ' (outside the range)'}")
    for path in s.kept:
        yield from _row("kept", path)


def _change(words: Callable[[Agreement], str], before: Agreement, after: Agreement | None) -> str:
    return words(before) if after is None else f"{words(before)}\n→ {words(after)}"


def _labels(a: Agreement) -> str:
    bounds = f" ({percent(a.top1_bounds[0])} to {percent(a.top1_bounds[1])})" if a.top1_bounds else ""
    five = "" if a.top5 is None else f", top-5 {percent(a.top5)}"
    tau = "" if a.kendall_tau is None else f", Kendall's tau {a.kendall_tau:.4f}"
    return f"top-1 agree on {percent(a.top1)} of {plural(a.samples, 'sample')}{bounds}{five}{tau}"


def _numbers(a: Agreement) -> str:
    parts = [f"max |difference| {number(a.max_abs)}", f"mean {number(a.mean_abs)}"]
    parts += [f"cosine {a.cosine:.6f}"] if a.cosine is not None else []
    parts += [f"SQNR {a.sqnr_db:.1f} dB"] if a.sqnr_db is not None else []
    return ", ".join(parts)


def _output(o: OutputAgreement) -> str:
    names = o.target if o.target == o.source else f"{o.target} (source: {o.source})"
    parts = [f"max |difference| {number(o.max_abs)}"]
    parts += [f"at most {_codes(o.max_codes)} of {number(o.code_step)}"] if o.max_codes is not None else []
    parts += [f"noise floor {number(o.noise_floor)}"]
    parts += [f"tolerance {number(o.tolerance)}"] if o.tolerance is not None else []
    parts += [plural(o.nonfinite, "value") + " not finite"] if o.nonfinite else []
    parts += [{True: "within", False: "beyond"}[o.within]] if o.within is not None else []
    return f"{names}: {', '.join(parts)}"


def _codes(count: float) -> str:
    """"1 code" of 1.0; a quantised output that meets one in real numbers may be off by a part of a code."""
    return plural(round(count), "code") if abs(count - round(count)) < 0.01 else f"{count:.2f} codes"


def _findings(report: Report, paint: Style, verbose: bool) -> Iterator[str]:
    if not report.findings:
        return
    yield ""
    more = "" if verbose or not any(f.advice for f in report.findings) else " (-v: why, and what to do next)"
    yield paint(plural(len(report.findings), "finding"), "bold") + more
    for index, finding in enumerate(report.findings, 1):
        yield from _finding(index, finding, paint, verbose)


def _finding(index: int, finding: Finding, paint: Style, verbose: bool) -> Iterator[str]:
    yield f"  {index}. {paint(finding.code, 'bold')}: {finding.title}"
    yield f"     target  {paint(finding.target_layer or 'the interface', 'bold')}"
    if finding.source_layer:
        yield f"     source  {finding.source_layer}"
    yield from advice.line(finding)
    if finding.explanation:
        yield from wrap(finding.explanation, 5)
    facts = [] if finding.local_error is None else [f"error introduced here {number(finding.local_error)}"]
    facts += [f"confidence {percent(finding.confidence)}"] if finding.confidence else []
    if facts:
        yield f"     {paint(', '.join(facts), 'dim')}"
    if verbose:
        for key, value in finding.evidence.items():
            yield from wrap(f"{key}: {_plain(value)}", 9, "       ")
        yield from advice.full(finding.advice, paint) if finding.advice is not None else ()


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return str(value)


def _repairs(report: Report, paint: Style, verbose: bool) -> Iterator[str]:
    if not report.repairs:
        return
    shown = [r for r in report.repairs if verbose or r.status != "rejected"]
    kept = sum(r.status == "kept" for r in report.repairs)
    yield ""
    tried = plural(len(report.repairs), "repair")
    more = "" if len(shown) == len(report.repairs) else " (-v shows all)"
    yield paint(f"{tried} tried, {kept} kept", "bold") + more
    for repair in shown:
        yield from _repair(repair, paint, verbose)


def _repair(repair: Repair, paint: Style, verbose: bool) -> Iterator[str]:
    status = paint(f"{repair.status:<{_LABEL}}", _STATUS.get(repair.status, ""))
    figures = "" if repair.before is None else f": error {number(repair.before)} → {number(repair.after)}"
    yield f"  {status}{repair.code}{figures}"
    yield f"{'':{_LABEL + 2}}at {repair.target_layer or 'the interface'}"
    for edit in repair.edits:
        yield from wrap(edit_text(edit), _LABEL + 4, " " * (_LABEL + 2))
    if repair.why and (verbose or repair.status != "kept"):
        yield from wrap(repair.why, _LABEL + 2)


def edit_text(edit: dict[str, Any]) -> str:
    """One line for an edit as the report holds it."""
    text = edit.get("description") or edit.get("describe")
    plain = (f"{k} {_plain(v)}" for k, v in edit.items() if isinstance(v, str | int | float | list))
    return str(text or ", ".join(plain))


def _end(report: Report, verbose: bool) -> Iterator[str]:
    tail: list[str] = []
    if report.output:
        tail += _row("written", report.output.path)
        tail += _row("", f"SHA-256 {report.output.sha256}") if verbose else []
    if report.journal:
        tail += _row("journal", report.journal)
    for path in filter(None, report.reproductions):
        tail += _row("reproduced", path)
    for note in report.notes:
        tail += _row("note", note)
    if verbose and report.timings:
        tail += _row("time", ", ".join(f"{k} {v:.2f} s" for k, v in report.timings.items()))
    if tail:
        yield ""
        yield from tail
