"""The result records. `to_json(report)` is the JSON report; its schema carries a version.

All records are frozen and hold plain data (no arrays, no models), so that every renderer works from the report alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from fetafix.exhibits import Exhibits
from fetafix.exhibits import Record as Record

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """The honest endings."""

    EQUIVALENT = "equivalent"
    DRIFTING = "drifting"
    DIVERGENT = "divergent"
    REPAIRED = "repaired"
    PARTLY_REPAIRED = "partly_repaired"
    UNDECIDED = "undecided"


class TensorInfo(Record, frozen=True, kw_only=True):
    """One input or output of a model. Shape entries are int, a symbolic name, or null where unknown."""

    name: str
    dtype: str
    shape: list[int | str | None] | None = None


class ModelInfo(Record, frozen=True, kw_only=True):
    """A model file as it was found; `details` holds what the format tells (opset, producer, runtime version)."""

    path: str
    format: str
    sha256: str = ""
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    details: dict[str, Any] = {}


class OutputAgreement(Record, frozen=True, kw_only=True):
    """How one output of the target agrees with its twin of the source.

    `max_abs`, `mean_abs`, `max_rel`, `mean_rel` in the output's own unit or relative to it; `sqnr_db` in decibel;
    `noise_floor` is the largest absolute difference that harmless changes make in the source itself. For an output that
    either model puts out in integer codes, `code_step` is what one code is worth in real numbers, and `max_codes` is
    `max_abs` counted in them.
    """

    source: str
    target: str
    layout: list[int] | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    max_rel: float | None = None
    mean_rel: float | None = None
    rel_l2: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    noise_floor: float | None = None
    tolerance: float | None = None
    within: bool | None = None
    nonfinite: int = 0
    code_step: float | None = None
    max_codes: float | None = None


class TaskAgreement(Record, frozen=True, kw_only=True):
    """How far two models give the same answers, as one comparator (`fetafix.judge.tasks`) sees it.

    task: its name ("segmentation"). outputs: the source's outputs that it judges together. sure: "asked" (by the user),
    "yes", or "maybe", a guess that decides nothing; why: what it rests on. weighs: whether it counts in the verdict.
    samples, agreeing, share: how many were compared, and on how many of them the answers agree within the `limits`;
    bounds: exact ones of the share. likeness: from 0 to 1, how much alike the answers are. figures: the comparator's,
    by name (segmentation: miou, worst_miou, pixels; …), null where one is not finite; words: the same in words.
    mismatches: samples that disagree.
    """

    task: str
    outputs: list[str]
    sure: str = "maybe"
    weighs: bool = False
    why: str = ""
    samples: int = 0
    agreeing: int = 0
    share: float | None = None
    bounds: tuple[float, float] | None = None
    likeness: float | None = None
    figures: dict[str, float | None] = {}
    words: str = ""
    limits: dict[str, float] = {}
    mismatches: list[str] = []


class Agreement(Record, frozen=True, kw_only=True):
    """The agreement of two models over a set of samples. Label figures are null for models that are no classifiers.

    The figures at this level are those of the primary output; `outputs` has one entry per bound pair, `tasks` one per
    comparator that knows what outputs mean, labels included. confidence: of all bounds.
    """

    samples: int = 0
    top1: float | None = None
    top1_bounds: tuple[float, float] | None = None
    confidence: float | None = None
    top5: float | None = None
    kendall_tau: float | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    max_rel: float | None = None
    mean_rel: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    noise_floor: float | None = None
    tolerance: float | None = None
    outputs: list[OutputAgreement] = []
    tasks: list[TaskAgreement] = []
    mismatches: list[str] = []


class Samples(Record, frozen=True, kw_only=True):
    """How many samples were used, and where they come from; `origin` tells synthetic ones (weaker evidence)."""

    search: int = 0
    heldout: int = 0
    origin: str = ""
    skipped: list[str] = []
    rounds: int = 1
    stopped_early: bool = False


class Shown(Record, frozen=True, kw_only=True):
    """An input, found by the search, on which the models disagree.

    inside: within what the data and both signatures cover. excess: the difference in multiples of what noise explains
    there, null where it has no number (another shape, not finite). labels: (source's, target's) best class.
    """

    what: str
    inside: bool
    excess: float | None = None
    max_abs: float | None = None
    labels: tuple[int, int] | None = None


class Search(Record, frozen=True, kw_only=True):
    """What was searched beside the data: how many inputs were tried, and the worst of those that show a difference.

    found: how many show one within the range, outside: how many beyond it. turned: inputs near a boundary that got
    other labels within the drift of the numbers. unsure: inputs that show one where the source's own answer hangs on
    rounding. kept: files that hold the inputs shown. skipped: why nothing was searched.
    """

    level: str
    tried: int = 0
    found: int = 0
    outside: int = 0
    shown: list[Shown] = []
    turned: int = 0
    unsure: int = 0
    kept: list[str] = []
    skipped: str = ""


class Advice(Record, frozen=True, kw_only=True):
    """A finding in plain words, for a reader who knows no framework.

    meaning: what goes wrong and what that does to answers. evidence: why it is believed, sentence by sentence. remedy:
    what the repair does, "" where there is none. risk: what could go wrong with it. next_steps: what to do now.
    """

    meaning: str = ""
    evidence: list[str] = []
    remedy: str = ""
    risk: str = ""
    next_steps: list[str] = []


class Finding(Record, frozen=True, kw_only=True):
    """One fault: what it is, where it enters (in both models' own names), and why that is believed."""

    code: str
    category: str
    title: str
    source_layer: str | None = None
    target_layer: str | None = None
    evidence: dict[str, Any] = {}
    local_error: float | None = None
    confidence: float = 0.0
    explanation: str = ""
    advice: Advice | None = None


class Repair(Record, frozen=True, kw_only=True):
    """One tried repair: the edits in words and data, what it did to the error, whether it was kept, and why."""

    code: str
    target_layer: str | None = None
    edits: list[dict[str, Any]] = []
    status: str = "rejected"
    before: float | None = None
    after: float | None = None
    why: str = ""
    id: str = ""


class LayerRounding(Record, frozen=True, kw_only=True):
    """How far a target tensor is off, fed with the source's activations (relative L2), and what rounding explains.

    rounds: "weight" (a layer with rounded parameters) or "activation" (a tensor that is rounded itself). unexplained is
    √(measured² − explained²), 0 where rounding explains all.
    """

    target_layer: str
    source_layer: str
    rounds: str
    explained: float
    measured: float
    unexplained: float


class Quantisation(Record, frozen=True, kw_only=True):
    """What storing numbers in few bits explains. layers: the largest unexplained error first.

    of: "target", "source" or "both". weights, activations: how many tensors are stored in which codes. within: no part
    of the target introduces more error than rounding, and saturation here and there, explain.
    """

    of: str
    weights: dict[str, int] = {}
    activations: dict[str, int] = {}
    within: bool = False
    layers: list[LayerRounding] = []


class Output(Record, frozen=True, kw_only=True):
    """The repaired artifact."""

    path: str
    sha256: str


class Offer(Record, frozen=True, kw_only=True):
    """A model beside the output, with repairs that the target's own format cannot express, judged on held-out samples.

    converters: what made it of the repaired ONNX view, "" for that view itself. path: where it is, or would be with
    --apply; sha256 tells what was written, "" where nothing was.
    """

    path: str
    format: str
    verdict: Verdict
    passed: bool | None = None
    reason: str = ""
    converters: str = ""
    sha256: str = ""


class Report(Record, frozen=True, kw_only=True):
    """Everything a run found out. reproductions: a folder a finding, in their order, "" where there is none."""

    verdict: Verdict
    reason: str
    seed: int
    samples: Samples
    source: ModelInfo
    target: ModelInfo
    agreement: Agreement | None = None
    after: Agreement | None = None
    findings: list[Finding] = []
    reproductions: list[str] = []
    repairs: list[Repair] = []
    quantisation: Quantisation | None = None
    search: Search | None = None
    output: Output | None = None
    offers: list[Offer] = []
    exhibits: Exhibits | None = None
    journal: str | None = None
    gate: str = "labels"
    passed: bool | None = None
    notes: list[str] = []
    timings: dict[str, float] = {}
    command: str = "check"
    schema_version: int = SCHEMA_VERSION

    @property
    def exit_code(self) -> int:
        """0 the gate passes; 1 the models disagree; 3 undecided."""
        if self.verdict is Verdict.UNDECIDED:
            return 3
        return 0 if self.passed else 1


def to_json(report: Report) -> str:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def from_json(text: str | bytes) -> Report:
    """Read a report back. Raises msgspec.ValidationError where it does not fit the schema."""
    return msgspec.json.decode(text, type=Report)
