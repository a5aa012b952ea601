"""What each parameter of the target's linear chains should be, according to the source.

Where both sides have the same form, a parameter's reference is its twin. Where the forms differ (Conv + BatchNorm
against a folded Conv, MatMul + Add against Gemm), the source's chain is folded and written into the target's form: the
weight with the target's own scale divided out, the rest into whatever additive parameter the target has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from fetafix.edits import Edit, ReplaceSegment, SetInput, SetOperator, fresh
from fetafix.graph.attributes import canonical
from fetafix.graph.fold import BN_BIAS, BN_SCALE, Chain, Folded, chains
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.graph.weights import NOISE, close
from fetafix.ir import Array, Graph, Node, Value
from fetafix.quantisation import Grid

WEIGHT, BIAS, SCALE = "weight", "bias", "scale"
_SETTINGS = {"Clip", "Resize", "Upsample", "Pad", "Pow", "Min", "Max", "Where", "Range", "OneHot",
             "QuantizeLinear", "DequantizeLinear"}
_ROLES = {
    "BatchNormalization": {1: SCALE, 2: BIAS, 3: "mean", 4: "variance"},
    "Conv": {2: BIAS}, "ConvTranspose": {2: BIAS}, "Gemm": {2: BIAS}, "MatMul": {2: BIAS},
    "Add": {0: BIAS, 1: BIAS}, "Sub": {0: BIAS, 1: BIAS}, "Mul": {0: SCALE, 1: SCALE}, "Div": {0: SCALE, 1: SCALE},
    "LayerNormalization": {1: SCALE, 2: BIAS}, "InstanceNormalization": {1: SCALE, 2: BIAS},
    "GroupNormalization": {1: SCALE, 2: BIAS},
}


@dataclass(frozen=True, eq=False, slots=True)
class Parameter:
    """A constant of the target and what it should be.

    value: the target's tensor, None where it is missing. reference: the source's, in the target's shape and form;
    float64 where it went through a fold, else as the source has it. twin: the source's node. direct: the source holds
    it as such. step: distance of neighbouring values where one side stores codes, to broadcast over the value.
    """

    node: Node
    slot: int
    value: Array | None
    reference: Array
    twin: Node
    direct: bool
    step: Array | None = None

    @property
    def noise(self) -> float:
        """Up to what deviation, relative to the reference's largest magnitude, values may be equal."""
        largest = 0.0 if self.step is None else float(np.max(np.abs(self.reference), initial=0.0))
        return NOISE if self.step is None or largest == 0 else max(NOISE, float(np.max(self.step)) / largest)

    @property
    def role(self) -> str:
        """"weight", "bias", "scale", "mean" or "variance"."""
        return _ROLES.get(self.node.op, {}).get(self.slot, WEIGHT)

    @property
    def differs(self) -> bool:
        """Whether the target's value is off by more than float noise (of its own precision), or by a step of codes."""
        if self.value is None or self.step is None or self.value.shape != self.reference.shape:
            return self.value is None or not close(self.value, self.as_stored, NOISE)
        noise = NOISE * float(np.max(np.abs(self.reference), initial=0.0))
        return not bool(np.all(np.abs(self.value - self.reference) <= self.step + noise))

    @property
    def as_stored(self) -> Array:
        """The reference in the dtype of the target's tensor (float32 where that is missing)."""
        with np.errstate(over="ignore"):
            return self.reference.astype(np.float32 if self.value is None else self.value.dtype)

    def edit(self, graph: Graph, value: Array | None = None) -> Edit:
        """The edit that sets the parameter, to its reference unless another value is given."""
        wanted = self.as_stored if value is None else value
        if self.node.op == "MatMul" and self.slot == 2:
            return _bias_for(self.node, wanted, graph)
        return SetInput(self.node.key, self.slot, wanted)


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A linear chain of the target and its counterpart in the source."""

    target: Chain
    source: Chain

    @property
    def folded(self) -> tuple[Folded, Folded] | None:
        """Both as one linear map (target's, source's in the target's shape); None where not comparable."""
        ours, theirs = self.target.folded, self.source.folded
        theirs = None if ours is None or theirs is None else theirs.like(ours)
        return None if ours is None or theirs is None else (ours, theirs)

    @property
    def parameters(self) -> list[Parameter]:
        """The target's parameters with their references; [] where the chains cannot be compared."""
        if _same_form(self.target, self.source):
            found = _direct(self.target, self.source)
        else:
            both = self.folded
            found = [] if both is None else unfold(self.target, both[1], self.source.nodes[0])
        return [_stepped(p, self.target.graph, self.source.graph) for p in found]


_known: WeakKeyDictionary[Segment, list[Pair]] = WeakKeyDictionary()
_differing: WeakKeyDictionary[Segment, list[Parameter]] = WeakKeyDictionary()


def pairs(segment: Segment) -> list[Pair]:
    """Linear chains of a segment's two sides that stand for each other, in the target's order."""
    if segment not in _known:
        ours = {c.nodes[0].key: c for c in chains(segment.target)}
        theirs = {n.key: c for c in chains(segment.source) for n in c.nodes}
        found = [Pair(ours[t.key], theirs[s.key]) for t, s in twins(segment) if t.key in ours and s.key in theirs]
        left = [c for c in ours.values() if all(p.target is not c for p in found)]
        if not found and len(left) == 1 and len({id(c) for c in theirs.values()}) == 1:
            found = [Pair(left[0], next(iter(theirs.values())))]
        _known[segment] = found
    return _known[segment]


def parameters(segment: Segment) -> list[Parameter]:
    """All parameters of a segment that have a reference: of linear chains, and of other twins of equal operators."""
    found = [p for pair in pairs(segment) for p in pair.parameters]
    seen = {p.node.key for p in found} | {n.key for pair in pairs(segment) for n in pair.target.nodes}
    for t, s in twins(segment):
        if t.key in seen or t.op != s.op or t.op in _SETTINGS:
            continue
        for slot in range(len(t.inputs)):
            a, b = segment.target.constant(t, slot), segment.source.constant(s, slot)
            if a is not None and b is not None and a.shape == b.shape and a.dtype.kind == "f":
                found.append(_stepped(Parameter(t, slot, a, b, s, direct=True), segment.target, segment.source))
    return found


def _stepped(parameter: Parameter, target: Graph, source: Graph) -> Parameter:
    """A parameter with the step of its codes and of the source's; equal grids on both sides explain nothing."""
    ours = target.grid(parameter.node.input(parameter.slot))
    theirs = source.grid(parameter.twin.input(parameter.slot)) or source.grid(parameter.twin.input(1))
    if ours is None and theirs is None:
        return parameter
    if ours is not None and theirs is not None and ours.same_steps(theirs):
        return parameter
    rank = parameter.reference.ndim
    step = ours.step(rank) if ours is not None and ours.fits(parameter.reference.shape) else np.zeros(())
    return replace(parameter, step=step if theirs is None else step + _share(theirs, source, parameter))


def _share(grid: Grid, source: Graph, parameter: Parameter) -> Array:
    """The source's largest step, in proportion where its weight went through a fold."""
    weight = source.constant(parameter.twin, 1)
    if parameter.direct or weight is None:
        return np.asarray(np.max(grid.step(1)))
    largest = float(np.max(np.abs(weight), initial=0.0)) or 1.0
    return np.asarray(np.max(grid.step(1)) / largest * np.max(np.abs(parameter.reference), initial=0.0))


def differing(segment: Segment, *roles: str) -> list[Parameter]:
    """Parameters that are not what they should be; of the given roles only, where any are given."""
    if segment not in _differing:
        _differing[segment] = [p for p in parameters(segment) if p.differs]
    return [p for p in _differing[segment] if not roles or p.role in roles]


def _plain(chain: Chain) -> list[Node]:
    return [n for n in chain.nodes if n.op not in ("Transpose", "Identity")]


def _same_form(target: Chain, source: Chain) -> bool:
    ours, theirs = _plain(target), _plain(source)
    if [n.op for n in ours] != [n.op for n in theirs]:
        return False
    for t, s in zip(ours, theirs, strict=True):
        for slot in range(max(len(t.inputs), len(s.inputs))):
            a, b = target.graph.constant(t, slot), source.graph.constant(s, slot)
            if a is not None and b is not None:
                if a.squeeze().shape != _oriented(b, t, s, slot).squeeze().shape:
                    return False
            elif (a is None) != (b is None) and not (t.op in ("Conv", "ConvTranspose", "Gemm") and slot == 2):
                return False
    return True


def _oriented(tensor: Array, t: Node, s: Node, slot: int) -> Array:
    """A Gemm's matrix as the target's transB wants it."""
    if t.op == "Gemm" and slot == 1 and bool(t.attrs.get("transB")) != bool(s.attrs.get("transB")):
        return tensor.T
    return tensor


def _direct(target: Chain, source: Chain) -> list[Parameter]:
    found = []
    for t, s in zip(_plain(target), _plain(source), strict=True):
        for slot in range(max(len(t.inputs), len(s.inputs))):
            value, reference = target.graph.constant(t, slot), source.graph.constant(s, slot)
            if value is None and reference is None:
                continue
            if reference is None:
                reference = np.zeros_like(value)
            oriented = _oriented(reference, t, s, slot)
            shaped = oriented if value is None else oriented.reshape(value.shape)
            found.append(Parameter(t, slot, value, shaped, s, direct=True))
    return found


def unfold(chain: Chain, folded: Folded, twin: Node) -> list[Parameter]:
    """Write an effective weight and bias into a chain's own form; [] where the form cannot hold them."""
    if chain.head is None:
        return _unfold_affine(chain, folded, twin)
    head, tail, current = chain.head, chain.tail, chain.folded
    if tail is None or current is None or not np.isfinite(tail[0]).all() or np.min(np.abs(tail[0])) < 1e-12:
        return []
    graph, values = chain.graph, canonical(chain.head, chain.graph)
    weight = folded.weight / folded.spread(tail[0])
    if head.op == "Gemm":
        weight = (weight.T if values.get("transB") else weight) / float(values.get("alpha", 1.0))
    found = [Parameter(head, 1, graph.constant(head, 1), weight, twin, direct=False)]
    return found + _unfold_bias(chain, current, folded, tail, twin)


def _unfold_bias(
    chain: Chain, current: Folded, folded: Folded, tail: tuple[Array, Array], twin: Node
) -> list[Parameter]:
    head, graph = chain.nodes[0], chain.graph
    additive = [n for n in chain.nodes[1:] if n.op in ("Add", "Sub", "BatchNormalization")]
    if head.input(2) or not additive:
        old = graph.constant(head, 2)
        bias = (folded.bias - tail[1]) / tail[0] / float(canonical(head, graph).get("beta", 1.0))
        if old is None and np.max(np.abs(bias), initial=0.0) <= NOISE * np.max(np.abs(folded.weight), initial=0.0):
            return []
        shaped = bias if old is None or old.size != bias.size else bias.reshape(old.shape)
        return [Parameter(head, 2, old, shaped, twin, direct=False)]
    node = additive[-1]
    through = Chain(chain.nodes[:chain.nodes.index(node) + 1], graph).tail
    after = tail[0] if through is None else tail[0] / through[0]
    batchnorm = node.op == "BatchNormalization"
    slot = BN_BIAS if batchnorm else next(i for i in (0, 1) if graph.constant(node, i) is not None)
    sign = -1.0 if node.op == "Sub" and slot == 1 else 1.0
    old = graph.constant(node, slot)
    if old is None or old.size not in (1, current.bias.size):
        return []
    wanted = np.broadcast_to(old.reshape(-1), current.bias.shape) + sign * (folded.bias - current.bias) / after
    if old.size != wanted.size and np.ptp(wanted) > NOISE * np.max(np.abs(wanted)):
        return []
    return [Parameter(node, slot, old, wanted[:old.size].reshape(old.shape), twin, direct=False)]


def _unfold_affine(chain: Chain, folded: Folded, twin: Node) -> list[Parameter]:
    """For a lone BatchNormalization: γ and β that give the scale and shift with its own mean and variance."""
    node, graph = chain.nodes[0], chain.graph
    if len(chain.nodes) != 1 or node.op != "BatchNormalization" or folded.kind != "affine":
        return []
    tensors = [graph.constant(node, s) for s in range(1, 5)]
    _, _, mean, var = (np.asarray(t, np.float64) for t in tensors)
    gamma = folded.weight * np.sqrt(var + float(canonical(node, graph)["epsilon"]))
    beta = folded.bias + mean * folded.weight
    return [Parameter(node, slot, tensors[slot - 1], value, twin, direct=False)
            for slot, value in ((BN_SCALE, gamma), (BN_BIAS, beta))]


def _bias_for(node: Node, bias: Array, graph: Graph) -> Edit:
    """A bias for a MatMul: it becomes a Gemm where it is two-dimensional, else an Add follows it."""
    name = fresh(graph, f"{node.key}_bias")
    if len(graph.shapes.get(node.key, ())) == 2:
        return SetOperator(node.key, "Gemm", {}, (*node.inputs, name), constants={name: bias})
    inner = replace(node, outputs=("product",), name="")
    add = Node("Add", ("product", "bias"), (node.key,), name=f"{node.label}_bias")
    single = np.dtype(np.float32)
    weights = {t: graph.initializers[t] for t in node.inputs if t in graph.initializers}
    free = tuple(Value(t, single) for t in node.inputs if t and t not in weights)
    fragment = Graph((inner, add), {**weights, "bias": bias}, free, (Value(node.key, single),), graph.opset)
    return ReplaceSegment(node.key, fragment)


def setting(segment: Segment, chosen: Sequence[Parameter]) -> list[Edit]:
    """Edits that set parameters to their references."""
    return [p.edit(segment.full) for p in chosen]
