"""A report in plain words, for a reader who knows neither networks nor statistics: the verdict, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fetafix.render.style import number, percent, plural
from fetafix.report import Agreement, Finding, Repair, Report, Verdict

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ANY = "The converted model"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FEW = 0.9  # a lower bound below which a clean result says little


@dataclass(frozen=True)
class Answers:
    """On how many of the samples the answers differ; what is called an answer here."""

    differing: int
    samples: int
    called: str = "answer"


@dataclass(frozen=True)
class Certainty:
    """One sentence on how far the verdict can be relied on; `weak` where it is a reservation."""

    text: str
    weak: bool = False


def figure(value: float | None) -> str:
    """A measured number as people write it: "7.63 × 10⁻⁶", "−0.5"; "–" where there is none."""
    if value is None:
        return "–"
    digits, _, power = number(value).replace("-", "−").partition("e")
    if not power:
        return digits
    power = f"{int(power.replace('−', '-'))}".translate(RAISED)
    return f"{digits}\u202f×\u202f10{power}"


def counted(count: int, thing: str) -> str:
    """As `plural`, small numbers as words: "four causes"."""
    word = _NUMBERS[count] if 0 <= count < len(_NUMBERS) else f"{count:,}"
    return f"{word} {thing}" if count == 1 else f"{word} {thing}s"


def answers(report: Report, agreement: Agreement | None) -> Answers | None:
    """Labels, or what another task that weighs makes of outputs; None where the numbers alone are judged."""
    if agreement is None or report.gate == "numeric":
        return None
    weighing = [t for t in agreement.tasks if t.weighs and t.share is not None]
    if weighing:
        worst = min(weighing, key=lambda t: t.share or 0.0)
        return Answers(worst.samples - worst.agreeing, worst.samples)
    if agreement.top1 is None or not agreement.samples:
        return None
    return Answers(round((1 - agreement.top1) * agreement.samples), agreement.samples)


def sentence(report: Report) -> str:
    """The verdict in one plain sentence."""
    if report.verdict is Verdict.UNDECIDED:
        return "It could not be decided whether the converted model gives the same answers as the original."
    if report.command == "convert" and report.agreement is None:
        return "No converted model that answers like the original came about."
    before = answers(report, report.agreement)
    said = _said(report.agreement, before, past=report.after is not None)
    if report.after is not None:
        return f"{_ANY} {said}; {_mended(report)}."
    if report.verdict is Verdict.EQUIVALENT:
        return f"{_ANY} {said}{_expected(before)}."
    if report.verdict is Verdict.DRIFTING:
        tail = "" if before is None else ", but its numbers differ by more than harmless rounding explains"
        return f"{_ANY} {said}{tail}{_causes(report)}."
    if before is not None and not before.differing:
        return f"{_ANY} is not a faithful copy of the original, although it {said}{_causes(report)}."
    return f"{_ANY} {said}{_causes(report)}."


def mended(report: Report, finding: Finding) -> Repair | None:
    """The repair that was kept for a finding; None where there is none."""
    there = [r for r in report.repairs if r.status == "kept" and r.target_layer == finding.target_layer]
    same = [r for r in there if r.code == finding.code]
    return next(iter(same or (there if len(there) == 1 else [])), None)


def certainty(report: Report) -> Iterator[Certainty]:
    """How sure the verdict is: on how many inputs it rests, where they come from, what that supports, and what not."""
    if report.verdict is Verdict.UNDECIDED or report.agreement is None:
        yield Certainty("Nothing was compared, so nothing is known about how far the models agree.", weak=True)
        return
    yield from _inputs(report)
    yield from _bounds(report)
    yield from _noise(report)
    yield from _searched(report)


def _said(agreement: Agreement | None, known: Answers | None, past: bool = False) -> str:
    """What the converted model does on the samples."""
    gives, puts = ("gave", "put") if past else ("gives", "puts")
    if known is not None and known.differing:
        return (f"{gives} another {known.called} than the original on {known.differing:,} of "
                f"{plural(known.samples, 'test input')}")
    if known is not None:
        return f"{gives} the same {known.called} as the original on {_every(known.samples)}"
    if agreement is None or agreement.max_abs is None:
        return f"{'did' if past else 'does'} not answer like the original"
    outputs = [o.within for o in agreement.outputs if o.within is not None]
    if outputs and all(outputs):
        return f"{puts} out the same numbers as the original on {_every(agreement.samples)}, up to harmless rounding"
    off = f"they differ{'ed' if past else ''} by up to {figure(agreement.max_abs)}"
    allowed = "" if agreement.tolerance is None else f", where {figure(agreement.tolerance)} would be harmless"
    return f"{puts} out other numbers than the original: {off}{allowed}"


def _every(samples: int) -> str:
    return "the one test input" if samples == 1 else f"every one of {plural(samples, 'test input')}"


def _expected(known: Answers | None) -> str:
    return "" if known is None or not known.differing else ", which is within what was allowed"


def _causes(report: Report) -> str:
    """How many causes are known, where they were looked for."""
    if report.command not in ("localize", "repair"):
        return ""
    count = len(report.findings)
    if not count:
        return "; no cause was found"
    were = f"; {counted(count, 'cause')} {'was' if count == 1 else 'were'} found"
    if report.command == "localize":
        return were
    return f"{were}, and {'it' if count == 1 else 'none of them'} could {'not ' if count == 1 else ''}be mended"


def _mended(report: Report) -> str:
    """After a repair: how many causes are gone, and how the repaired model answers."""
    before, later = answers(report, report.agreement), answers(report, report.after)
    tail = _said(report.after, later)
    if later is not None and before is not None and later.samples == before.samples:
        tail = "gives the same answer on every one"
        if later.differing:
            tail = f"still gives another answer on {later.differing:,} of them"
    if report.output is None:
        return f"{_healed(report)} on trial: so repaired, it {tail}, and nothing was written"
    return f"{_healed(report)}: the repaired model {tail}"


def _healed(report: Report) -> str:
    count, gone = len(report.findings), sum(mended(report, f) is not None for f in report.findings)
    kept = sum(r.status == "kept" for r in report.repairs)
    if not count:
        return f"{counted(kept, 'approved change')} {'was' if kept == 1 else 'were'} made"
    found = f"{counted(count, 'cause')} {'was' if count == 1 else 'were'} found"
    if not gone:
        return f"{found}, and {counted(kept, 'change')} {'was' if kept == 1 else 'were'} made"
    if gone == count:
        return f"{found} and {('mended', 'both mended')[count - 1] if count < 3 else 'all of them mended'}"
    return f"{found} and {counted(gone, 'of them').removesuffix('s')} mended"


def _inputs(report: Report) -> Iterator[Certainty]:
    s, repaired = report.samples, report.after is not None
    if repaired and s.heldout:
        yield Certainty(f"The repair was judged on {plural(s.heldout, 'input')} that it was not chosen on: they were "
                        f"kept apart from the {s.search:,} that were used to find and choose it.")
    elif repaired:
        yield Certainty("No input was kept apart: the repair was judged on those that it was chosen on.", weak=True)
    elif report.agreement is not None:
        yield Certainty(f"Both models were run, each in its own software, on the same "
                        f"{plural(report.agreement.samples, 'input')}.")
    if "synthetic" in s.origin:
        yield Certainty(f"The inputs were made up ({s.origin}). Real ones can reach parts of a model that made-up ones "
                        "leave alone, so this is weaker evidence.", weak=True)
    elif s.origin:
        yield Certainty(f"The inputs come from {s.origin}.")
    if s.stopped_early:
        yield Certainty("The question was settled before all inputs had been run, so the rest was left out.")
    if s.skipped:
        yield Certainty(f"{plural(len(s.skipped), 'input')} could not be used.", weak=True)


def _bounds(report: Report) -> Iterator[Certainty]:
    last = report.after or report.agreement
    known = answers(report, last)
    if last is None or known is None:
        return
    weighing = [t.bounds for t in last.tasks if t.weighs and t.bounds is not None]
    bounds = min(weighing) if weighing else last.top1_bounds
    if bounds is None:
        return
    low, high = bounds
    sure = "" if last.confidence is None else f", with {percent(last.confidence)} confidence"
    yield Certainty(
        f"What {plural(known.samples, 'input')} can tell: if they are drawn at random, the answers agree on between "
        f"{percent(low)} and {percent(high)} of all inputs of their kind{sure}.")
    if not known.differing and low < 1:
        yield Certainty(f"So it is not ruled out that up to one in {1 / (1 - low):,.0f} such inputs gets another "
                        "answer; more inputs would narrow that down.", weak=low < _FEW)


def _noise(report: Report) -> Iterator[Certainty]:
    last = report.after or report.agreement
    if last is None or last.max_abs is None:
        return
    words = f"The largest difference between two numbers that the models put out is {figure(last.max_abs)}."
    if last.tolerance is not None:
        words += f" Up to {figure(last.tolerance)} is tolerated"
        own = f": the original differs from itself by up to {figure(last.noise_floor)} under harmless changes"
        words += f"{own if last.noise_floor is not None else ''}."
    yield Certainty(words)


def _searched(report: Report) -> Iterator[Certainty]:
    s = report.search
    if s is None or s.skipped or not s.tried:
        yield Certainty("No inputs beyond these were looked for on which the models might disagree.", weak=True)
        return
    tried = f"{plural(s.tried, 'further input')} {'was' if s.tried == 1 else 'were'} made up to provoke a difference"
    if s.found:
        yield Certainty(f"{tried}; {s.found:,} of them show one.", weak=True)
    else:
        yield Certainty(f"{tried}; none within the range of real inputs shows one.")
