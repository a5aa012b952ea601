"""The stress test as a whole: models opened, samples drawn, each storage of each model tried rate by rate."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fetafix import formats
from fetafix.errors import ModelError, UnreadableModel, UsageError
from fetafix.formats import stored
from fetafix.parallel import threads_each
from fetafix.report import ModelInfo
from fetafix.storage import sweep
from fetafix.storage.trials import tolerated
from fetafix.stress import words
from fetafix.stress.answers import classes, head, top1
from fetafix.stress.beside import beside, bit_damage, foresee, layer_damage
from fetafix.stress.cells import Cells
from fetafix.stress.exam import Exam, Examiner
from fetafix.stress.hosts import Hosts
from fetafix.stress.journal import Journal, Trial, digest
from fetafix.stress.lane import Lane, Paper, stated
from fetafix.stress.medium import Medium, Target, encode, target
from fetafix.stress.options import Storing, StressOptions
from fetafix.stress.record import Cell, StressReport, Subject

_MARGIN = 1e-9
_SHM = Path("/dev/shm")


@dataclass(frozen=True, eq=False)
class Asked:
    """A model without a fault: its answers, int64 (N,), to its exam. output: the one that holds its scores."""

    path: Path
    info: ModelInfo
    exam: Exam
    output: str
    answers: np.ndarray
    seconds: float


def stress(models: Sequence[str | Path], options: StressOptions) -> StressReport:
    """Strike models with bit flips and count what they survive.

    Raises UsageError or InputDataError where what was asked for makes no sense, ModelError where a model does not run
    without a fault.
    """
    start = time.monotonic()
    if not models:
        raise UsageError("expected at least one model to stress")
    copies = 1 + (options.jobs or threads_each(1))
    with _scratch(models, copies) as folder, _temporary() as feeds, Hosts(options) as hosts:
        journal = Journal(options.keep)
        examiner = Examiner(options, Path(feeds))
        asked = [_asked(i, Path(m), examiner, hosts, options) for i, m in enumerate(models)]
        subjects: list[Subject] = []
        trials: dict[tuple[str, float], list[Trial]] = {}
        wanted = [(i, storing) for i in range(len(models)) for storing in options.storings]
        names = _names([asked[i].path for i, _ in wanted], [storing for _, storing in wanted], options)
        for place, ((i, storing), name) in enumerate(zip(wanted, names, strict=True)):
            bench = _Bench(asked[i], storing, name, folder / f"subject-{place}", hosts, options, journal)
            subject, found = bench.measure(place, len(wanted))
            subjects.append(subject)
            trials |= {(name, ber): rows for ber, rows in found.items()}
    exam = asked[0].exam
    return StressReport(
        verdict=words.verdict(subjects, options), seed=options.seed, confidence=options.confidence,
        survival=options.survival, max_drop=options.max_drop, samples=exam.count, origin=exam.origin,
        labels=exam.labelled, subjects=subjects, pairs=words.pairs(subjects, trials), required=options.require,
        reached=options.require is None or all(words.reached(s, options.require) for s in subjects),
        notes=list(exam.notes), timings={"total": round(time.monotonic() - start, 3)})


def replay(model: str | Path, options: StressOptions, ber: float, trial: int, out: Path) -> int:
    """Write the struck file of one trial to `out`, its external data beside it; returns how many bits flipped.

    Raises UsageError where the options ask for several storages, OutputError where it cannot be written.
    """
    if len(options.storings) != 1:
        raise UsageError("a trial is replayed for one storage: give one --dtype and one --scheme")
    with _scratch([model], 1) as folder:
        wanted = _struck_copy(Path(model), options.storings[0], folder / "copy", options)
        where = sweep.flips_of(options.seed, ber, trial, wanted.bits)
        with Medium(wanted) as medium:
            medium.strike(where)
        from fetafix.stress.written import write

        write(wanted, Path(model), out)
    return int(where.size)


def _struck_copy(path: Path, storing: Storing, folder: Path, options: StressOptions) -> Target:
    """A copy of a model in the storage asked for, whole."""
    if options.scope == "file":
        formats.recognise(path)
    needed: dict[str, Literal["all", "weights", "none"]] = {"weights": "weights", "file": "none"}
    copied = stored.copy(path, folder, needed.get(options.scope, "all"))
    wanted = target(copied, options.scope, storing, options.granularity)
    encode(wanted)
    return wanted


def _asked(number: int, path: Path, examiner: Examiner, hosts: Hosts, options: StressOptions) -> Asked:
    """Run a model without a fault. Raises ModelError, InputDataError, UsageError."""
    with hosts.lent(path) as host:
        info = host.open(path)
        options.progress(f"fault-free run of {path.name}", 0, None)
        exam = examiner.exam(number, info)
        start = time.monotonic()
        outputs = host.run(exam, options.batch)
        seconds = time.monotonic() - start
        name = head(outputs, path, options.output)
        exam = examiner.labelled(exam, classes(outputs[name]))
        return Asked(path, info, exam, name, top1(outputs[name]), seconds)


class _Bench:
    """One model in one storage: its copies, its lanes, its cells."""

    def __init__(self, asked: Asked, storing: Storing, name: str, folder: Path, hosts: Hosts,
                 options: StressOptions, journal: Journal) -> None:
        self._asked, self._storing, self._name, self._folder = asked, storing, name, folder
        self._hosts, self._options, self._journal = hosts, options, journal

    def measure(self, place: int, places: int) -> tuple[Subject, dict[float, list[Trial]]]:
        """The subject's record, and its trials by rate."""
        options = self._options
        try:
            wanted = _struck_copy(self._asked.path, self._storing, self._folder / "0", options)
        except (UnreadableModel, UsageError) as error:  # it runs, so what was asked for is what cannot be done
            own = str(self._folder / "0" / self._asked.path.name)
            raise UsageError(str(error).replace(own, str(self._asked.path))) from error
        paper, original = self._paper(wanted)
        cells: list[Cell] = []
        trials: dict[float, list[Trial]] = {}
        with ExitStack() as stack:
            lanes = [self._lane(wanted, i, stack) for i in range(options.jobs or threads_each(1))]
            pool = stack.enter_context(ThreadPoolExecutor(len(lanes)))
            stack.push(self._stop)
            measurer = Cells(paper, wanted.bits, options.rule, options.full, self._journal)
            for i, ber in enumerate(options.rates):
                done = f"{place * len(options.rates) + i + 1} of {places * len(options.rates)}"
                cell, trials[ber] = measurer.measure(ber, lanes, pool, self._told(f"{self._name} at {ber:g} ({done})"))
                cells.append(cell)
        subject = self._subject(wanted, paper, original, cells)
        shutil.rmtree(self._folder)
        return subject, trials

    def _stop(self, kind: object, error: object, trace: object) -> None:
        """An error, or Ctrl-C, need not wait for the trials that run."""
        if kind is not None:
            self._hosts.close()

    def _told(self, stage: str) -> Callable[[int], None]:
        most = self._options.rule.fixed or self._options.rule.most
        return lambda done: self._options.progress(stage, done, most)

    def _lane(self, wanted: Target, number: int, stack: ExitStack) -> Lane:
        host = stack.enter_context(self._hosts.lent(self._asked.path))
        return stack.enter_context(Lane(wanted, self._folder / str(number), host, number > 0))

    def _paper(self, wanted: Target) -> tuple[Paper, int]:
        """How trials are marked, and how many samples the file as it is gets right."""
        asked, options = self._asked, self._options
        answers = asked.answers
        if self._storing.plan is not None:
            with self._hosts.lent(asked.path) as host:
                try:
                    host.open(wanted.path)
                    answers = top1(host.run(asked.exam, options.batch)[asked.output])
                except ModelError as error:
                    raise stated(wanted.path, asked.path, error) from error
        labels = asked.exam.labels
        truth = answers if labels is None else labels
        clean = int(np.count_nonzero(answers == truth))
        lost = math.floor(options.max_drop * len(truth) + _MARGIN)
        axes = [p.kept.plan.axis for p in wanted.parts if p.kept is not None]
        plan = None if self._storing == Storing() else (self._storing.plan, wanted.storage, axes)
        key = digest(formats.sha256(asked.path), plan, wanted.storage, asked.exam.digest, asked.output, options.seed,
                     options.max_drop, options.opening, labels is None)
        paper = Paper(key, asked.exam, asked.output, truth, clean, clean - lost, asked.seconds, options.seed,
                      options.batch)
        return paper, int(np.count_nonzero(asked.answers == truth))

    def _subject(self, wanted: Target, paper: Paper, original: int, cells: list[Cell]) -> Subject:
        count = len(paper.truth)
        no = [c.ber for c in cells if c.decided == "no"]
        foreseen = foresee(wanted)
        return Subject(
            name=self._name, model=self._asked.info, storage=wanted.storage, original=original / count,
            clean=paper.clean / count, cells=cells, tolerated=tolerated([(c.ber, c.decided) for c in cells]),
            open=min(no, default=None), untouched=sweep.rate_untouched(wanted.bits, self._options.survival),
            notes=self._notes(wanted, paper, original), bits=bit_damage(foreseen), layers=layer_damage(foreseen),
            predictions=beside(foreseen, [(c.ber, c.trials) for c in cells], self._options.seed))

    def _notes(self, wanted: Target, paper: Paper, original: int) -> list[str]:
        count = len(paper.truth)
        found: list[str] = []
        if paper.exam.labels is not None and original * 2 < count:
            found.append(f"only {original / count:.1%} of the labels are met without any fault: are labels, "
                         "preprocessing and model those of each other?")
        if wanted.storage.mixed:
            found.append(f"{wanted.storage.mixed} tensors are struck as the file has them (integers, or constants)")
        if paper.least <= 0:
            found.append("the tolerance is wider than the fault-free accuracy: everything survives")
        return found


@contextlib.contextmanager
def _scratch(models: Sequence[str | Path], copies: int) -> Iterator[Path]:
    """A folder for copies of one model at a time: in memory where they fit twice, else among the temporary files."""
    need = copies * max(_size(Path(m)) for m in models)
    room = shutil.disk_usage(_SHM).free if _SHM.is_dir() and os.access(_SHM, os.W_OK) else 0
    with _temporary(_SHM if 2 * need < room else None) as folder:
        yield Path(folder)


def _temporary(folder: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards; its name tells whose it is."""
    return tempfile.TemporaryDirectory(prefix=f"fetafix-{os.getpid()}-", dir=folder)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.exists() else 0


def _names(paths: Sequence[Path], storings: Sequence[Storing], options: StressOptions) -> list[str]:
    """Names for tables: the file's, and the storage where there are several; made unique."""
    several = len(options.storings) > 1
    found: list[str] = []
    for path, storing in zip(paths, storings, strict=True):
        name = path.name
        if several or storing != Storing():
            name += f" {storing.dtype}" + ("" if storing == Storing() else f" {storing.scheme}")
        number = sum(n == name or n.startswith(f"{name} #") for n in found)
        found.append(name if not number else f"{name} #{number + 1}")
    return found
