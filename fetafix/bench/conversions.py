"""The conversion matrix: every ordered pair of frameworks, converted by established converters, checked, repaired.

A network's source in a framework is native where a definition exists (torchvision, keras.applications; the digits'
network in PyTorch), else it is converted once from one of those. Each pair runs with the source's usual preprocessing
on both sides, and once more with the target framework's usual one on the target's, as somebody does who takes that from
the target's documentation: it is then the preprocessing that has to be found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fetafix import api
from fetafix.bench import conversion_rows, lines
from fetafix.bench.conversion_networks import MODELS, PAIRS, Network, Plan
from fetafix.bench.conversion_rows import FRAMEWORKS, Row
from fetafix.convert import ConversionReport, ConvertOptions, convert
from fetafix.convert.kinds import SUFFIXES
from fetafix.errors import UsageError
from fetafix.executor import executor
from fetafix.report import Report, Verdict

__all__ = ["MODELS", "PAIRS", "Plan", "conversions", "keys", "pairs_of", "write_table"]
RESULTS, TABLE = "results.jsonl", "results.md"
Say = Callable[[str], None]


def keys(plan: Plan) -> list[tuple[object, ...]]:
    """What identifies each row of a plan."""
    pairs = (Pair(Network(plan, model), *pair) for model in plan.models for pair in plan.pairs)
    return [row.key for pair in pairs for row in pair.wanted()]


def pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs from "torch:onnx,keras:*"; * is every framework. Raises UsageError that lists them."""
    found = []
    for part in text.split(","):
        source, colon, target = part.strip().partition(":")
        chosen = [p for p in PAIRS if source in ("*", p[0]) and target in ("*", p[1])]
        if not colon or not chosen:
            raise UsageError(f"expected pairs such as torch:onnx or keras:*, found {part!r}; frameworks: "
                             f"{', '.join(FRAMEWORKS)}")
        found += [p for p in chosen if p not in found]
    return tuple(found)


def conversions(plan: Plan, resume: bool = False, say: Say = lambda _: None) -> Iterator[Row]:
    """Measure pair by pair, first those whose results are known; each row is in the folder's results before.

    Raises UsageError where the folder holds results and they are not to be resumed, or a cluster cannot be reached;
    LostCluster where it ends.
    """
    results = plan.folder / RESULTS
    known = lines.begun(results, Row, resume)
    left = []
    for model in plan.models:
        for source, target in plan.pairs:
            wanted = Pair(Network(plan, model), source, target).wanted()
            if all(row.key in known for row in wanted):
                yield from (known[row.key] for row in wanted)
            else:
                left.append(Pair(Network(plan, model), source, target))
    for rows in _measured(plan, left, say):
        for row in rows:
            if row.key not in known:
                lines.append(results, row)
            yield row


def _measured(plan: Plan, pairs: Sequence[Pair], say: Say) -> Iterator[list[Row]]:
    """The rows of each pair, once all sources are there: what one pair starts from another may be converted from."""
    if not pairs:
        return
    with executor(plan.jobs, plan.cluster) as crew:
        networks = {p.network.model: p.network for p in pairs}
        for network in networks.values():
            for name in network.missing([p.source for p in pairs if p.network.model == network.model]):
                say(f"{network.model}: making {name}")
        wanted = [(n, [p.source for p in pairs if p.network.model == n.model]) for n in networks.values()]
        for made in crew.run(make_sources, wanted):
            network, failures = wanted[made.index][0], {} if made.failure else made.result()
            lost = dict.fromkeys(FRAMEWORKS, made.failure) if made.failure else {}
            networks[network.model] = replace(network, failures={**failures, **lost})
        ready = [replace(p, network=networks[p.network.model]) for p in pairs]
        for outcome in crew.run(measure, ready):
            pair = ready[outcome.index]
            say(f"{pair.network.model}: {FRAMEWORKS[pair.source]} → {FRAMEWORKS[pair.target]}")
            failed = outcome.failure
            yield pair.failed(failed) if failed else outcome.result()


def make_sources(given: tuple[Network, Sequence[str]]) -> dict[str, str]:
    """Make a network's files in some frameworks, and its samples; why those that are not there could not be made."""
    network, frameworks = given
    found = {f: network.source(f)[1] for f in dict.fromkeys(frameworks)}
    network.data()
    return {f: why for f, why in found.items() if why}


def measure(pair: Pair) -> list[Row]:
    """Convert, check, repair one pair, in whichever process."""
    return list(pair.measure())


