"""What a caller may ask of `check`, `localize` and `repair`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fetafix.errors import UsageError
from fetafix.formats.base import OpenOptions
from fetafix.judge.tasks.choice import wishes
from fetafix.judge.verdict import GATES, Gate

Side = Literal["source", "target"]
RUNTIME = ("threads", "device", "provider", "optimise", "signature")
SEARCHES = ("off", "quick", "deep")
LEVELS = ("none", "basic", "extended", "all")
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
    source_arch, target_arch: "module:factory" for bare state dicts. *_threads: of that model's runtime alone. *_device:
      where it runs ("cpu", "cuda:1"). *_provider: ONNX Runtime's execution provider. *_optimise: how far its runtime
      optimises the graph, one of `LEVELS` (None: as it does by itself). *_signature: of a SavedModel or a TFLite file.
    trust: code from models and loaders may run.
    gate: what must agree (None: labels for classifiers, the answers of other tasks that are surely known, else
      numbers). task: what outputs mean: a task's name, or by output name (the source's or the target's), with limits
      (`fetafix.judge.tasks.choice`). max_mismatch: the share of labels, or of other answers, that may differ.
      confidence: of the bounds, and of the decision to stop early.
    tolerance: by output name (the source's or the target's), what it may differ by instead of the noise: a number
      (max_abs), or a mapping or an object with max_abs, mean_abs, max_rel, rel_l2.
    search: how much to look for inputs beside the data on which the models disagree: "off", "quick" or "deep".
    keep_worst: the .npz that those found are written to.
    exhibits: gather what a page shows beside the findings (`fetafix.exhibits`).
    cache: the folder in which runs of the source are remembered (`fetafix.remembered`), None for nowhere.
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
    source_threads: int | None = None
    target_threads: int | None = None
    source_device: str | None = None
    target_device: str | None = None
    source_provider: str | None = None
    target_provider: str | None = None
    source_optimise: str | None = None
    target_optimise: str | None = None
    source_signature: str | None = None
    target_signature: str | None = None
    trust: bool = False
    gate: Gate | None = None
    task: str | Sequence[str] | Mapping[str, Any] | None = None
    max_mismatch: float = 0.0
    confidence: float = 0.95
    tolerance: Mapping[str, Any] = field(default_factory=dict)
    search: str = "quick"
    keep_worst: str | Path | None = None
    exhibits: bool = False
    cache: str | Path | None = None
    accept: tuple[Any, ...] = ()
    progress: Progress = _silent

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is opened."""
        least = {"samples": 1, "rounds": 1, "seed": 0, "batch": 1, "threads": 0}
        least |= {"source_threads": 0, "target_threads": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"expected {name} ≥ {low}, found {value}")
        if not 0.0 <= self.max_mismatch <= 1.0:
            raise UsageError(f"max_mismatch is a share between 0 and 1, found {self.max_mismatch}")
        if not 0.0 < self.confidence < 1.0:
            raise UsageError(f"confidence lies between 0 and 1, found {self.confidence}")
        if self.gate is not None and self.gate not in GATES:
            raise UsageError(f"the gate is one of {', '.join(GATES)}, found {self.gate!r}")
        wishes(self.task)
        if self.search not in SEARCHES:
            raise UsageError(f"expected search to be one of {', '.join(SEARCHES)}, found {self.search!r}")
        if self.keep_worst is not None and Path(self.keep_worst).suffix != ".npz":
            raise UsageError(f"inputs are kept in a .npz file, found {self.keep_worst}")
        for level in (self.source_optimise, self.target_optimise):
            if level is not None and level not in LEVELS:
                raise UsageError(f"expected optimise to be one of {', '.join(LEVELS)}, found {level!r}")

    def opening(self, side: Side, threads: int) -> OpenOptions:
        """How to open the model of a side. threads: where nothing is said for this side alone.

        A level that is asked for on one side is part of the question, so the other side's is fixed as well.
        """
        own = {k: getattr(self, f"{side}_{k}") for k in ("arch", *RUNTIME)}
        asked = self.source_optimise or self.target_optimise
        level = own["optimise"] or ("all" if asked else "")
        return OpenOptions(
            trust=self.trust, arch=own["arch"], threads=threads if own["threads"] is None else own["threads"],
            optimise=level != "none", level=level, device=own["device"] or "cpu", provider=own["provider"] or "",
            signature=own["signature"],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """What to do with the repairs that are found.

    output: the repaired model (None: `<target>.repaired` beside it, with its suffix). apply: write it; without, this is
      a dry run. bake: mend preprocessing in the target's graph, not in the configuration. plan: apply exactly the
      approved entries of this plan. save_plan: write the plan there. save_patch: write what was kept as
      a patch for other conversions of this model. approved_by: who approved, for the journal.
      journal: append everything tried to this file. save_run: a folder that keeps report, plan and journal, for
      `fetafix review` (`fetafix.run_folder`). offer_plan, offer_journal: as save_plan and journal, but only where
      there is something to repair, and a place that is taken is left as it is; notes say what became of them.
    """

    output: str | Path | None = None
    apply: bool = False
    bake: bool = False
    plan: str | os.PathLike[str] | None = None
    save_plan: str | Path | None = None
    save_patch: str | Path | None = None
    approved_by: str = ""
    journal: str | Path | None = None
    save_run: str | Path | None = None
    offer_plan: str | Path | None = None
    offer_journal: str | Path | None = None
