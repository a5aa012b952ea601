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
    """What flips strike. scope: "weights", "constants", "tensors" (both) or "file". dtype: the number format of stored
    weights, or "keep" for the file's own bytes; scheme: the protection; granularity: of constants and bounds, "tensor"
    or "channel".

    tensors, values, bits: how much lies there; for scope "file" tensors and values are 0. mixed: tensors that lie there
    as the file has them whatever the dtype: integers, and constants beside weights.
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
    tolerance. at_least: the probability that no bit flips, known exactly, which is survived for certain. survival: the
    probability to survive, at_least and for the rest the share of trials with a flip that survived. bounds: of it, at
    the report's confidence; kind: "sequence" (valid at whatever trial one stops), "clopper-pearson" (a number of trials
    fixed beforehand) or "certain" (at_least is enough). decided: whether the probability is known to be at least, or
    below, what was asked for.
    failed: numbers of the trials that did not survive, the first ones, for --replay.
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
    failed: list[int] = []
    accuracies: list[float] = []
    median: float | None = None
    p5: float | None = None
    worst: float | None = None
    mean: float | None = None
    seconds: float = 0.0


class Predicted(Record, frozen=True, kw_only=True):
    """The error of weights at a rate, in closed form (single flips), beside what the flips of the trials did.

    rms, seen_rms: RMS error of a weight in its own unit, of flips alone. wrecked, seen_wrecked: weights in a trial that
    end beyond twice their tensor's largest magnitude off, or as no number. whole: probability that none does. trials:
    of the cell's, so many of the first were looked at. p_rms, p_wrecked: how probable at most so large a deviation is,
    were the prediction true; why: what disagrees, "" where nothing does (`fetafix.storage.agreement`).
    """

    ber: float
    rms: float
    seen_rms: float
    wrecked: float
    seen_wrecked: float
    whole: float
    trials: int
    p_rms: float
    p_wrecked: float
    why: str = ""


class BitDamage(Record, frozen=True, kw_only=True):
    """What a flip of one bit of a stored weight does, over all tensors. bit: 0 the lowest. part: what it stands for.

    rms: RMS error over the largest magnitude of the tensor, where it is finite; wrecked: share of the weights that it
    wrecks.
    """

    bit: int
    part: str
    rms: float
    wrecked: float


class LayerDamage(Record, frozen=True, kw_only=True):
    """The same by tensor and kind of bit: part → mean of what a flip of such a bit does."""

    tensor: str
    values: int
    rms: dict[str, float]
    wrecked: dict[str, float]


class Subject(Record, frozen=True, kw_only=True):
    """One model in one storage. name: for tables, unique. original: accuracy of the file as it is; clean: of the stored
    encoding without a fault, which drops are counted from.

    tolerated: the highest rate of the sweep up to which all rates are decided "yes", or None; open: the lowest rate
    that is decided "no", or None. untouched: the rate at which no bit flips with the probability asked for, which is
    tolerated for certain. predictions: by rate; bits, layers: what single flips do. Empty where the storage is not one
    of weights in a format with a closed form.
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
    predictions: list[Predicted] = []
    bits: list[BitDamage] = []
    layers: list[LayerDamage] = []


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
