"""Many faults at once: mixed categories, next to each other and far apart, one hiding another; all are healed.

Faults are drawn from a fixed list, one after the other, each at a place that the ones before left as it was, and count
only if they change the outputs. What is healed is judged on samples that localization has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

from fetafix.bench import zoo
from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute, SetInput, apply, prune
from fetafix.errors import FetafixError
from fetafix.faults import catalogue, get
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.canonical import canonical
from fetafix.graph.proto import load_graph
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph, Node
from fetafix.treat import Treatment, treat
from tests.faults import structures as nets
from tests.faults import through
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, Builder, with_shapes
from tests.faults.through import Case

FAULTS = list(catalogue().values())
MIX = (
    "wb-kernel-layout", "wb-kernel-flip", "wb-bias", "wb-precision", "wb-bn-param-swap", "wb-weights", "st-storage",
    "wb-initializer-alias", "wb-stride-lost", "lh-dilation", "lh-pads-lost", "lh-bn-eps", "lh-count-include-pad",
    "lh-resize-coord", "tss-transpose", "tss-concat-order", "tss-flatten-order", "cg-act-missing", "cg-residual",
    "cg-op-substitution", "cg-pad-duplicated", "op-softmax",
)
HEALED = 1e-4


@dataclass(frozen=True, eq=False)
class Pair:
    """A network of the zoo, aligned with another form of it."""

    source: Graph
    target: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    feeds: Mapping[str, Array]
    held: Mapping[str, Array]

    @classmethod
    def of(cls, made: zoo.Made, form: zoo.Form) -> Pair:
        loaded = np.load(made.samples)
        samples = {made.inputs[0]: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        source, target = (canonical(load_graph(made.forms[f]), EVALUATOR) for f in ("plain", form))
        target = renamed(target)
        inputs = {f"v_{n}": n for n in source.input_names}
        feeds, held = ({n: x[s] for n, x in samples.items()} for s in (slice(0, 4), slice(4, 10)))
        measured = with_shapes(target, {t: feeds[s] for t, s in inputs.items()})
        return cls(source, measured, inputs, {f"v_{n}": n for n in source.output_names}, feeds, held)

    @cached_property
    def aligner(self) -> Aligner:
        return Aligner(self.source, self.feeds, EVALUATOR)

    def run(self, graph: Graph, samples: Mapping[str, Array]) -> list[Array]:
        return EVALUATOR.run(graph, {t: samples[s] for t, s in self.inputs.items()}, list(self.outputs))

    def error(self, graph: Graph) -> float:
        expected = EVALUATOR.run(self.source, self.held, list(self.outputs.values()))
        return max(relative_error(a, b) for a, b in zip(self.run(graph, self.held), expected, strict=True))

    def treated(self, graph: Graph) -> Treatment:
        twins = tuple(InputTwin(t, s) for t, s in self.inputs.items())
        return treat(lambda g: self.aligner.align(g, twins, self.outputs), replace(graph, shapes={}), FAULTS)

    def broken(self, count: int, seed: int) -> tuple[Graph, list[str]]:
        """The target with that many faults, and their codes."""
        rng, graph, codes, used = np.random.default_rng([seed, count]), self.target, list[str](), set[str]()
        before = self.run(graph, self.feeds)
        for code in [c for _ in range(3) for c in rng.permutation(MIX)]:
            edits = get(code).inject(graph, rng) if len(codes) < count and code not in codes else None
            if not edits or touched(edits) & used:
                continue
            made = prune(apply(graph, edits))
            after = self._changed(made, before)
            if after is None or any(n in graph.producers and n not in made.producers for n in used):
                continue
            graph = with_shapes(made, {t: self.feeds[s] for t, s in self.inputs.items()})
            before, used = after, used | touched(edits)
            codes.append(code)
        return graph, codes

    def _changed(self, graph: Graph, before: Sequence[Array]) -> list[Array] | None:
        try:
            after = self.run(graph, self.feeds)
        except FetafixError:
            return None
        pairs = list(zip(after, before, strict=True))
        same_shapes = all(a.shape == b.shape for a, b in pairs)
        return after if same_shapes and 1e-4 < max(relative_error(a, b) for a, b in pairs) < 1e6 else None


def touched(edits: Sequence[Edit]) -> set[str]:
    nodes = [getattr(e, "node", "") for e in edits]
    return {k for n in nodes for k in ((n,) if isinstance(n, str) else n.outputs)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Pair]:
    folder = tmp_path_factory.mktemp("zoo")
    forms: tuple[zoo.Form, ...] = ("plain", "folded")
    return {(name, form): Pair.of(zoo.make(name, folder), form) for name in ("digits", "ResNet20", "U-Net")
            for form in forms}


@pytest.mark.parametrize("form", ["plain", "folded"])
@pytest.mark.parametrize("name", ["digits", "ResNet20", "U-Net"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_all_are_healed_and_most_are_named(
    pairs: Mapping[tuple[str, str], Pair], name: str, form: str, count: int
) -> None:
    pair = pairs[name, form]
    graph, codes = pair.broken(count, seed=count)
    assert len(codes) == count
    assert pair.error(graph) > HEALED
    treatment = pair.treated(graph)
    assert (treatment.remaining, treatment.unrelated) == ((), False)
    assert pair.error(treatment.target) <= HEALED
    found = through.codes(treatment)
    missed = [c for c in codes if c not in found]
    assert len(missed) <= (0 if count <= 3 else count // 5), (codes, found)
    assert pair.treated(treatment.target).steps == ()


# ---------------------------------------------------------------- next to each other, and hidden


def convs(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op == "Conv"]


def weight(graph: Graph, node: Node) -> Array:
    return graph.initializers[node.inputs[1]]


def flipped(graph: Graph, node: Node) -> Edit:
    return SetInput(node.key, 1, np.ascontiguousarray(weight(graph, node)[:, :, ::-1, ::-1]))


def named(case: Case, edits: Sequence[Edit]) -> list[tuple[str, str | None]]:
    """What is found and where, after everything was healed."""
    broken = apply(case.target, edits)
    assert through.error(case, broken) > HEALED
    treatment = through.treated(case, replace(broken, shapes={}))
    assert treatment.remaining == ()
    assert through.error(case, treatment.target) <= through.EXACT
    return list(zip(through.codes(treatment), through.places(treatment), strict=True))


def test_four_faults_in_a_row_stand_alone() -> None:
    case = Case.of(nets.stacked(2))
    first, second = convs(case.target)[1:3]
    norm = next(n for n in case.target.nodes if n.op == "BatchNormalization" and n.inputs[0] == first.key)
    act = next(n for n in case.target.nodes if n.op == "Relu" and n.inputs[0] == norm.key)
    found = named(case, [flipped(case.target, first), SetAttribute(norm.key, "epsilon", 0.3), RemoveNode(act.key),
                         SetInput(second.key, 2, None)])
    assert sorted(c for c, _ in found) == ["cg-act-missing", "lh-bn-eps", "wb-bias", "wb-kernel-flip"]


def test_neighbours_stand_alone_where_one_model_is_folded() -> None:
    """Conv + BatchNormalization in the source, one Conv in the target: the layers still correspond one to one."""
    source = nets.stacked(3)
    case = Case.of(source, lambda g: renamed(fold_all(g)))
    through.silent(case)
    layers = convs(case.target)
    rolled = np.roll(case.target.initializers[layers[2].inputs[2]], 1)
    found = named(case, [flipped(case.target, layers[1]), SetInput(layers[2].key, 2, rolled),
                         flipped(case.target, layers[3])])
    assert found == [("wb-kernel-flip", layers[1].key), ("wb-bias", layers[2].key), ("wb-kernel-flip", layers[3].key)]


def fold_all(graph: Graph) -> Graph:
    """Every BatchNormalization folded into the convolution before it."""
    from fetafix.graph.fold import chains

    for chain in chains(graph):
        if [n.op for n in chain.nodes] == ["Conv", "BatchNormalization"] and chain.folded is not None:
            conv, norm = chain.nodes
            graph = apply(graph, [SetInput(conv.key, 1, chain.folded.weight.astype(np.float32)),
                                  SetInput(conv.key, 2, chain.folded.bias.astype(np.float32)), RemoveNode(norm.key)])
    return graph


def test_two_proved_faults_of_one_layer_are_named_both() -> None:
    """Copying weight and bias would heal them too, and say nothing."""
    case = Case.of(nets.stacked(1))
    layer = convs(case.target)[2]
    bias = case.target.initializers[layer.inputs[2]]
    found = named(case, [flipped(case.target, layer), SetInput(layer.key, 2, np.zeros_like(bias))])
    assert sorted(found) == [("wb-bias", layer.key), ("wb-kernel-flip", layer.key)]


def test_other_values_of_a_whole_layer_stay_one_finding() -> None:
    case = Case.of(nets.stacked(1))
    layer, rng = convs(case.target)[2], np.random.default_rng(0)
    noise = [SetInput(layer.key, s, (v + 0.2 * rng.standard_normal(v.shape)).astype(np.float32))
             for s in (1, 2) for v in [case.target.initializers[layer.inputs[s]]]]
    assert named(case, noise) == [("wb-weights", layer.key)]


def test_faults_behind_a_map_of_another_size() -> None:
    """ceil_mode makes every map larger until the global pooling; what is wrong in between shows all the same."""
    b = Builder(4)
    x = b.op("Relu", nets.conv(b, b.input((2, 3, 12, 12)), 3, 6))
    x = b.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=0)
    x = b.op("Relu", b.batchnorm(nets.conv(b, x, 6, 6), 6))
    case = Case.of(nets.end(b, b.op("Relu", nets.conv(b, x, 6, 6)), 6))
    pool = next(n for n in case.target.nodes if n.op == "MaxPool")
    second, third = convs(case.target)[1:]
    found = named(case, [SetAttribute(pool.key, "ceil_mode", 1), flipped(case.target, second),
                         SetInput(third.key, 2, None)])
    assert {k for _, k in found} == {pool.key, second.key, third.key}
    assert {c for c, _ in found} >= {"wb-kernel-flip", "wb-bias"}


def test_a_superfluous_operator_behind_a_wrong_layer() -> None:
    case = Case.of(nets.stacked(2))
    last = case.target.nodes[-1]
    out = last.key
    broken = [SetInput(last.key, 2, None), InsertNode(out, Node("Softmax", (out,), ("v_s",), {"axis": 1}, "softmax"))]
    assert sorted(c for c, _ in named(case, broken)) == ["op-softmax", "wb-bias"]


def test_a_transpose_before_a_pointwise_output_is_no_layout() -> None:
    """The output has the source's shape; turned all the same it is wrong."""
    b = Builder(5)
    x = b.op("Relu", nets.conv(b, b.input((2, 3, 6, 6)), 3, 4))
    case = Case.of(b.build(nets.conv(b, x, 4, 3, kernel=1)))
    name = case.target.node("v_t2").input(0)
    turned = InsertNode(name, Node("Transpose", (name,), ("v_turned",), {"perm": (0, 1, 3, 2)}, "t"))
    assert named(case, [turned]) == [("tss-transpose", "v_turned")]
