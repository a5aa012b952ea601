"""What a search beside the data means for the report: the verdict, the words, the inputs kept as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from fetafix import hidden
from fetafix.boundary import Candidate
from fetafix.errors import OutputError
from fetafix.files import replacing
from fetafix.ir import Array
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.report import Report, Search, Shown, Verdict
from fetafix.session import Session

_WORST = 4


def extended(session: Session, report: Report, judgement: Judgement) -> Report:
    """The report of the samples, with what a search beside them shows; the session gets the inputs found as annexes.

    Raises OutputError where the inputs cannot be kept.
    """
    options = session.options
    if options.search == "off":
        return report
    outcome = hidden.search(session, judgement, options.search, report.command)
    session.annexes = outcome.annexes
    files = keep(options.keep_worst, outcome.worst) if options.keep_worst else []
    found = msgspec.structs.replace(outcome.record, kept=files)
    report = msgspec.structs.replace(report, search=found, notes=[*report.notes, *_notes(found)])
    turned = any(c.labels is not None and c.labels[0] != c.labels[1] for c in outcome.evidence)
    if outcome.evidence and report.gate == "task":  # only its comparators know which answers differ
        beside = session.beside()
        turned = beside is None or beside.ruling.verdict is not Verdict.DRIFTING
    return _ruled(report, outcome.evidence, turned and not options.max_mismatch)


def unmasked(session: Session, report: Report) -> Report:
    """The report, once localization may have found inputs that show what other faults masked: they are kept as well."""
    path, search = session.options.keep_worst, report.search
    if not path or search is None or search.kept or not session.annexes:
        return report
    worst = [{n: np.asarray(v)[:_WORST] for n, v in a.source.arrays.items()} for a in session.annexes]
    return msgspec.structs.replace(report, search=msgspec.structs.replace(search, kept=keep(path, worst)))


def seen_inside(report: Report) -> Report:
    """The report of an equivalent pair whose answers to inputs with ties differ, once a look inside has shown why."""
    words = "but where answers hang on ties the target's differ, and a layer of it makes the difference"
    verdict = _short_of(report)
    passed = report.passed and verdict is Verdict.DRIFTING and report.gate != "numeric"
    reason = f"{report.reason.rstrip('.')}; {words}"
    return msgspec.structs.replace(report, verdict=verdict, passed=passed, reason=reason)


def still_hidden(session: Session, proof: Judgement, copy: ModelProcess) -> str:
    """What a short search shows of a repaired copy, as the end of a sentence; "" where it shows nothing."""
    if session.options.search == "off":
        return ""
    outcome = hidden.search(session, proof, session.options.search, "check", copy)
    return _words(outcome.record) if outcome.evidence else ""


def keep(path: str | Path, worst: Sequence[Mapping[str, Array]]) -> list[str]:
    """Write inputs, by source input (k, *item), to `path`, groups of other shapes to PATH-2.npz and so on.

    Each is what --data takes. Raises OutputError. Nothing is written where there is nothing to keep.
    """
    made = []
    for number, group in enumerate(worst, 1):
        base = Path(path)
        file = base if number == 1 else base.with_name(f"{base.stem}-{number}{base.suffix}")
        try:
            with replacing(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **group)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputError(f"the inputs cannot be written to {file}: {error.strerror}") from error
        made.append(str(file))
    return made


def _ruled(report: Report, evidence: Sequence[Candidate], turned: bool) -> Report:
    """The verdict with evidence from beside the samples: what the same answers to samples would have made of it.

    turned: some answer differs that may not, not only its numbers.
    """
    if not evidence or report.search is None:
        return report
    broken = not np.isfinite(evidence[0].excess)
    verdict = Verdict.DIVERGENT if turned or broken else _short_of(report)
    passed = report.passed and verdict is Verdict.DRIFTING and report.gate != "numeric"
    reason = f"{report.reason.rstrip('.')}; but {_words(report.search)}"
    return msgspec.structs.replace(report, verdict=verdict, passed=passed, reason=reason)


def _short_of(report: Report) -> Verdict:
    """What other numbers make of a pair whose samples agree: drift where there are answers that do."""
    known = report.agreement is not None and any(t.weighs for t in report.agreement.tasks)
    return Verdict.DRIFTING if known else Verdict.DIVERGENT


def _words(search: Search) -> str:
    worst = search.shown[0]
    return (f"{search.found} of {search.tried} inputs searched beside them, within what the data and both models "
            f"cover, show a difference (worst: {_one(worst)})")


def _one(shown: Shown) -> str:
    parts = [shown.what]
    if shown.max_abs is None:
        parts.append("another shape, or numbers that are not finite")
    else:
        parts.append(f"values differ by {shown.max_abs:.2g}")
    if shown.labels is not None:
        parts.append(f"source says {shown.labels[0]}, target {shown.labels[1]}")
    return ", ".join(parts)


def _notes(search: Search) -> list[str]:
    lines = []
    if search.outside and not search.found:
        lines.append(f"outside the range of the data the models differ ({search.outside} of {search.tried} inputs "
                     f"searched; worst: {_one(search.shown[0])}); the samples do not reach there")
    if search.unsure:
        lines.append(f"{search.unsure} inputs searched get other answers where the source's own hangs on rounding, as "
                     "with ties; localize looks inside for a cause")
    if search.turned:
        lines.append(f"{search.turned} inputs searched, near the boundary of two labels, get another label within "
                     "what the numbers drift by")
    return lines
