"""A fault of the catalogue put into a healthy form of a network, where a gate lets it count."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fetafix.bench.faults import truth
from fetafix.bench.faults.nursery import Nursery, Outputs, error
from fetafix.bench.faults.truth import Touched
from fetafix.bench.zoo import Form
from fetafix.edits import Edit
from fetafix.errors import EditError, FetafixError
from fetafix.faults import FaultType, get
from fetafix.formats.onnx.write import write
from fetafix.inject import counts, placements


@dataclass(frozen=True)
class Mutant:
    """A faulty target, the healthy source beside it, and what was done.

    answers: to all samples, None where it fails.
    """

    source: Form
    target: Form
    path: Path
    gate: str
    faults: tuple[str, ...]
    touched: Touched
    answers: Outputs | None


@dataclass(frozen=True)
class Barren:
    """Why there is no mutant: the reasons of all pairs of forms, the most telling one first."""

    reason: str


def make(nursery: Nursery, code: str, seed: int, folder: Path) -> Mutant | Barren:
    """The first placement that passes the gate, in the forms' pairs in an order that the seed chooses."""
    fault, pairs = get(code), nursery.settings.pairs_of(code)
    start = zlib.crc32(f"{nursery.name} {code} {seed}".encode()) % len(pairs)
    refused: dict[Form, str] = {}
    for source, target in (*pairs[start:], *pairs[:start]):
        if target not in refused:
            found = _in_form(nursery, fault, seed, source, target, folder)
            if isinstance(found, Mutant):
                return found
            refused[target] = found.reason
    return Barren(max(refused.values(), key=lambda reason: reason != _NO_PLACE))


_NO_PLACE, _NO_EFFECT = "no place for it", "every place drawn leaves the outputs as they were"


def _in_form(nursery: Nursery, fault: FaultType, seed: int, source: Form, target: Form, folder: Path
             ) -> Mutant | Barren:
    reason = _NO_PLACE
    try:
        for edits, effect in _drawn(nursery, fault, seed, target):
            if not counts(effect):
                reason = _NO_EFFECT if reason == _NO_PLACE else reason
                continue
            path = folder / f"{nursery.name}.mutant.onnx"
            path.unlink(missing_ok=True)
            found = _gated(nursery, fault, edits, source, target, path)
            if isinstance(found, Mutant):
                return found
            reason = found.reason
    except EditError as problem:
        reason = f"the injected edits do not fit: {problem}"
    return Barren(reason)


def _drawn(
    nursery: Nursery, fault: FaultType, seed: int, target: Form
) -> Iterator[tuple[Sequence[Edit], float | None]]:
    drawn = placements(fault, nursery.graph(target), nursery.probe, seed, nursery.evaluator)
    return islice(drawn, nursery.settings.draws)


def _gated(nursery: Nursery, fault: FaultType, edits: Sequence[Edit], source: Form, target: Form, path: Path
           ) -> Mutant | Barren:
    gates = nursery.settings.gates
    gate, healthy = gates.of(fault.code), nursery.answers(target)
    gate = "numeric" if gate == "labels" and nursery.made.task == "regression" else gate
    try:
        write(nursery.path(target), edits, path)
    except FetafixError as problem:
        return Barren(f"the mutant cannot be written: {problem}")
    answers = nursery.run(path)
    off = error(answers, healthy)
    if gate != "interface" and (answers is None or any(answers[k].shape != v.shape for k, v in healthy.items()
                                                       if k in answers)):
        return Barren("the mutant does not run, or changes shapes")
    if answers is None and not nursery.runs(path):
        return Barren("the mutant does not run at all")
    if off <= gates.error and not (gate == "interface" and answers is not None and answers.keys() != healthy.keys()):
        return Barren("no output is off by more than the gate")
    if gate == "labels" and not nursery.differing(answers, healthy):
        return Barren("no label changes")
    touched = truth.between(nursery.read(nursery.path(target)), nursery.read(path))
    return Mutant(source, target, path, gate, tuple(e.describe() for e in edits), touched, answers)
