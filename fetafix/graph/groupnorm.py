"""Group and instance normalisation as one unit, whatever form it has.

Forms: GroupNormalization (one scale per group before operator set 21, one per channel from there on),
InstanceNormalization (as many groups as channels), and Reshape (N, G, −1) → InstanceNormalization → Reshape, with a Mul
and an Add per channel behind, as exporters spell groups. y = γ·(x − μ_g)/√(σ_g² + ε) + β, over all of a group's pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fetafix.edits import Edit, ReplaceSegment, SetAttribute, SetInput, SetOperator
from fetafix.graph.attributes import canonical, shape, version
from fetafix.ir import Array, Graph, Node, Value

_PER_CHANNEL = 21


@dataclass(frozen=True, eq=False, slots=True)
class GroupNorm:
    """A normalisation: `node` does it; `reshape`, `back`: the Reshapes around it, where there are any.

    affine: Mul and Add per channel behind it, each with the slot of its constant.

    scale, bias: γ and β per channel, float64 (C,). channels, groups: C and G.
    """

    node: Node
    channels: int
    groups: int
    epsilon: float
    scale: Array
    bias: Array
    reshape: Node | None = None
    back: Node | None = None
    affine: tuple[tuple[Node, int], ...] = ()


def norms(graph: Graph) -> list[GroupNorm]:
    """All group and instance normalisations of a graph, in order."""
    return [n for node in graph.nodes if not node.domain and (n := _norm(node, graph)) is not None]


def _norm(node: Node, graph: Graph) -> GroupNorm | None:
    if node.op not in ("GroupNormalization", "InstanceNormalization"):
        return None
    scale, bias = graph.constant(node, 1), graph.constant(node, 2)
    dims = shape(graph, node.input(0))
    if scale is None or bias is None or dims is None:
        return None
    epsilon = float(canonical(node, graph)["epsilon"])
    before = graph.producers.get(node.input(0))
    whole = shape(graph, before.input(0)) if before is not None and before.op == "Reshape" else None
    groups = int(dims[1]) if node.op == "InstanceNormalization" else int(canonical(node, graph)["num_groups"])
    if node.op == "InstanceNormalization" and whole is not None and len(whole) > 2 and whole[1] != dims[1]:
        return _reshaped(node, graph, before, int(whole[1]), epsilon) if whole[1] % groups == 0 else None
    channels = int(dims[1])
    return GroupNorm(node, channels, groups, epsilon, _spread(scale, channels), _spread(bias, channels))


def _spread(values: Array, channels: int) -> Array:
    """Values per group as values per channel."""
    return np.repeat(values.astype(np.float64), max(channels // values.size, 1))


def _reshaped(node: Node, graph: Graph, before: Node | None, channels: int, epsilon: float) -> GroupNorm | None:
    """The form of Reshapes; γ and β of the nodes behind join those of the node."""
    own = [np.asarray(graph.constant(node, s)) for s in (1, 2)]
    scale, bias = (_spread(v, channels) for v in own)
    readers = graph.consumers.get(node.key, ())
    back = readers[0][0] if len(readers) == 1 and readers[0][0].op == "Reshape" else None
    made = GroupNorm(node, channels, own[0].size, epsilon, scale, bias, before, back)
    if back is None:  # in a part of a graph
        return made
    current, affine = back, list[tuple[Node, int]]()
    for op in ("Mul", "Add"):
        readers = graph.consumers.get(current.key, ())
        if len(readers) != 1 or readers[0][0].op != op:
            continue
        behind, slot = readers[0]
        value = graph.constant(behind, 1 - slot)
        if value is None or value.size != channels:
            continue
        flat = value.reshape(-1).astype(np.float64)
        scale, bias = (scale * flat, bias * flat) if op == "Mul" else (scale, bias + flat)
        affine.append((behind, 1 - slot))
        current = behind
    return replace(made, scale=scale, bias=bias, affine=tuple(affine))


def regrouped(graph: Graph, norm: GroupNorm, groups: int) -> list[list[Edit]]:
    """The ways to give a normalisation other groups; γ and β per channel stay."""
    node = norm.node
    if norm.channels % groups:
        return []
    if norm.reshape is not None:
        return [_other_groups(graph, norm, groups)]
    if node.op == "GroupNormalization":
        if version(graph, node) >= _PER_CHANNEL:
            return [[SetAttribute(node.key, "num_groups", groups)]]
        size = norm.channels // groups
        own = [norm.scale.reshape(groups, size), norm.bias.reshape(groups, size)]
        if all(np.ptp(v, axis=1).max() == 0 for v in own):
            return [[SetAttribute(node.key, "num_groups", groups),
                     *(SetInput(node.key, i + 1, v[:, 0].astype(np.float32)) for i, v in enumerate(own))]]
        return []
    return _grouped(graph, norm, groups)


def _other_groups(graph: Graph, norm: GroupNorm, groups: int) -> list[Edit]:
    """Other numbers in the Reshape, and as many ones and zeros in the normalisation."""
    assert norm.reshape is not None
    wanted = graph.constant(norm.reshape, 1)
    if wanted is None or wanted.size < 3:
        return []
    new = wanted.copy()
    new[1] = groups
    fixed = [i for i in range(2, wanted.size) if wanted[i] > 0]
    if fixed and not np.any(wanted[2:] == -1):
        new[2:] = -1 if wanted.size == 3 else wanted[2:]
        new[2] = -1
    own = [graph.constant(norm.node, s) for s in (1, 2)]
    edits: list[Edit] = [SetInput(norm.reshape.key, 1, new)]
    for slot, value in enumerate(own, start=1):
        if value is not None:
            edits.append(SetInput(norm.node.key, slot, np.full(groups, value.reshape(-1)[0], value.dtype)))
    return edits


def _grouped(graph: Graph, norm: GroupNorm, groups: int) -> list[list[Edit]]:
    """An InstanceNormalization becomes a group one: as an operator where there is one, else by Reshapes."""
    node = norm.node
    ways: list[list[Edit]] = []
    if version(graph, node) >= _PER_CHANNEL:
        ways.append([SetOperator(node.key, "GroupNormalization", {"num_groups": groups, "epsilon": norm.epsilon})])
    edit = _spelled(graph, norm, groups, norm.scale, norm.bias)
    return [*ways, [edit]] if edit is not None else ways


def _spelled(
    graph: Graph, norm: GroupNorm, groups: int, scale: Array, bias: Array, inside: bool = False
) -> Edit | None:
    """The edit that spells a normalisation out: Reshape, InstanceNormalization, Reshape, Mul, Add.

    inside: in place of the node between Reshapes, which stay.
    """
    entry = norm.node.input(0) if norm.reshape is None else norm.reshape.input(0)
    dims = shape(graph, entry)
    if dims is None:
        return None
    whole = None if norm.back is None else graph.constant(norm.back, 1)
    per_channel = (norm.channels, *(1,) * (len(dims) - 2))
    constants: dict[str, Array] = {
        "groups": np.array([0, groups, -1], np.int64), "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32), "whole": np.array([0, *dims[1:]], np.int64) if whole is None else whole,
        "scale": scale.reshape(per_channel).astype(np.float32), "bias": bias.reshape(per_channel).astype(np.float32)}
    epsilon = {"epsilon": norm.epsilon}
    nodes = [Node("Reshape", (entry, "groups"), ("split",)),
             Node("InstanceNormalization", ("split", "ones", "zeros"), ("normed",), epsilon),
             Node("Reshape", ("normed", "whole"), ("joined",)), Node("Mul", ("joined", "scale"), ("scaled",)),
             Node("Add", ("scaled", "bias"), ("shifted",))]
    if inside:
        nodes.append(Node("Reshape", ("shifted", "groups"), ("regrouped",)))
    key = norm.node.key if inside or norm.back is None else norm.back.key
    single = np.dtype(np.float32)
    output = Value(nodes[-1].key, single, graph.shapes.get(key))
    return ReplaceSegment(key, Graph(tuple(nodes), constants, (Value(entry, single),), (output,), graph.opset))


def affine_of(graph: Graph, norm: GroupNorm, scale: Array, bias: Array) -> list[list[Edit]]:
    """The ways to give a normalisation γ and β per channel (float64 (C,))."""
    node = norm.node
    direct = node.op == "InstanceNormalization" or version(graph, node) >= _PER_CHANNEL
    if norm.reshape is None and direct:
        return [[SetInput(node.key, slot, v.astype(np.float32)) for slot, v in ((1, scale), (2, bias))
                 if not np.array_equal(np.asarray(graph.constant(node, slot)), v.astype(np.float32))]]
    groups = norm.groups
    if node.op == "GroupNormalization" and norm.reshape is None:
        by_group = [v.reshape(groups, -1) for v in (scale, bias)]
        if all(np.ptp(v, axis=1).max() == 0 for v in by_group):
            return [[SetInput(node.key, i + 1, v[:, 0].astype(np.float32)) for i, v in enumerate(by_group)]]
    if norm.affine:
        return _in_place(graph, norm, {"Mul": scale, "Add": bias})
    places = (False,) if norm.reshape is None else (False, True) if norm.back is not None else (True,)
    edits = [_spelled(graph, norm, groups, scale, bias, inside) for inside in places]
    return [[e] for e in edits if e is not None]


def _in_place(graph: Graph, norm: GroupNorm, values: Mapping[str, Array]) -> list[list[Edit]]:
    """γ and β into the Mul and the Add that are there; [] where one is lacking."""
    neutral = all(np.ptp(np.asarray(graph.constant(norm.node, s))) == 0 for s in (1, 2))
    edits: list[Edit] = [] if neutral else [SetInput(norm.node.key, 1, np.ones(norm.groups, np.float32)),
                                            SetInput(norm.node.key, 2, np.zeros(norm.groups, np.float32))]
    for behind, slot in norm.affine:
        old = np.asarray(graph.constant(behind, slot))
        new = values[behind.op].reshape(old.shape).astype(old.dtype)
        edits = edits if np.array_equal(old, new) else [*edits, SetInput(behind.key, slot, new)]
    return [edits] if {n.op for n, _ in norm.affine} == {"Mul", "Add"} else []


def paired(target: Sequence[GroupNorm], source: Sequence[GroupNorm]) -> list[tuple[GroupNorm, GroupNorm]]:
    """Normalisations of two graphs that stand for each other: as many on both sides, of as many channels, in order."""
    if [n.channels for n in target] != [n.channels for n in source]:
        return []
    return list(zip(target, source, strict=True))
