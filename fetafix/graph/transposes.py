"""Transposes that are wrong: which single one, removed, corrected or inserted, makes a segment right again.

Where dimensions are equal no shape tells a wrong permutation. `healing` tries the few that shapes allow on the segment
and returns the first that heals; `crossed` says whether the channel axis was mistaken for another one (a layout that
was guessed from sizes) or only others changed places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from weakref import WeakKeyDictionary

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Graph, Node

_MOST_RANK = 5
_MOST_TRIALS = 80
_EQUAL = 1e-3
_FAR = 12
_CHANNELS_FIRST = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "Resize",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth", "Upsample",
})


@dataclass(frozen=True, eq=False, slots=True)
class Turn:
    """A change of one Transpose. node: whom to blame; what: in words; error: what is left after the edits.

    crossed: whether the wrong permutation moves the channel axis of the tensor.
    """

    node: str
    what: str
    edits: list[Edit]
    crossed: bool
    error: float = float("inf")


def moves(dims: Sequence[int], out: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """Permutations of a shape into another (itself by default) that move values, few moved axes first."""
    rank, wanted = len(dims), tuple(dims if out is None else out)
    if not 2 <= rank <= _MOST_RANK:
        return []
    found = [p for p in permutations(range(rank)) if tuple(dims[i] for i in p) == wanted]
    found = [p for p in found if [i for i in p if dims[i] > 1] != [i for i in range(rank) if dims[i] > 1]]
    return sorted(found, key=lambda p: sum(i != j for i, j in enumerate(p)))


def channel_axis(graph: Graph, tensor: str) -> int | None:
    """Where a map's channels lie, as the next operator that has an opinion takes it; None where none is near."""
    ahead = _ahead(graph, tensor, list(range(len(graph.shapes.get(tensor, ())))), _FAR)
    return _behind(graph, tensor, _FAR) if ahead is None else ahead


def _ahead(graph: Graph, tensor: str, axes: list[int], left: int) -> int | None:
    """axes: which axis of the first tensor each axis of `tensor` is."""
    if len(axes) < 3 or not left:
        return None
    for node, slot in graph.consumers.get(tensor, ()):
        if node.op in _CHANNELS_FIRST:
            return axes[1] if slot == 0 else None
        perm = canonical(node, graph).get("perm") if node.op == "Transpose" else range(len(axes))
        if perm is not None and len(graph.shapes.get(node.key, ())) == len(axes):
            found = _ahead(graph, node.key, [axes[p] for p in perm], left - 1)
            if found is not None:
                return found
    return None


def _behind(graph: Graph, tensor: str, left: int) -> int | None:
    node = graph.producers.get(tensor)
    if node is None or not left:
        return None
    if node.op in _CHANNELS_FIRST:
        return 1
    data = next((t for t in node.inputs if len(graph.shapes.get(t, ())) == len(graph.shapes.get(tensor, (0,)))), None)
    axis = None if data is None else _behind(graph, data, left - 1)
    if axis is None or node.op != "Transpose":
        return axis
    return list(canonical(node, graph)["perm"]).index(axis)


def inserted(graph: Graph, tensor: str, perm: tuple[int, ...], readers: tuple[tuple[str, int], ...] | None) -> Edit:
    """A Transpose behind a tensor, for the given readers or all of them, named like its neighbours."""
    near = graph.producers.get(tensor) or (graph.producers.get(readers[0][0]) if readers else None)
    name, out = like(graph, "Transpose", near)
    return InsertNode(tensor, Node("Transpose", (tensor,), (out,), {"perm": perm}, name), consumers=readers)


def crossing(graph: Graph, tensor: str, old: Sequence[int], new: Sequence[int]) -> bool:
    """Whether a tensor made by one permutation where another is right holds its channels at another place."""
    axis = channel_axis(graph, tensor)
    return axis is not None and axis < len(old) and old[axis] != new[axis]


def _candidates(segment: Segment) -> list[Turn]:
    """Changes of one Transpose, those first that give the target as many as the source has."""
    ours, theirs = ([n for n in g.nodes if n.op == "Transpose"] for g in (segment.target, segment.source))
    kinds = [list(_removals(segment, ours)), list(_corrections(segment, ours)), list(_insertions(segment))]
    order = (0, 1, 2) if len(ours) > len(theirs) else (1, 0, 2) if len(ours) == len(theirs) else (2, 1, 0)
    return [turn for i in order for turn in kinds[i]]


