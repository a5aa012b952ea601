"""All trials of one subject at one rate: side by side on several lanes, counted in order, ended by the rule.

What a trial ends in rests on its number alone, so counting in order makes the result the same however many lanes there
are; trials that were started ahead and turn out not to be needed are kept in the journal, but not counted.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from fetafix.storage import sweep
from fetafix.storage.trials import Rule, spread
from fetafix.stress.journal import Journal, Trial
from fetafix.stress.lane import Lane, Paper, untouched
from fetafix.stress.record import OUTCOMES, Cell

_LISTED = 20
_MANY = 100.0  # expected flips from which on it is not worth looking whether there is any
Ready = Callable[[int], None]


class Cells:
    """Measures cells of one subject. full: so many trials of each run over all samples."""

    def __init__(self, paper: Paper, bits: int, rule: Rule, full: int, journal: Journal) -> None:
        self._paper, self._bits, self._rule, self._full, self._journal = paper, bits, rule, full, journal

    def measure(
        self, ber: float, lanes: Sequence[Lane], pool: ThreadPoolExecutor, ready: Ready
    ) -> tuple[Cell, list[Trial]]:
        """The cell of a rate, and its trials in order. ready(trials) is told how far it is."""
        start, floor = time.monotonic(), sweep.untouched(self._bits, ber)
        free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            free.put(lane)
        ahead: deque[Future[Trial]] = deque()
        counted: list[Trial] = []
        number = survived = struck = 0
        while not self._rule.over(len(counted), survived, struck, floor):
            while len(ahead) < len(lanes) and (self._rule.fixed is None or number < self._rule.fixed):
                ahead.append(self._started(ber, number, free, pool))
                number += 1
            trial = ahead.popleft().result()
            self._note(trial)
            counted.append(trial)
            struck += trial.flips > 0
            survived += trial.flips > 0 and trial.outcome == "survived"
            ready(len(counted))
        for future in ahead:
            if not future.cancel():
                self._note(future.result())
        return self._cell(ber, counted, floor, time.monotonic() - start), counted

    def _started(self, ber: float, number: int, free: SimpleQueue[Lane], pool: ThreadPoolExecutor) -> Future[Trial]:
        whole = number < self._full
        known = self._journal.get(self._paper.digest, ber, number)
        if known is not None and (not whole or known.seen == len(self._paper.truth) or not known.correct + known.seen):
            return _done(known)
        few = self._bits * ber < _MANY
        if few and not sweep.flips_of(self._paper.seed, ber, number, self._bits).size:
            return _done(untouched(self._paper, ber, number))

        def run() -> Trial:
            lane = free.get()
            try:
                return lane.trial(self._paper, ber, number, whole)
            finally:
                free.put(lane)

        return pool.submit(run)

    def _note(self, trial: Trial) -> None:
        if trial.flips and self._journal.get(trial.subject, trial.ber, trial.trial) != trial:
            self._journal.add(trial)

    def _cell(self, ber: float, trials: Sequence[Trial], floor: float, seconds: float) -> Cell:
        counts = Counter(t.outcome for t in trials)
        struck = [t.outcome == "survived" for t in trials if t.flips]
        shown = (sum(struck), len(struck), floor)
        samples = len(self._paper.truth)
        known = [t.correct / samples for t in trials[: self._full]]
        figures = spread(known)
        return Cell(
            ber=ber, flips=self._bits * ber, trials=len(trials), ran=len(struck),
            outcomes={o: counts[o] for o in OUTCOMES}, survival=self._rule.estimate(*shown),
            bounds=self._rule.bounds(*shown), kind=self._rule.kind(floor), at_least=floor,
            decided=self._rule.decided(*shown),
            failed=[t.trial for t in trials if t.outcome != "survived"][:_LISTED], full=len(known), accuracies=known,
            median=figures.median if figures else None, p5=figures.p5 if figures else None,
            worst=figures.worst if figures else None, mean=figures.mean if figures else None, seconds=seconds)


def _done(trial: Trial) -> Future[Trial]:
    future: Future[Trial] = Future()
    future.set_result(trial)
    return future
