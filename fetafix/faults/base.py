"""What a fault type is: one file with docs, detection, proposals and injection, and one record that names them.

A fault type looks at a *site*: a guilty `Segment` (where the target introduces error) or the `Interface` (both models'
inputs, outputs and preprocessing as a whole). `detect` yields suspicions with evidence; `propose` turns one into
candidate edits, best first; nothing is changed or printed. The repair engine measures what each candidate does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np

from fetafix.edits import Edit, SetInputShape, SetOutputs, SetPreprocessing, apply
from fetafix.errors import FetafixError
from fetafix.graph.pixels import reprocessed
from fetafix.graph.segment import Segment, layout_blind_error
from fetafix.graph.settings import Setting
from fetafix.ir import Array, Graph

__all__ = [
    "Category", "FaultType", "Interface", "Safety", "Site", "Suspicion", "layout_blind_error", "setting_claim",
    "setting_edits",
]  # fmt: skip

Category = Literal["PP", "ID", "TSS", "WB", "LH", "CG", "QP", "DT", "OP", "VS", "ST"]
Safety = Literal["safe", "review"]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A fault type's claim about a site, before anything was tried.

    target, source: node keys in the canonical graphs (None where the claim is about the interface).
    confidence: 0 to 1, how specific the evidence is. evidence: plain numbers and strings for the report.
    data: what `propose` needs and nobody else reads.
    certain: the graphs prove it, so that a smaller edit which heals the samples at hand is not what went wrong.
    """

    code: str
    target: str | None
    source: str | None
    confidence: float
    evidence: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    explanation: str = ""
    data: Any = None
    certain: bool = False


@dataclass(frozen=True, eq=False)
class Interface:
    """The two models as a whole: for faults of preprocessing, inputs, outputs and batch.

    source, target: canonical graphs. inputs, outputs: bound name pairs, target name → source name.
    source_feeds: what the source's inputs get (its own preprocessing), by source name; target_feeds: what the target's
      inputs get (its own preprocessing, the target's layout), by target name; one batch of a few samples.
    expected: the source's outputs on source_feeds, by source output name.
    preprocess: (source's, target's) preprocessing as plain dicts, or None where the user gave none.
    run_target: runs an edited target graph on feeds (by target input names) → outputs by target output name;
      raises FetafixError where it cannot run.
    images: whether the primary input is an image batch.
    extra_outputs: target outputs that are bound to nothing.
    probes: facts measured natively, e.g. {"batch": {...}} from the determinism and batch probes.
    refeed: the target's feeds under a changed preprocessing, by target input name; None where there are no images.
    """

    source: Graph
    target: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    source_feeds: Mapping[str, Array]
    target_feeds: Mapping[str, Array]
    expected: Mapping[str, Array]
    run_target: Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]
    preprocess: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None)
    images: bool = False
    extra_outputs: tuple[str, ...] = ()
    probes: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    refeed: Callable[[Mapping[str, Any]], Mapping[str, Array]] | None = None

    @cached_property
    def error(self) -> float:
        """What `trial` says of the target as it is."""
        return self.trial(())

    def healed(self, error: float) -> bool:
        """Whether an error is within the noise."""
        return error <= self.tolerance

    def trial(self, edits: Sequence[Edit], feeds: Mapping[str, Array] | None = None) -> float:
        """Largest relative L2 error of a bound output after the edits; inf where they do not fit or it cannot run.

        feeds: what the edited target gets, by target input name; `target_feeds` by default.
        """
        try:
            given = self.refed(edits) if feeds is None else feeds
            values = self.run_target(apply(self.target, edits), given)
        except FetafixError:
            return float("inf")
        bound = [(values.get(t), self.expected.get(s)) for t, s in self.outputs.items()]
        return max((layout_blind_error(v, e) for v, e in bound if e is not None), default=float("inf"))

    def after(self, edits: Sequence[Edit]) -> Interface:
        """Both models once edits of the target and of its preprocessing are made. Raises EditError, InputDataError."""
        changes = {k: v for e in edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}
        target, again, outputs = apply(self.target, edits), self.refeed, self.outputs
        for edit in edits:
            if isinstance(edit, SetOutputs):
                outputs = dict(zip(edit.outputs, self.source.output_names, strict=False))
        return replace(
            self, target=target, outputs=outputs,
            target_feeds=self.refed(edits) if again is None or not changes else again(changes),
            extra_outputs=tuple(o for o in target.output_names if o not in outputs),
            preprocess=(self.preprocess[0], {**(self.preprocess[1] or {}), **changes}) if changes else self.preprocess,
            refeed=None if again is None else lambda more: again({**changes, **more}),
        )  # fmt: skip

    def refed(self, edits: Sequence[Edit]) -> Mapping[str, Array]:
        """What the target's inputs would get after edits of its preprocessing (colour order, range, mean, std).

        An input that is declared in the source's size gets what the source gets.
        """
        feeds, config = dict(self.target_feeds), dict(self.preprocess[1] or {})
        for edit in edits:
            if isinstance(edit, SetInputShape) and edit.input in self.inputs:
                feeds[edit.input] = _laid(self.source_feeds[self.inputs[edit.input]], edit.shape, feeds[edit.input])
            if isinstance(edit, SetPreprocessing):
                for name in (edit.input,) if edit.input in feeds else tuple(feeds):
                    feeds[name] = reprocessed(feeds[name], config, {**config, **edit.changes})
        return feeds


