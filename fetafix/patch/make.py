"""Make a patch of the repairs that a run kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetafix import __version__
from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, apply, prune
from fetafix.edits.inverse import inverse
from fetafix.errors import FetafixError
from fetafix.graph.structure import Outline, outline, unlike
from fetafix.ir import Graph
from fetafix.patch.record import Patch, edits_to, side
from fetafix.patch.replay import Step, replay
from fetafix.plan import Entry, File
from fetafix.report import ModelInfo

Preprocessing = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a patch says about where it comes from.

    preprocess: the target's preprocessing without and with the repairs, as plain data, or None. inputs: the shapes in
    which its inputs take one sample, in their order.
    """

    source: ModelInfo
    target: ModelInfo
    seed: int
    approved_by: str = ""
    preprocess: tuple[Preprocessing, Preprocessing] = (None, None)
    inputs: tuple[tuple[int, ...], ...] = ()
    proof: Mapping[str, Any] | None = None


def make(
    target: Graph, repairs: Sequence[tuple[Entry, tuple[Edit, ...]]], facts: Facts, written: Graph | None = None
) -> tuple[Patch, ArrayStore]:
    """The patch of some repairs of a canonical target graph.

    written: the canonical graph of the repaired copy as it was written and opened again; where the undo does not fit
    that, the patch says so. Raises EditError where a repair does not fit the graph.
    """
    store = ArrayStore()
    graph, undone = target, list[tuple[Edit, ...]]()
    why = ""
    for _, edits in repairs:
        try:
            undone.append(inverse(graph, edits, facts.preprocess[0]))
        except FetafixError as error:
            why = why or str(error)
        graph = apply(graph, edits)
    before, after = outline(prune(target)), outline(prune(graph))
    why = why or _irrevocable(before, after, repairs, undone, written)
    patch = Patch(
        made_by=f"fetafix {__version__}", source=_file(facts.source), target=_file(facts.target),
        format=facts.target.format, seed=facts.seed, approved_by=facts.approved_by,
        entries=[e for e, _ in repairs], undo=[] if why else [edits_to(u, store) for u in undone], irrevocable=why,
        before=side(before, store), after=side(after, store), preprocess=[_plain(p) for p in facts.preprocess],
        inputs=[list(s) for s in facts.inputs], proof=dict(facts.proof or {}),
    )  # fmt: skip
    for _, edits in repairs:
        edits_to(edits, store)  # their arrays
    return patch, store


def undoing(repairs: Sequence[Entry], undo: Sequence[tuple[Edit, ...]]) -> list[Step]:
    """The steps that take repairs back, last one first."""
    return [Step(e.id, u) for e, u in reversed(list(zip(repairs, undo, strict=True)))]


def _irrevocable(
    before: Outline, after: Outline, repairs: Sequence[tuple[Entry, tuple[Edit, ...]]],
    undone: Sequence[tuple[Edit, ...]], written: Graph | None,
) -> str:
    """Why the repairs cannot be taken back; "" where they can: tried on the graph, and on the one that was written."""
    steps = undoing([e for e, _ in repairs], undone)
    try:
        again = apply(after.graph, [e for s in steps for e in s.edits])
    except FetafixError as error:
        return str(error)
    other = unlike(before, outline(prune(again)))
    if other:
        return f"taking the edits back would leave another graph: {other}"
    refused = replay(after, steps, outline(written)).of("refused") if written is not None else ()
    return f"the format writes the repair in a form that is not recognised again: {refused[0].why}" if refused else ""


def _file(info: ModelInfo) -> File:
    return File(path=Path(info.path).name, sha256=info.sha256)


def _plain(value: Preprocessing) -> dict[str, Any] | None:
    return None if value is None else dict(value)
