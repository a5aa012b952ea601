"""Whether an edit may be made in another graph: it must find there what it found when it was reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetInputShape,
    SetOperator,
    SetOutputs,
)
from fetafix.graph.structure import COMMUTATIVE, Outline, Print, fingerprint, meaning
from fetafix.ir import Array, Graph, Node
from fetafix.patch.cursor import Cursor, Misfit

_RETRAINED = "its weights are others than those that were repaired: another training run, or another checkpoint"
_UPSTREAM = 64


class Checker:
    """Holds edits, in the first graph's names, against the second graph of a cursor.

    same_weights: whether most layers hold the weights that they held when the patch was made. `notes` grows with what
    a reader should know of edits that are made all the same.
    """

    def __init__(self, cursor: Cursor, base: Outline, other: Outline, same_weights: bool) -> None:
        self._cursor, self._outlines, self._same = cursor, (base, other), same_weights
        self.notes: list[str] = []

    def needed(self, edit: Edit, own: frozenset[str]) -> bool:
        """Whether the edit is still to be made: False where the other graph is already as it makes it.

        own: settings of the edit's node that edits of the same repair set. Raises Misfit where it does not fit.
        """
        match edit:
            case SetAttribute():
                return self._attribute(edit, own)
            case SetInput():
                return self._input(edit)
            case Rewire():
                return self._wire(edit)
            case RemoveNode() | SetOperator():
                self._replaced(edit)
            case InsertNode():
                self._insertion(edit)
            case ReplaceSegment():
                self._segment(edit)
            case SetOutputs():
                return self._outputs(edit)
            case SetInputShape():
                return self._shape(edit)
        return True

    def _attribute(self, edit: SetAttribute, own: frozenset[str]) -> bool:
        node, twin = self._cursor.node(edit.node)
        name = edit.attribute
        kept = {k: v for k, v in node.attrs.items() if k != name}
        wanted = replace(node, attrs=kept if edit.value is None else {**kept, name: edit.value})
        old, new = (meaning(n, self._cursor.first).get(name) for n in (node, wanted))
        found = meaning(twin, self._cursor.second).get(name)
        if found not in (old, new):
            raise Misfit(f"its {name} is {found}, in the repaired model it was {old}")
        self._settings(node, twin, own | {name})
        self._reads(node, twin, strict=False)
        return found != new

    def _input(self, edit: SetInput) -> bool:
        node, twin = self._cursor.node(edit.node)
        slot = self._cursor.slot(edit.node, edit.slot)
        self._reads(node, twin, strict=False)
        self._settings(node, twin, frozenset())
        if edit.value is None or (edit.value.size > 1 and edit.value.dtype.kind == "f"):
            self._weights(node, twin, edit.slot)
        old, found = self._print(0, node.input(edit.slot)), self._print(1, twin.input(slot))
        new = None if edit.value is None else fingerprint(edit.value)
        if found == new or (found and new and found.digest == new.digest):
            return False
        if (old is None) != (found is None) or (old and found and not old.like(found)):
            raise Misfit(f"{_what(edit.slot, old)} is not the one that was repaired ({_what(edit.slot, found)} found): "
                         "another training run, or converted otherwise")  # fmt: skip
        if old and found and old.digest != found.digest:
            self.notes.append("the old value differs within float noise")
        return True

    def _wire(self, edit: Rewire) -> bool:
        node, twin = self._cursor.node(edit.node)
        now = twin.input(self._cursor.slot(edit.node, edit.slot))
        if self._cursor.tensor(edit.tensor) == now:
            return False
        self._settings(node, twin, frozenset())
        self._reads(node, twin)
        return True

    def _replaced(self, edit: RemoveNode | SetOperator) -> None:
        node, twin = self._cursor.node(edit.node)
        self._settings(node, twin, frozenset())
        self._weights(node, twin, None)
        self._reads(node, twin)
        self._readers(node.key, twin.key)
        if isinstance(edit, SetOperator) and any(map(_trained, edit.constants.values())):
            self._trained_alike(node.key)

    def _insertion(self, edit: InsertNode) -> None:
        after = self._cursor.tensor(edit.after)
        if edit.consumers is None:
            self._readers(edit.after, after)
        for key, slot in edit.consumers or ():
            node, twin = self._cursor.node(key)
            if twin.input(self._cursor.slot(key, slot)) != self._cursor.tensor(node.input(slot)):
                raise Misfit(f"{twin.op} {twin.label} reads another tensor than it did in the repaired model")
        if any(map(_trained, edit.constants.values())):
            self._trained_alike(edit.after)

    def _segment(self, edit: ReplaceSegment) -> None:
        self._readers(edit.output, self._cursor.tensor(edit.output))
        starts = [edit.bind.get(t, t) for t in edit.fragment.input_names]
        region = self._cursor.first.between(starts, [edit.output])
        for node in region.nodes:
            self._settings(*self._cursor.node(node.key), frozenset())
            self._weights(*self._cursor.node(node.key), None)
        if any(map(_trained, edit.fragment.initializers.values())) and not self._same:
            raise Misfit(_RETRAINED)

    def _outputs(self, edit: SetOutputs) -> bool:
        wanted = tuple(map(self._cursor.tensor, edit.outputs))
        if wanted == self._cursor.second.output_names:
            return False
        if tuple(map(self._cursor.tensor, self._cursor.first.output_names)) != self._cursor.second.output_names:
            raise Misfit("its outputs are not those of the repaired model")
        return True

    def _shape(self, edit: SetInputShape) -> bool:
        old = next(v for v in self._cursor.first.inputs if v.name == edit.input)
        found = next(v for v in self._cursor.second.inputs if v.name == self._cursor.tensor(edit.input))
        if found.shape == edit.shape:
            return False
        if _sizes(found.shape) != _sizes(old.shape):
            raise Misfit(f"it declares its input as {found.shape}, the repaired model as {old.shape}")
        return True

    def _settings(self, node: Node, twin: Node, but: frozenset[str]) -> None:
        """Raise Misfit where two nodes have other settings, but for some."""
        ours, theirs = meaning(node, self._cursor.first), meaning(twin, self._cursor.second)
        for name in dict.fromkeys((*ours, *theirs)):
            if name not in but and ours.get(name) != theirs.get(name):
                raise Misfit(f"its {name} is {theirs.get(name)}, in the repaired model {ours.get(name)}")

    def _weights(self, node: Node, twin: Node, but: int | None) -> None:
        """Raise Misfit where two nodes hold other constants, but for one slot."""
        for slot, tensor in enumerate(node.inputs):
            ours = None if slot == but else self._print(0, tensor)
            if ours is not None:
                theirs = self._print(1, twin.input(self._cursor.slot(node.key, slot)))
                if theirs is None or not ours.like(theirs):
                    raise Misfit(_RETRAINED)

    def _reads(self, node: Node, twin: Node, strict: bool = True) -> None:
        """Raise Misfit where two nodes read other tensors; strict: also where that is not known."""
        mapped = []
        for tensor in node.inputs:
            if tensor and tensor in (*self._cursor.first.producers, *self._cursor.first.input_names):
                if self._cursor.knows(tensor):
                    mapped.append(self._cursor.tensor(tensor))
                elif strict:
                    self._cursor.tensor(tensor)
        if any(t not in twin.inputs for t in mapped) or (node.op not in COMMUTATIVE and mapped != [
            t for t in twin.inputs if t in mapped]):  # fmt: skip
            raise Misfit(f"{twin.op} {twin.label} reads other tensors than in the repaired model")

    def _readers(self, first: str, second: str) -> None:
        """Raise Misfit where a tensor has other readers."""
        g, h = self._cursor.first, self._cursor.second
        ours, theirs = (sorted(n.op for n, _ in x.consumers.get(t, ())) for x, t in ((g, first), (h, second)))
        if ours != theirs or (first in g.output_names) != (second in h.output_names):
            raise Misfit(f"{second} is read by {', '.join(theirs) or 'nothing'}, in the repaired model by "
                         f"{', '.join(ours) or 'nothing'}")  # fmt: skip

    def _trained_alike(self, tensor: str) -> None:
        """Raise Misfit where weights are brought in behind a layer that holds others than it did."""
        if not self._same:
            raise Misfit(_RETRAINED)
        for node in _upstream(self._cursor.first, tensor):
            if any(_trained(self._cursor.first.initializers.get(t)) for t in node.inputs):
                if self._cursor.knows(node.key):
                    self._weights(*self._cursor.node(node.key), None)
                return

    def _print(self, side: int, tensor: str) -> Print | None:
        """The fingerprints of a constant of a graph as it is now; None for what is no constant."""
        graph = (self._cursor.first, self._cursor.second)[side]
        known = self._outlines[side]
        value = graph.initializers.get(tensor)
        if value is None:
            maker = graph.producers.get(tensor)
            if graph.grid(tensor) is None or maker is None:
                return None
            return self._print(side, maker.input(0))
        if known.graph.initializers.get(tensor) is value:
            return known.prints[tensor]
        return fingerprint(value)


def _trained(value: Array | None) -> bool:
    """Whether a constant may hold what training found."""
    return value is not None and value.size > 1 and value.dtype.kind in "fV"


def _upstream(graph: Graph, tensor: str) -> Iterator[Node]:
    """The nodes that a tensor is made by, nearest first."""
    queue, seen = [tensor], set[str]()
    while queue and len(seen) < _UPSTREAM:
        node = graph.producers.get(queue.pop(0))
        if node is not None and node.key not in seen:
            seen.add(node.key)
            yield node
            queue += node.reads


def _sizes(shape: tuple[int | str | None, ...] | None) -> tuple[int | None, ...] | None:
    """A declared shape without the names of its open dimensions."""
    return None if shape is None else tuple(d if isinstance(d, int) else None for d in shape)


def _what(slot: int, value: Print | None) -> str:
    return f"no constant in input {slot}" if value is None else f"the constant {list(value.shape)} in input {slot}"