@dataclass(frozen=True)
class Pair:
    """A network from one framework to another."""

    network: Network
    source: str
    target: str

    def wanted(self) -> list[Row]:
        """The rows that there are to be, without figures."""
        first, second = self.network.preset(self.source), self.network.preset(self.target)
        return [self._row("source", status=""), *([self._row("target", status="")] if first != second else [])]

    def measure(self) -> Iterator[Row]:
        """Convert once, judge the result with both preprocessings."""
        source, why = self.network.source(self.source)
        if source is None:
            for row in self.wanted():
                yield self._row(row.preprocessing, status="unavailable", reason=f"no source: {why}")
            return
        out = self.network.folder / f"{self.source}-to-{self.target}{SUFFIXES[self.target] or '-model'}"
        start = time.perf_counter()
        report = convert(source, out, self.network.options(self.source), self._converting())
        made = Path(report.output.path if report.output else report.rejected or "")
        try:
            yield self._first(source, made, report, start)
            if len(self.wanted()) > 1:
                yield self._second(source, made, report)
        finally:
            _remove(made)

    def failed(self, why: str) -> list[Row]:
        """Rows of a pair of which nothing came back."""
        return [self._row(row.preprocessing, status=Verdict.UNDECIDED.value, reason=why) for row in self.wanted()]

    def _converting(self) -> ConvertOptions:
        return replace(self.network.converting, to=self.target)

    def _first(self, source: Path, made: Path, report: ConversionReport, start: float) -> Row:
        if report.check is None:
            return self._unmade("source", report, time.perf_counter() - start)
        check = report.check
        if not check.passed and check.verdict is not Verdict.UNDECIDED:
            repaired = self._repair(source, made, self.network.options(self.source))
            return self._judged("source", report, check, repaired, time.perf_counter() - start)
        return self._judged("source", report, check, None, time.perf_counter() - start)

    def _second(self, source: Path, made: Path, report: ConversionReport) -> Row:
        """With the target framework's usual preprocessing on the target's side."""
        start = time.perf_counter()
        if report.check is None:
            return self._unmade("target", report, 0.0)
        options = self.network.options(self.source, self.target)
        check = api.check(source, made, options)
        repaired = None if check.passed else self._repair(source, made, options)
        return self._judged("target", report, check, repaired, time.perf_counter() - start)

    def _repair(self, source: Path, made: Path, options: api.Options) -> Report:
        return api.repair(source, made, options, api.RepairOptions())

    def _unmade(self, preprocessing: str, report: ConversionReport, seconds: float) -> Row:
        tried = any(r.status not in ("unavailable", "not tried") for r in report.routes)
        status = "not converted" if tried else "unavailable"
        return self._row(preprocessing, status=status, reason=report.reason, seconds=seconds)

    def _judged(
        self, preprocessing: str, report: ConversionReport, check: Report, repaired: Report | None, seconds: float
    ) -> Row:
        chosen = next(r for r in report.routes if r.number == report.chosen)
        route = ", ".join(f"{s.converter} {' '.join(f'{k}={v}' for k, v in s.options.items())}".strip()
                          for s in chosen.steps)
        last = repaired or check
        after = repaired.after if repaired else None
        return self._row(
            preprocessing, status=last.verdict.value, route=route, before=_differ(check), seconds=seconds,
            after=None if after is None or after.top1 is None else 1 - after.top1,
            max_abs=check.agreement.max_abs if check.agreement else None, reason=last.reason,
            findings=[f.code for f in last.findings], repairs=sum(r.status == "kept" for r in last.repairs))

    def _row(self, preprocessing: str, **figures: Any) -> Row:
        n = self.network
        presets = n.preset(self.source), n.preset(self.source if preprocessing == "source" else self.target)
        return Row(model=n.model, source=self.source, target=self.target, preprocessing=preprocessing, presets=presets,
                   samples=n.plan.samples, size=n.plan.side(n.model), seed=n.plan.seed, **figures)


def _differ(report: Report) -> float | None:
    """The share of labels that differ; None where there are none."""
    figures = report.agreement
    return None if figures is None or figures.top1 is None else 1 - figures.top1


def _remove(made: Path) -> None:
    import shutil

    if made.is_dir() and (made / "saved_model.pb").is_file():
        shutil.rmtree(made)
    elif made.is_file():
        made.unlink()


def write_table(folder: Path, rows: Sequence[Row]) -> Path:
    """The rows as Markdown, beside their JSON lines."""
    path = folder / TABLE
    path.write_text(conversion_rows.markdown(rows), "utf-8")
    return path
