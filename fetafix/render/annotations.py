"""GitHub's workflow commands (`::error file=…,title=…::…`): findings shown beside the change that brought them.

GitHub shows at most ten of each level a step, so that where there are more the last one says how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fetafix.gate.record import GateReport, Status
from fetafix.render.cases import Case, cases, place, told, waived
from fetafix.render.markup import clean
from fetafix.render.style import plural
from fetafix.report import Report

_MOST = 10
_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: Report | GateReport, locate: Callable[[str], str] = str) -> str:
    """A line an annotation; nothing where all pairs pass without findings. locate: a path → as GitHub knows it."""
    by_level: dict[str, list[str]] = {level: [] for level in _COMMANDS}
    for case in cases(report):
        for level, line in _annotations(case, locate(case.report.target.path)):
            by_level[level].append(line)
    lines: list[str] = []
    for level, made in by_level.items():
        more = len(made) - (_MOST - 1) if len(made) > _MOST else 0
        lines += made[: len(made) - more]
        if more:
            lines.append(_line(level, "", "fetafix", f"{plural(more, 'more annotation')}; the report has them all"))
    return "".join(f"{line}\n" for line in lines)


def _annotations(case: Case, file: str) -> Iterator[tuple[str, str]]:
    report = case.report
    for finding in report.findings:
        known = case.acceptance(finding)
        said = "\n".join(filter(None, (told(finding), f"at {place(finding)}", waived(known) if known else "")))
        level = case.level(finding)
        yield level, _line(level, file, f"{case.name}: {finding.code}, {finding.title}", said)
    open_ones = [f for f in report.findings if case.level(f) == "error"]
    if case.status is Status.UNDECIDED or (case.status is Status.FAILED and not open_ones):
        yield "error", _line("error", file, f"{case.name}: {report.verdict.value}", report.reason)


def _line(level: str, file: str, title: str, message: str) -> str:
    where = f"file={_property(file)}," if file else ""
    return f"::{_COMMANDS[level]} {where}title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
