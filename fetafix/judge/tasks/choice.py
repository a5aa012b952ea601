"""Which comparator judges which outputs: as somebody says, else as the comparators say themselves.

A wish reads `detection` (whatever outputs of the model it fits), or `mask=segmentation` (that output, by the source's
or the target's name), each with limits behind it: `mask=segmentation,miou=0.95`. Outputs of one wish for detection
belong together. What nobody wishes goes to the surest claim, of equally sure ones to the one that explains most
outputs; an output that nobody claims is judged by its numbers.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fetafix.errors import UsageError
from fetafix.judge.tasks.base import Assignment, Claim, Comparator, Limits, View
from fetafix.judge.tasks.registry import CLASSIFICATION, NUMERIC, comparators

_SURE = {"asked": 0, "yes": 1, "maybe": 2}


@dataclass(frozen=True)
class Wish:
    """A comparator by name with limits that differ from its defaults. output: None for whatever it fits."""

    task: str
    output: str | None = None
    limits: Limits = field(default_factory=dict)


def wishes(given: Any) -> tuple[Wish, ...]:
    """What `--task` and the configuration say: a text, a list of texts, or output → text or mapping.

    Raises UsageError for a task or a limit that does not exist, or a limit that is no number.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return (_read(given),)
    if isinstance(given, Mapping):
        return tuple(_of(output, said) for output, said in given.items())
    made = tuple(wish for item in given for wish in wishes(item))
    names = [w.output for w in made]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{names.count(name)} tasks are given for {repr(name) if name else 'the whole model'}")
    return made


def _read(text: str) -> Wish:
    first, *rest = text.split(",")
    output, _, task = first.rpartition("=")
    limits: dict[str, Any] = {}
    for item in rest:
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"expected key=value in the task {text!r}, found {item!r}")
        limits[key.strip()] = value
    return _wish(task.strip(), output.strip() or None, limits)


def _of(output: str, said: Any) -> Wish:
    if isinstance(said, str):
        wish = _read(said)
        return Wish(wish.task, output, wish.limits)
    if isinstance(said, Mapping) and "task" in said:
        return _wish(said["task"], output, {k: v for k, v in said.items() if k != "task"})
    raise UsageError(f"the task of output {output!r} is a name, or a mapping with a key 'task'; found {said!r}")


def _wish(task: str, output: str | None, limits: Mapping[str, Any]) -> Wish:
    known = comparators()
    if task not in known:
        raise UsageError(f"there is no task {task!r}; {_near(task, known)}")
    made = {}
    for key, value in limits.items():
        if key not in known[task].limits:
            raise UsageError(f"the task {task} has no limit {key!r}; {_near(key, known[task].limits)}")
        try:
            made[key] = float(value)
        except (TypeError, ValueError):
            made[key] = math.nan
        if not math.isfinite(made[key]):
            raise UsageError(f"the limit {key} of the task {task} is a number, found {value!r}")
    return Wish(task, output, made)


def _near(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def choose(
    views: Sequence[View], wanted: Sequence[Wish], names: Mapping[str, str], gate: str | None = None
) -> tuple[Assignment, ...]:
    """The comparators of a model's outputs, in the outputs' order; each output is judged by one at most.

    names: what else outputs may be called in wishes (the target's names) → their name in the source. gate: what the
    user wants to agree. Raises UsageError where a wish names no output, or an output that does not suit its task, and
    where there is nothing that could pass the gate.
    """
    known = comparators()
    made = _asked(views, wanted, names)
    taken = {o for a in made for o in a.outputs}
    free = [v for v in views if v.name not in taken]
    claims = [(c, claim) for c in known.values() for claim in c.claim(free, False)]
    for comparator, claim in sorted(claims, key=lambda p: (_SURE[p[1].sure], -len(p[1].roles))):
        if not taken & set(claim.roles.values()):
            taken |= set(claim.roles.values())
            made.append(Assignment(comparator, claim, dict(comparator.limits)))
    _passable(gate, {a.comparator.name for a in made}, views)
    order = {v.name: i for i, v in enumerate(views)}
    return tuple(sorted(made, key=lambda a: min(order[o] for o in a.outputs)))


def _passable(gate: str | None, kinds: set[str], views: Sequence[View]) -> None:
    if gate == "labels" and CLASSIFICATION not in kinds:
        raise UsageError(f"the gate labels needs an output with one score a class, and there is none ({_told(views)})")
    if gate == "task" and kinds <= {NUMERIC}:
        raise UsageError(f"the gate task needs an output whose meaning is known, and there is none ({_told(views)}); "
                         "say with --task what it is")


def _told(views: Sequence[View]) -> str:
    return ", ".join(f"{v.name!r} {v.values.dtype}{['N', *v.values.shape[1:]]}" for v in views) or "no output"


def _asked(views: Sequence[View], wanted: Sequence[Wish], names: Mapping[str, str]) -> list[Assignment]:
    """What is wished for single outputs, joined by task and limits, then for the whole model."""
    there = {v.name: v for v in views}
    groups: dict[tuple[str, tuple[tuple[str, float], ...]], list[View]] = {}
    for wish in (w for w in wanted if w.output is not None):
        name = str(wish.output) if wish.output in there else names.get(str(wish.output), "")
        if name not in there:
            raise UsageError(f"task for {wish.output!r}: there is no such output; outputs are {', '.join(there)}")
        groups.setdefault((wish.task, tuple(sorted(wish.limits.items()))), []).append(there[name])
    made: list[Assignment] = []
    for (task, limits), chosen in groups.items():
        made += _claimed(comparators()[task], chosen, dict(limits), every=True)
    taken = {o for a in made for o in a.outputs}
    for wish in (w for w in wanted if w.output is None):
        free = [v for v in views if v.name not in taken]
        made += _claimed(comparators()[wish.task], free, wish.limits, every=False)
    return made


def _claimed(comparator: Comparator, views: Sequence[View], limits: Limits, every: bool) -> list[Assignment]:
    """The assignments of outputs that were asked for. every: each of them has to fit."""
    claims: list[Claim] = list(comparator.claim(views, True))
    covered = {o for c in claims for o in c.roles.values()}
    missed = [v for v in views if v.name not in covered]
    if not claims or (every and missed):
        raise UsageError(f"the task {comparator.name} needs {comparator.needs}; found {_told(missed or views)}")
    return [Assignment(comparator, c, {**comparator.limits, **limits}) for c in claims]