def _removals(segment: Segment, nodes: Sequence[Node]) -> Iterator[Turn]:
    for node in nodes:
        old = canonical(node, segment.target).get("perm", ())
        yield Turn(node.key, "is one too many", [RemoveNode(node.key)],
                   crossing(segment.full, node.key, old, range(len(old))))


def _corrections(segment: Segment, nodes: Sequence[Node]) -> Iterator[Turn]:
    graph, runs = segment.target, segment.actual is not None
    for node in nodes:
        dims, out = shape(graph, node.input(0)), shape(graph, node.key)
        if dims is None or out is None:
            continue
        old = canonical(node, graph)["perm"]
        perms = moves(dims, out) if runs else [p for p in permutations(range(len(dims))) if len(dims) <= 4]
        for perm in (p for p in perms if p != old):
            yield Turn(node.key, f"should be {list(perm)}", [SetAttribute(node.key, "perm", perm)],
                       crossing(segment.full, node.key, old, perm))


def _insertions(segment: Segment) -> Iterator[Turn]:
    graph, actual, goal = segment.target, segment.actual, segment.goal.target
    for perm in [] if actual is None else moves(actual.shape, segment.expected.shape):
        if actual is not None and relative_error(actual.transpose(perm), segment.expected) < _EQUAL:
            yield Turn(segment.node.key, f"lacks a Transpose {list(perm)} behind it",
                       [inserted(segment.full, goal, perm, None)],
                       crossing(segment.full, goal, tuple(range(len(perm))), perm))
    for tensor in segment.feeds:
        readers = tuple((n.key, slot) for n, slot in graph.consumers.get(tensor, ()) if slot >= 0)
        for perm in moves(segment.feeds[tensor].shape) if readers else []:
            yield Turn(readers[0][0], f"lacks a Transpose {list(perm)} of its input",
                       [inserted(segment.full, tensor, perm, readers)],
                       crossing(segment.full, tensor, tuple(range(len(perm))), perm))


_known: WeakKeyDictionary[Segment, Turn | None] = WeakKeyDictionary()


def healing(segment: Segment) -> Turn | None:
    """The first change of one Transpose that heals a segment, or all but heals it; boundedly many are tried."""
    if segment not in _known:
        _known[segment] = _first(segment)
    return _known[segment]


def _first(segment: Segment) -> Turn | None:
    if segment.healed(segment.error):
        return None
    for tried, turn in enumerate(_candidates(segment)):
        if tried >= _MOST_TRIALS:
            break
        error = segment.trial(turn.edits)
        if segment.healed(error) or error < _EQUAL * min(segment.error, 1.0):
            return Turn(turn.node, turn.what, turn.edits, turn.crossed, error)
    return None


def wrong_turns(graph: Graph, crossed: bool) -> list[list[Edit]]:
    """What injections of wrong Transposes may do: insert, correct wrongly or remove one, every shape kept.

    crossed: whether the channel axis is to change places.
    """
    places: list[list[Edit]] = []
    for node in graph.nodes:
        dims, out = shape(graph, node.input(0)), shape(graph, node.key)
        if dims is None or out is None:
            continue
        flattened = any(reader.op in ("Flatten", "Reshape") for reader, _ in graph.consumers.get(node.key, ()))
        if node.op == "Transpose" and not flattened:  # before a Flatten it is tss-flatten-order
            old, still = canonical(node, graph)["perm"], tuple(range(len(dims)))
            places += [[SetAttribute(node.key, "perm", p)] for p in moves(dims, out)
                       if p != old and crossing(graph, node.key, p, old) == crossed]
            if dims == out and old in moves(dims) and crossing(graph, node.key, still, old) == crossed:
                places.append([RemoveNode(node.key)])
        elif len(dims) == 4 and node.op in ("Conv", "MaxPool", "AveragePool") and node.input(0) in graph.producers:
            places += [[inserted(graph, node.input(0), p, ((node.key, 0),))] for p in moves(dims)
                       if p[0] == 0 and (p[1] != 1) == crossed]
    return places
