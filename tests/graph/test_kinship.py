"""Unrelated networks are told as such, in bounded work; damage of every layer is not taken for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fetafix.faults import catalogue
from fetafix.graph.align import Aligner, Alignment, InputTwin
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.kinship import unrelated
from fetafix.ir import Array, Graph
from fetafix.treat import treat
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, Builder

X = np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)


def chain(seed: int, depth: int, width: int = 6, kernel: int = 3, classes: int = 4) -> Graph:
    """Convolutions one behind the other, pooled and classified."""
    b = Builder(seed)
    x, ins = b.input((2, 3, 8, 8), "image"), 3
    for _ in range(depth):
        x = b.op("Relu", b.op("Conv", x, b.weight(width, ins, kernel, kernel) * 1.5, b.normal(width, scale=0.1),
                              pads=(kernel // 2,) * 4))
        ins = width
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return b.build(b.op("Gemm", x, b.weight(classes, width), b.normal(classes), transB=1))


class Counting(Evaluator):
    """Counts what it is asked to run."""

    runs = 0

    def run(self, graph: Graph, feeds: Mapping[str, Array], fetch: Sequence[str]) -> list[Array]:
        self.runs += 1
        return super().run(graph, feeds, fetch)


def align(source: Graph, target: Graph, evaluator: Evaluator = EVALUATOR) -> Alignment:
    outputs = dict(zip(target.output_names, source.output_names, strict=True))
    aligner = Aligner(source, {"image": X}, evaluator)
    return aligner.align(target, (InputTwin(target.input_names[0], "image"),), outputs)


def told(source: Graph, target: Graph) -> bool:
    found = align(source, target)
    return unrelated(found.segments(), found.unmatched, found.source, target)


def changed(graph: Graph, change: Callable[[Array], Array]) -> Graph:
    tensors = {k: change(v).astype(np.float32) if v.ndim > 1 else v for k, v in graph.initializers.items()}
    return replace(graph, initializers=tensors)


STRANGERS = {
    "another training run": (chain(1, 8), chain(2, 8)),
    "another width": (chain(1, 8), chain(2, 8, width=7)),
    "another depth": (chain(1, 5), chain(2, 11)),
    "other kernels": (chain(1, 8), chain(2, 6, kernel=1)),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_unrelated_networks_are_told_before_a_layer_is_diagnosed(name: str) -> None:
    source, target = STRANGERS[name][0], renamed(STRANGERS[name][1])
    treatment = treat(lambda g: align(source, g), target, list(catalogue().values()))
    assert treatment.unrelated and treatment.steps == () and treatment.target is target


def test_networks_whose_outputs_cannot_be_compared_are_told_too() -> None:
    assert told(chain(1, 8), renamed(chain(2, 9, width=7, classes=5)))


RNG = np.random.default_rng(3)
DAMAGE: dict[str, Callable[[Array], Array]] = {
    "nothing": lambda w: w,
    "noise": lambda w: w + 0.3 * w.std() * RNG.standard_normal(w.shape),
    "flipped": lambda w: np.ascontiguousarray(w[..., ::-1]),
    "transposed": lambda w: np.ascontiguousarray(w.swapaxes(-1, -2)) if w.shape[-1] == w.shape[-2] else w,
    "channels in another order": lambda w: np.ascontiguousarray(w[::-1]),
    "channels scaled": lambda w: w * RNG.uniform(0.1, 9.0, (len(w), *[1] * (w.ndim - 1))),
    "channels scaled, noise": lambda w: (w + 0.2 * w.std() * RNG.standard_normal(w.shape)) * np.exp2(
        RNG.uniform(-3, 3, (len(w), *[1] * (w.ndim - 1)))),
    "few bits": lambda w: np.round(w / np.abs(w).max() * 7) / 7 * np.abs(w).max(),
    "sign": lambda w: -w,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_of_every_layer_is_no_other_network(name: str) -> None:
    source = chain(1, 8)
    assert not told(source, renamed(changed(source, DAMAGE[name])))


def test_a_few_foreign_layers_are_faults() -> None:
    source, other = chain(1, 8), chain(2, 8)
    foreign = set(sorted(k for k, v in source.initializers.items() if v.ndim > 1)[:3])
    mixed = {k: other.initializers[k] if k in foreign else v for k, v in source.initializers.items()}
    assert not told(source, renamed(replace(source, initializers=mixed)))


def test_the_work_on_unrelated_networks_grows_with_their_size_only() -> None:
    evaluator = Counting()
    source, target = chain(1, 24), renamed(chain(2, 24))
    alignment = align(source, target, evaluator)
    assert alignment.segments()
    assert evaluator.runs <= 40 * len(target.nodes)


def test_regions_deeper_than_python_recurses_stay_open() -> None:
    source, target = chain(1, 2), renamed(chain(2, 360, width=5, kernel=1))
    assert told(source, target)
