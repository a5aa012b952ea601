"""The conversion matrix: every ordered pair of frameworks, converted by established converters, checked, repaired.

A network's source in a framework is native where a definition exists (torchvision, keras.applications; the digits'
network in PyTorch), else it is converted once from one of those. Each pair runs with the source's usual preprocessing
on both sides, and once more with the target framework's usual one on the target's, as somebody does who takes that from
the target's documentation: it is then the preprocessing that has to be found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from fetafix import api
from fetafix.bench import calibration, conversion_rows, lines
from fetafix.bench.conversion_rows import FRAMEWORKS, Row
from fetafix.bench.measure import run as run_python
from fetafix.convert import ConversionReport, ConvertOptions, convert
from fetafix.convert.kinds import SUFFIXES
from fetafix.errors import UsageError
from fetafix.executor import executor
from fetafix.report import Report, Verdict

MODELS = {"digits": 8, "MobileNetV2": 224, "ResNet101": 224, "InceptionV3": 299}
PAIRS = tuple(permutations(FRAMEWORKS, 2))
_KERAS_PRESETS = {"MobileNetV2": "keras-tf", "ResNet101": "keras-caffe", "InceptionV3": "keras-tf"}
_OF_TORCH, _SUFFIX = ("torch", "onnx"), {**SUFFIXES, "torch": ".pt2"}
RESULTS, TABLE = "results.jsonl", "results.md"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. size: of the networks' inputs (None: their own). data: a folder of images (None: made up).

    jobs: conversions at a time, in processes of their own; cluster: on a Dask cluster instead.
    """

    folder: Path
    models: tuple[str, ...] = tuple(MODELS)
    pairs: tuple[tuple[str, str], ...] = PAIRS
    samples: int = 60
    size: int | None = None
    seed: int = 0
    data: str | None = None
    routes: int = 3
    timeout: float = 1800.0
    jobs: int = 1
    cluster: str | None = None

    @property
    def keys(self) -> list[tuple[object, ...]]:
        """What identifies each row."""
        pairs = (Pair(Network(self, model), *pair) for model in self.models for pair in self.pairs)
        return [row.key for pair in pairs for row in pair.wanted()]

    def side(self, model: str) -> int:
        """Height and width of a model's input."""
        return MODELS[model] if self.size is None or model == "digits" else self.size


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
class Network:
    """One network and its source files, made when they are first asked for. failures: why one could not be made."""

    plan: Plan
    model: str
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.plan.folder / f"{self.model}-{self.plan.side(self.model)}-{self.plan.seed}"

    def data(self) -> str:
        """The samples: the user's images, or made-up ones; the digits' own."""
        if self.model != "digits" and self.plan.data is not None:
            return self.plan.data
        path = self.folder / "samples.npy"
        if not path.exists() and self.model != "digits":
            count = max(self.plan.samples, 2 * calibration.COUNT)
            calibration.make_images(path, self.plan.side(self.model), count, self.plan.seed)
        return str(path)

    def preset(self, framework: str) -> str:
        """A framework's usual preprocessing of this network; "" where its samples need none."""
        if self.model == "digits":
            return ""
        return "torchvision" if framework in _OF_TORCH else _KERAS_PRESETS[self.model]

    def options(self, source: str, target: str | None = None) -> api.Options:
        """How to compare, with the presets of two frameworks."""
        first, second = (self.preset(f) or None for f in (source, target or source))
        return api.Options(data=self.data(), samples=self.plan.samples, seed=self.plan.seed, source_preprocess=first,
                           target_preprocess=second)

    def source(self, framework: str) -> tuple[Path | None, str]:
        """The network's file in a framework, or None and why there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(framework)
        if framework not in self.failures and not path.exists():
            origin = self._origin(framework)
            self.failures[framework] = self._native(framework, path) if origin is None else self._from(origin, path)
        return (path, "") if path.exists() else (None, self.failures.get(framework, ""))

    def missing(self, frameworks: Sequence[str]) -> list[str]:
        """Names of the files that are to be made for some frameworks, those that others are made from among them."""
        needed = [f for g in frameworks for f in (self._origin(g), g) if f is not None]
        return [p.name for f in dict.fromkeys(needed) if not (p := self._path(f)).exists()]

    def _path(self, framework: str) -> Path:
        return self.folder / f"{framework}{_SUFFIX[framework]}"

    def _origin(self, framework: str) -> str | None:
        """What it is converted from; None for a native definition."""
        native = ("torch",) if self.model == "digits" else ("torch", "keras")
        if framework in native:
            return None
        return "torch" if framework in _OF_TORCH or self.model == "digits" else "keras"

    def _native(self, framework: str, path: Path) -> str:
        module = f"fetafix.bench.{framework}_networks"
        side = str(self.plan.side(self.model))
        partial = path.with_name(f"partial-{path.name}")
        try:
            run_python(["-m", module, self.model, str(partial), side, self.data(), self.preset(framework) or "raw",
                        str(self.plan.seed)])
        except RuntimeError as error:
            return str(error)
        partial.rename(path)
        return ""

    def _from(self, origin: str, path: Path) -> str:
        source, why = self.source(origin)
        if source is None:
            return why
        report = convert(source, path, self.options(origin), self.converting)
        if report.rejected and report.verdict is not Verdict.UNDECIDED:
            Path(report.rejected).rename(path)  # a source need not be like where it comes from
        return report.reason

    @property
    def converting(self) -> ConvertOptions:
        """Routes until one passes; the best is kept in any case, for its repair is measured, too."""
        return ConvertOptions(routes=self.plan.routes, timeout=self.plan.timeout, keep_rejected=True, force=True)


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
