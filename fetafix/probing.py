"""Runs that tell noise from fact: a few samples again under harmless changes, on a model that is open already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fetafix.errors import RuntimeCrash
from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.judge.noise import EPS, Noise, measure, one_ulp, softmax_gain
from fetafix.parallel import ModelProcess, Pending, RowsOfFile, Source
from fetafix.report import ModelInfo

COUNT, AGAIN = 4, 2  # samples that are probed, and those of them that are run again under changes
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found.

    base: outputs for the probed samples, each run alone. batched: several at once were run, too. batch_failure: how
    that failed, where it was tried and did.
    """

    base: Mapping[str, Array]
    noise: Noise
    batched: bool = False
    batch_failure: str = ""
    _gains: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def gain(self, output: str) -> float:
        """The `softmax_gain` of an output, computed once: it is asked for after every few samples."""
        if output not in self._gains:
            self._gains[output] = softmax_gain(self.base[output])
        return self._gains[output]


@dataclass(frozen=True)
class Probing:
    """A probe in progress: the worker is busy with it."""

    samples: SampleSet
    base: Pending[Outputs]
    changes: Mapping[str, Pending[Outputs]] = field(default_factory=dict)
    eps: float = EPS

    def result(self) -> Probe:
        """Wait for it. Raises RuntimeCrash where the model does not even run single samples."""
        base = by_sample(self.base.result(), self.samples)
        changed: dict[str, Mapping[str, Array]] = {}
        failure = ""
        for kind, pending in self.changes.items():
            try:
                changed[kind] = by_sample(pending.result(), self.samples)
            except RuntimeCrash as error:
                if kind == "batch":
                    failure = str(error)
                elif kind != "runtime":  # a kernel that exists only optimised is no failure
                    raise
        return Probe(base, measure(base, changed, self.eps), "batch" in changed, failure)


def start(process: ModelProcess, samples: SampleSet, seed: int, perturb: bool) -> Probing:
    """Begin to probe with the first few samples. perturb: also change inputs and runtime, for the floor."""
    few = samples.take(range(min(COUNT, len(samples))))
    info, feeds = process.info(), arrays(few)
    eps = arithmetic_eps(info)
    base = process.start_run(feeds, 1, few.stackable)
    fewer = arrays(few.take(range(min(AGAIN, len(few)))))
    changes = {"repeat": process.start_run(fewer, 1, few.stackable)}
    if len(few) > 1 and few.stackable and takes_batches(info):
        changes["batch"] = process.start_run(feeds, len(few), True)
    if perturb:
        changes["runtime"] = process.start_run(fewer, 1, few.stackable, differently=True)
        changes["ulp"] = process.start_run(one_ulp(fewer, seed, eps), 1, few.stackable)
    return Probing(few, base, changes, eps)


def takes_batches(info: ModelInfo) -> bool:
    """Whether no input declares a fixed batch."""
    return all(not t.shape or not isinstance(t.shape[0], int) or t.shape[0] < 1 for t in info.inputs)


def arithmetic_eps(info: ModelInfo) -> float:
    """The eps of the coarsest float that at least half of a model's float tensors have, as its details tell.

    Where they name the `arithmetic`, weights are only stored otherwise, and that counts.
    """
    if info.details.get("arithmetic") == "float32":
        return EPS
    known = info.details.get("dtypes")
    counts = {k: v for k, v in known.items() if "float" in k} if isinstance(known, Mapping) else {}
    half = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
    return next((eps for name, eps in half.items() if counts.get(name, 0) * 2 >= max(1, sum(counts.values()))), EPS)


def arrays(samples: SampleSet) -> dict[str, Array]:
    """The samples in memory, as `ModelProcess.start_run` takes them."""
    table = {n: np.asarray(a) for n, a in samples.arrays.items()}
    return table if samples.stackable else {n: a[:, None] if samples.batched[n] else a for n, a in table.items()}


def sources(samples: SampleSet) -> dict[str, Source]:
    """The samples as `ModelProcess` takes them: rows of files stay in their file."""
    if not samples.stackable:
        return dict(arrays(samples))
    files = {n: RowsOfFile(path, samples.rows) for n, path in samples.files.items()}
    return {n: files[n] if n in files else samples.arrays[n] for n in samples.arrays}


def by_sample(outputs: Mapping[str, Array], samples: SampleSet) -> Outputs:
    """Outputs with one row a sample, where runs of whole feeds left a batch axis of 1, or of copies of the sample."""
    if samples.stackable:
        return dict(outputs)
    copies = _copies(samples)
    return {
        n: v[:, 0] if v.ndim > 2 and (v.shape[1] == 1 or v.shape[1] == copies) else v for n, v in outputs.items()
    }


def _copies(samples: SampleSet) -> int:
    """How often each sample is repeated to fill a fixed batch; 0 where the inputs are no repetitions."""
    sizes = {a.shape[1] for n, a in samples.arrays.items() if not samples.batched[n] and a.ndim > 1}
    same = all((a == a[:, :1]).all() for n, a in samples.arrays.items() if not samples.batched[n] and a.ndim > 1)
    return sizes.pop() if len(sizes) == 1 and same and all(not b for b in samples.batched.values()) else 0
