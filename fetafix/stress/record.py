"""The records of `fetafix stress`: what bit flips in storage do to models, as a report. Plain data alone.

Accuracies and drops are shares (0.987), not points. Without labels "accuracy" is the share of samples whose top-1
answer is that of the fault-free run of the same stored encoding, so that the fault-free accuracy is 1.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fetafix.report import ModelInfo, Record

SCHEMA_VERSION = 1
Decision = Literal["yes", "no", ""]
Outcome = Literal["survived", "degraded", "unloadable", "crashed", "hung"]
OUTCOMES: tuple[Outcome, ...] = ("survived", "degraded", "unloadable", "crashed", "hung")


class Storage(Record, frozen=True, kw_only=True):
    """What flips strike. scope: "weights", "constants" or "file". dtype: the number format of stored weights, or "keep"
    for the file's own bytes; scheme: the protection; granularity: of constants and bounds, "tensor" or "channel".

    tensors, values, bits: how much lies there; for scope "file" tensors and values are 0. mixed: tensors whose values
    are integers, which lie there as the file has them whatever the dtype.
    """

    scope: str = "weights"
    dtype: str = "keep"
    scheme: str = "none"
    granularity: str = "tensor"
    tensors: int = 0
    values: int = 0
    bits: int = 0
    mixed: int = 0


class Cell(Record, frozen=True, kw_only=True):
    """One model at one bit-error rate.

    flips: expected ones. trials: how many count; ran: of these, how many had to run (a trial without a flip need not).
    outcomes: how many ended how; "survived": the drop from the stored encoding's own fault-free accuracy is within the
    tolerance. survival: the share that survived. bounds: of the probability to survive, at the report's confidence;
    kind: "sequence" (valid at whatever trial one stops), "clopper-pearson" (a number of trials fixed beforehand) or
    "certain" (no trial is needed: that no bit flips is probable enough). at_least: the probability that no bit flips,
    which bounds it from below exactly. decided: whether the probability is known to be at least, or below, what was
    asked for.
    full: how many of the trials, the first ones, ran over all samples; accuracies: theirs, in the order of the trials,
    0 where there was no answer. median, p5, worst, mean: of these.
    """

    ber: float
    flips: float
    trials: int
    ran: int
    outcomes: dict[str, int]
    survival: float
    bounds: tuple[float, float]
    kind: str
    at_least: float
    decided: Decision
    full: int
    accuracies: list[float] = []
    median: float | None = None
    p5: float | None = None
    worst: float | None = None
    mean: float | None = None
    seconds: float = 0.0


class Subject(Record, frozen=True, kw_only=True):
    """One model in one storage. name: for tables, unique. original: accuracy of the file as it is; clean: of the stored
    encoding without a fault, which drops are counted from.

    tolerated: the highest rate of the sweep up to which all rates are decided "yes", or None; open: the lowest rate
    that is decided "no", or None. untouched: the rate at which no bit flips with the probability asked for, which is
    tolerated for certain.
    """

    name: str
    model: ModelInfo
    storage: Storage
    original: float
    clean: float
    cells: list[Cell]
    tolerated: float | None = None
    open: float | None = None
    untouched: float | None = None
    notes: list[str] = []


class Pairing(Record, frozen=True, kw_only=True):
    """Two subjects on the same trials at one rate. both, first_only, second_only, neither: how many survived where.

    p: of the exact test of McNemar (two-sided), how probable so uneven a split of the trials that differ is where
    neither is better.
    """

    first: str
    second: str
    ber: float
    both: int
    first_only: int
    second_only: int
    neither: int
    p: float


class StressReport(Record, frozen=True, kw_only=True):
    """What `fetafix stress` found. survival: the probability asked for. verdict: in plain words.

    samples: how many; origin: where they come from. labels: where they come from, "" where there are none. required:
    the rate that had to be tolerated, None where none had to; reached: whether all models do.
    """

    schema_version: int = SCHEMA_VERSION
    verdict: str
    seed: int
    confidence: float
    survival: float
    max_drop: float
    samples: int
    origin: str
    labels: str = ""
    subjects: list[Subject]
    pairs: list[Pairing] = []
    required: float | None = None
    reached: bool = True
    notes: list[str] = []
    timings: dict[str, float] = {}

    @property
    def exit_code(self) -> int:
        """1 where a rate had to be tolerated and is not."""
        return 0 if self.reached else 1


def to_json(report: StressReport) -> str:
    """Indented JSON, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def from_json(text: str | bytes) -> StressReport:
    """A report that was written as JSON. Raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(text, type=StressReport)
