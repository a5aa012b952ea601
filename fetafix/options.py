"""What a caller may ask of `check`, `localize` and `repair`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetafix.errors import UsageError
from fetafix.judge.verdict import Gate

Progress = Callable[[str, int, int | None], None]


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to compare two models. Raises UsageError where a value makes no sense.

    data: a folder of images, .npy, .npz or "module:function"; None for synthetic inputs. samples: how many to draw, in
      each of `rounds` draws, by `seed`. batch: samples a run (None: what suits the model). threads: of each runtime
      (None: the processors shared between both, 0: the runtime's choice).
    source_preprocess, target_preprocess: a preset's name, "key=value,…", a mapping or a `Preprocess`.
    source_arch, target_arch: "module:factory" for bare state dicts. trust: code from models and loaders may run.
    gate: what must agree (None: labels for classifiers, else numbers). max_mismatch: the share of labels that may
      differ. confidence: of the bounds, and of the decision to stop early.
    tolerance: by output name (the source's or the target's), what it may differ by instead of the noise: a number
      (max_abs), or a mapping or an object with max_abs, mean_abs, max_rel, rel_l2.
    accept: findings that are known and accepted. progress: called as progress(stage, done, total or None).
    """

    data: str | Path | None = None
    samples: int = 100
    seed: int = 0
    rounds: int = 1
    batch: int | None = None
    threads: int | None = None
    source_preprocess: Any = None
    target_preprocess: Any = None
    source_arch: str | None = None
    target_arch: str | None = None
    trust: bool = False
    gate: Gate | None = None
    max_mismatch: float = 0.0
    confidence: float = 0.95
    tolerance: Mapping[str, Any] = field(default_factory=dict)
    accept: tuple[Any, ...] = ()
    progress: Progress = _silent

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is opened."""
        least = {"samples": 1, "rounds": 1, "seed": 0, "batch": 1, "threads": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"expected {name} ≥ {low}, found {value}")
        if not 0.0 <= self.max_mismatch <= 1.0:
            raise UsageError(f"max_mismatch is a share between 0 and 1, found {self.max_mismatch}")
        if not 0.0 < self.confidence < 1.0:
            raise UsageError(f"confidence lies between 0 and 1, found {self.confidence}")
        if self.gate not in (None, "labels", "numeric"):
            raise UsageError(f"the gate is labels or numeric, found {self.gate!r}")


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """What to do with the repairs that are found.

    output: the repaired model (None: `<target>.repaired` beside it, with its suffix). apply: write it; without, this is
      a dry run. bake: mend preprocessing in the target's graph, not in the configuration. plan: apply exactly the
      approved entries of this plan. save_plan: write the plan there. approved_by: who approved, for the journal.
      journal: append everything tried to this file. offer_plan, offer_journal: as save_plan and journal, but only where
      there is something to repair, and a place that is taken is left as it is; notes say what became of them.
    """

    output: str | Path | None = None
    apply: bool = False
    bake: bool = False
    plan: str | Path | None = None
    save_plan: str | Path | None = None
    approved_by: str = ""
    journal: str | Path | None = None
    offer_plan: str | Path | None = None
    offer_journal: str | Path | None = None
