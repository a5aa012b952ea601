"""Alignment and localization in one pass: walk the target, feed it the source's activations, see what it makes of them.

Every target node is computed from values that are the source's own wherever a twin is known ("teacher forcing"), so an
error that shows is made right there. A computed tensor that equals a source tensor up to layout is an *anchor* and
takes the source's value from then on. A tensor without a twin is *open*: inside a fused or split operator that is
normal, and the region closes again by itself. Where it does not close, a pair (target tensor, source tensor) is
supposed to be twins, and the supposition stands only if what the target computes behind it equals the source again. The
region before such a pair introduces error: it is guilty. Nothing depends on names.

Networks that have nothing in common refute every supposition. So the nodes computed in vain are counted, and where they
are too many, only what needs no proof is supposed: bound outputs, and pairs that structure gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.graph.closing import closing
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.fingerprint import Index, compare, relate
from fetafix.graph.forcing import NO_SLACK, Forcing, Slack, State, Twin
from fetafix.graph.halves import holds, vanishes
from fetafix.graph.hypotheses import Evidence, Hypothesis
from fetafix.graph.refine import pairs
from fetafix.graph.rounding import unquantised
from fetafix.graph.segment import Layout
from fetafix.graph.store import ActivationStore
from fetafix.ir import Array, Graph, Node

_ROUGHLY = 8.0
_SETTLING = 3  # nodes that a region may stay open before anything is supposed: fused and split operators close by then
_PATIENCE = 24
_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})  # they come in pairs behind every operator
_LOOKAHEAD = 30
_FAR = 600  # nodes that an unrolled recurrent layer may stay open
_TELLING_FAILURES = 3
_PLACES = (np.dtype(np.int64), np.dtype(np.bool_))  # shapes, indices and masks are alike in many places
_LAYOUTS = 3
_WORK, _LEAST_WORK = 10, 600  # nodes computed in vain, per node of the target: sound pairs need up to 3


@dataclass(frozen=True, slots=True)
class Guilty:
    """A tensor at which the target departs from the source although it was fed the source's values upstream.

    actual: what the target computed (None: it could not run; `failure` says why). verified: what lies behind agrees.
    """

    target: str
    source: str
    layout: Layout
    actual: Array | None
    failure: str
    verified: bool


class Walk:
    """One walk over a target graph. `source_values` holds every activation of the source on the same samples."""

    def __init__(
        self,
        source: Graph,
        target: Graph,
        source_values: ActivationStore,
        index: Index,
        evaluator: Evaluator,
        outputs: Mapping[str, str],
        slack: Slack = NO_SLACK,
    ) -> None:
        self.source, self.target, self.outputs = source, target, outputs
        self.source_values = source_values
        self.state = State()
        self.guilty: list[Guilty] = []
        self.evidence = Evidence(source, target, source_values, index)
        self.forcing = Forcing(target, source_values, index, evaluator, self.evidence, outputs, slack)
        self._examined: set[str] = set()
        self._closing: set[str] = set()
        self._work = max(_LEAST_WORK, _WORK * len(target.nodes))
        self._at = {o: i for i, n in enumerate(target.nodes) for o in n.outputs if o}

    def run(self, feeds: Mapping[str, Array], inputs: Mapping[str, Twin]) -> None:
        """Walk all nodes. `feeds`: the target's inputs; `inputs`: their twins (the source's graph inputs)."""
        self.state.values.update(feeds)
        self.state.twins.update(inputs)
        position, since, frontier = 0, 0, list[str]()
        while position < len(self.target.nodes):
            node = self.target.nodes[position]
            last = position == len(self.target.nodes) - 1
            frontier = self._tidy() if self._settled(node) or last else [*frontier, *self._opened(node, frontier)]
            since = since + (node.op not in _ROUNDING) if frontier else 0
            desperate = last or (since > 0 and since % _PATIENCE == 0)
            if frontier and (desperate or since >= _SETTLING):
                changed = self._resolve(self._staying(frontier, desperate, since == _SETTLING), desperate)
                if changed is not None:
                    position, since, frontier = self._at[changed], 0, self._tidy()
            position += 1

    def _settled(self, node: Node) -> bool:
        """Compute a node where that is not done yet; whether some open tensor may have been settled by it."""
        if node.key not in self.state.done:
            self.forcing.step(node, self.state)
        met = any(o in self.state.twins for o in node.outputs)
        return met and any(t in self.state.open for t in node.reads)

    def _opened(self, node: Node, frontier: Sequence[str]) -> list[str]:
        return [o for o in node.outputs if o in self.state.open and o not in frontier]

    def _tidy(self) -> list[str]:
        """Forget open tensors that nothing needs any more; returns the others: the open region."""
        needed = self._needed()
        frontier = [t for t in self.state.open if t in needed]
        for tensor in self.state.open.keys() - needed:
            del self.state.open[tensor]
            self.state.values.pop(tensor, None)
            self.state.shaken.pop(tensor, None)
        return frontier

    def _staying(self, frontier: Sequence[str], far: bool, look: bool) -> list[str]:
        """The open tensors that do not close by themselves: about the others nothing is to be supposed."""
        staying = [t for t in frontier if t not in self._closing]
        if not staying or not (far or look):
            return staying
        ahead = _FAR if far else _LOOKAHEAD
        self._closing |= closing(self.target, self.forcing, self.state, self.outputs, self._at, ahead)
        return [t for t in staying if t not in self._closing]

    def _needed(self) -> set[str]:
        """Open tensors of which a reader is still to be computed, or makes an open tensor that is needed itself."""
        state, found = self.state, set[str]()
        for tensor in sorted(state.open, key=self._at.__getitem__, reverse=True):  # readers lie behind what they read
            readers = self.target.consumers.get(tensor, ())
            if tensor in self.outputs or any(
                node.key not in state.done or any(o in found for o in node.outputs) for node, _ in readers
            ):
                found.add(tensor)
        return found

    def _resolve(self, frontier: Sequence[str], desperate: bool) -> str | None:
        """Try suppositions on the open region; the tensor of the one that stands, its region recorded as guilty."""
        state = self.state
        if not frontier or (self._work <= 0 and not desperate):
            return None
        fresh = frontier if desperate else [t for t in frontier if t not in self._examined]
        self._examined.update(fresh)
        tries = self.evidence.hypotheses(fresh, state.twins, state.values, self.outputs, wide=desperate)
        fallback: Hypothesis | None = None
        for hypothesis in tries:
            overlay = self._suppose(hypothesis)
            if overlay is None:
                continue
            if self._verified(hypothesis, overlay):
                best = self._unrounded(*self._earlier(hypothesis, overlay, tries))
                self._accept(*best, verified=True)
                return best[0].target
            if fallback is None and hypothesis.structural:
                fallback = hypothesis
        self._work -= len(fresh)
        overlay = self._suppose(fallback) if desperate and fallback is not None else None
        if fallback is None or overlay is None:
            return None
        self._accept(fallback, overlay, verified=False)
        return fallback.target

    def _earlier(self, hypothesis: Hypothesis, overlay: State, tries: Sequence[Hypothesis]) -> tuple[Hypothesis, State]:
        """The first supposition in the target's order that stands too: the smaller the guilty region, the better.

        Where several stand for one tensor, the source tensor counts that is made from twins of the same tensors.
        """

        def order(h: Hypothesis) -> tuple[int, tuple[int, ...], float]:
            kin = self.evidence.unlike(self.target.producers.get(h.target), h.source, self.state.twins)
            return self._at[h.target], kin[:2], -h.score

        for other in sorted((h for h in tries if self._at[h.target] <= self._at[hypothesis.target]), key=order):
            within = None if other is hypothesis else self._suppose(other)
            if other is hypothesis or (within is not None and self._verified(other, within)):
                return other, within or overlay
        return hypothesis, overlay

    def _unrounded(self, hypothesis: Hypothesis, overlay: State) -> tuple[Hypothesis, State]:
        """Of a rounded tensor, what it was before that, where that stands too: then the rounding is not to blame."""
        node = self.target.producers.get(hypothesis.target)
        before = unquantised(self.target, node)[0] if node is not None and node.op == "DequantizeLinear" else ""
        value = self.state.values.get(before)
        if not before or value is None or before in self.state.twins:
            return hypothesis, overlay
        for layout, shape in self.evidence.layouts(before, hypothesis.source, value, self.state.twins)[:2]:
            other = Hypothesis(before, hypothesis.source, layout, shape, hypothesis.score, hypothesis.structural)
            within = self._suppose(other)
            if within is not None and self._verified(other, within):
                return other, within
        return hypothesis, overlay

    def _suppose(self, hypothesis: Hypothesis) -> State | None:
        source = self.source_values.get(hypothesis.source)
        if source is None or self._vanishing(hypothesis.target, hypothesis.source):
            return None
        known = self.state.values.get(hypothesis.target)
        if known is not None and (known.dtype.kind == "b") != (source.dtype.kind == "b"):
            return None  # a truth value stands for no number
        shape = hypothesis.shape
        if known is not None and known.size == source.size:
            shape = shape or known.shape
        dtype = known.dtype if known is not None else source.dtype
        if shape is None or int(np.prod(shape)) != source.size or not holds(dtype, source):
            return None
        overlay = State()
        overlay.twins[hypothesis.target] = Twin(hypothesis.source, hypothesis.layout, shape, dtype)
        return overlay

    def _verified(self, hypothesis: Hypothesis, overlay: State) -> bool:
        """Whether the target, computed on from a supposed twin, meets the source again at a telling node."""
        if self.outputs.get(hypothesis.target) == hypothesis.source:
            return True
        if self._work <= 0:
            return False
        depends = {hypothesis.target}
        budget, failed = _LOOKAHEAD, 0
        for node in self.target.nodes[self._at[hypothesis.target] + 1 :]:
            if not any(t in depends for t in node.reads):
                if node.key not in self.state.done:
                    self.forcing.step(node, self.state)
                continue
            matched = self.forcing.step(node, self.state, overlay)
            telling = self.evidence.telling(node)
            if any(o in self.outputs or (telling and overlay.twins[o].dtype not in _PLACES) for o in matched):
                return True
            depends.update(o for o in node.outputs if o)
            budget, failed = budget - 1, failed + telling
            if budget == 0 or failed > _TELLING_FAILURES:
                break
        self._work -= _LOOKAHEAD - budget
        return False

    def _accept(self, hypothesis: Hypothesis, overlay: State, verified: bool) -> None:
        """Record the guilty tensor, its region cut as fine as structure allows, and go on from the supposed value."""
        for target, source in self._inside(hypothesis):
            dtype = self.source_values[source].dtype
            numbers = dtype.kind in "fV" or (dtype.kind in "iu" and dtype.itemsize == 1)  # such as codes
            if self._vanishing(target, source) or not numbers:
                continue  # shapes are paired by their place, which tells little; they show where they are used
            known = (self.state.values.get(target), None)  # without it: what is of another size gets the source's
            options = next(o for v in known if (o := self.evidence.layouts(target, source, v, self.state.twins)))
            inner, within = self._laid([Hypothesis(target, source, *o, 0.0, structural=True) for o in options])
            if within is not None:
                self._record(inner, within, verified=False)
                for node in self.target.nodes[self._at[target] + 1 : self._at[hypothesis.target] + 1]:
                    if node.key not in self.state.done:
                        self.forcing.step(node, self.state)
        if hypothesis.target not in self.state.twins:
            self._record(hypothesis, overlay, verified)

    def _laid(self, options: Sequence[Hypothesis]) -> tuple[Hypothesis, State | None]:
        """Of a pair in several layouts the first under which the target meets the source again; else the first.

        Only where that is turned, or where another shape is possible: the layout of what a node reads is that of what
        it makes, unless the turn is wrong.
        """
        others = [o for o in options[1:] if o.shape != options[0].shape]
        doubtful = len(options) > 1 and (others or options[0].layout.perm is not None)
        for option in [options[0], *(others or options[1:])][:_LAYOUTS] if doubtful else ():
            within = self._suppose(option)
            if within is not None and self._verified(option, within):
                return option, within
        return options[0], self._suppose(options[0])

    def _vanishing(self, target: str, source: str) -> bool:
        """Whether a float16 tensor is the source's but for what vanished: harm that shows only behind it."""
        value, loose = self.state.values.get(target), self.forcing.halved(target, self.state)
        if value is None or not loose:
            return False
        there = self.source_values[source]
        same = compare(value, there, _ROUGHLY * loose)
        return any(vanishes(value, relate(there, layout, value.shape)) for layout, _ in same)

    def _inside(self, hypothesis: Hypothesis) -> list[tuple[str, str]]:
        """Pairs that structure gives inside the region before a supposed twin."""
        known = {t: w.source for t, w in self.state.twins.items()}
        target = self.target.between(known, [hypothesis.target])
        if len(target.nodes) < 2 or hypothesis.source not in self.source.producers:
            return []
        used = {known[t] for t in target.input_names if t in known}
        stops = (set(known.values()) - {hypothesis.source}) | used
        if hypothesis.source in used:
            return []
        source = self.source.between(stops, [hypothesis.source])
        return pairs(target, source, known, self.evidence, (hypothesis.target, hypothesis.source))

    def _record(self, hypothesis: Hypothesis, overlay: State, verified: bool) -> None:
        state, name = self.state, hypothesis.target
        actual = self.forcing.value(name, state)
        self.guilty.append(
            Guilty(name, hypothesis.source, hypothesis.layout, actual, state.failures.get(name, ""), verified)
        )
        for node in self._downstream(name):
            state.done.discard(node.key)
            for out in node.outputs:
                for table in (state.open, state.values, state.shaken, state.twins, state.failures):
                    table.pop(out, None)
        for table in (state.open, state.values, state.shaken, state.failures):
            table.pop(name, None)
        state.values.update(overlay.values)
        state.shaken.update(overlay.shaken)
        state.twins.update(overlay.twins)
        state.failures.update(overlay.failures)
        state.open.update(overlay.open)
        state.done |= overlay.done
        self._examined.clear()
        self._closing.clear()

    def _downstream(self, tensor: str) -> Sequence[Node]:
        """Computed nodes that used the tensor's old value; what equals the source nevertheless stays."""
        reached, found = {tensor}, []
        for node in self.target.nodes[self._at[tensor] + 1 :]:
            made = [o for o in node.outputs if o and o not in self.state.twins]
            if made and node.key in self.state.done and any(t in reached for t in node.reads):
                found.append(node)
                reached.update(made)
        return found