def _laid(value: Array, shape: Sequence[Any], now: Array) -> Array:
    """The source's value where a declared shape asks for its size; what there is now where sizes are the same."""
    if sorted(map(str, now.shape[1:])) == sorted(map(str, shape[1:])):
        return now
    def fits(dims: Sequence[int]) -> bool:
        return len(dims) == len(shape) and all(a == b for a, b in zip(dims[1:], shape[1:], strict=True)
                                               if isinstance(b, int))

    perms = (p for p in permutations(range(value.ndim)) if p[0] == 0 and fits([value.shape[i] for i in p]))
    perm = None if fits(now.shape) else next(perms, None)
    return now if perm is None else np.ascontiguousarray(value.transpose(perm).astype(now.dtype))


def setting_claim(
    code: str, segment: Segment, setting: Setting, names: Sequence[str], sure: float = 1.0
) -> Suspicion:
    """The suspicion that twins differ in attributes (those of `names` that do); `setting_edits` are its proposals.

    sure: what its confidence is multiplied by.
    """
    own = {n: setting.values[n] for n in names if n in setting.values}
    said = ", ".join(f"{n} is {_said(ours)}, in the source {_said(theirs)}" for n, (ours, theirs) in own.items())
    evidence = {n: ours for n, (ours, _) in own.items()} | {f"source_{n}": theirs for n, (_, theirs) in own.items()}
    confidence = sure * setting.confidence(segment, list(own))
    return Suspicion(code, setting.target.key, setting.source.key, confidence, evidence, said, (setting, list(own)))


def setting_edits(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The proposals of a `setting_claim`: the first attribute alone, all of them, then more of the segment."""
    setting, names = suspicion.data
    return setting.candidates(segment, names)  # type: ignore[no-any-return]


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


Site = Segment | Interface
Detect = Callable[[Any], Iterable[Suspicion]]
Propose = Callable[[Any, Suspicion], Iterable[Sequence[Edit]]]


class Inject(Protocol):
    """Make the fault in a healthy graph. Shapes of all tensors are in `graph.shapes`.

    Returns edits, or None where the graph has no place for the fault. The choice of place and of values comes from
    `rng`.
    """

    def __call__(self, graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
        """The edits, or None."""
        ...


@dataclass(frozen=True, slots=True)
class FaultType:
    """One entry of the catalogue. `scope` says which kind of site its functions take ("both": either)."""

    code: str
    name: str
    category: Category
    detect: Detect
    propose: Propose
    inject: Inject
    safety: Safety = "safe"
    scope: Literal["segment", "interface", "both"] = "segment"
