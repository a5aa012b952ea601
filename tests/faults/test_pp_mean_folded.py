"""A normalisation folded into the first convolution: wrong at a padded border, a NO-OP without padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import RemoveNode, SetInput, apply
from fetafix.faults import get
from fetafix.graph.inputfold import folded
from fetafix.ir import Graph
from tests.faults.models import renamed
from tests.faults.sites import broken, cnn, feeds_of, run
from tests.faults.support import NHWC, with_shapes
from tests.faults.whole import heals, treated


def model(nhwc: bool = False, pads: int = 1) -> Graph:
    graph = cnn(0, nhwc=nhwc, normalised=True)
    first = next(n for n in graph.nodes if n.op == "Conv")
    nodes = tuple(replace(n, attrs={**n.attrs, "pads": (pads,) * 4}) if n is first else n for n in graph.nodes)
    graph = replace(graph, nodes=nodes, shapes={})
    return with_shapes(graph, feeds_of(graph))


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_it_is_unfolded(nhwc: bool) -> None:
    source, target = model(), model(nhwc)
    made = broken(get("pp-mean-folded"), renamed(target), 0)
    assert made is not None and len(made[0].nodes) == len(target.nodes) - 2
    perms = {"v_image": NHWC} if nhwc else None
    treatment = heals(source, made[0], feeds_of(source), "pp-mean-folded", feeds_of(source, 5), perms)
    assert len(treatment.steps) == 1


def test_only_the_border_is_off() -> None:
    source = model()
    made = broken(get("pp-mean-folded"), source, 0)
    assert made is not None
    conv = next(n.key for n in source.nodes if n.op == "Conv")
    feeds = feeds_of(source)
    whole = [run(replace(g, outputs=(replace(g.outputs[0], name=conv),)), feeds)[conv] for g in (source, made[0])]
    off = np.abs(whole[0] - whole[1])
    assert off[:, :, 1:-1, 1:-1].max() < 1e-4 < 0.05 < off.max()


def test_a_mean_alone_leaves_the_weights_as_they_are() -> None:
    source = model()
    div = next(n for n in source.nodes if n.op == "Div")
    source = with_shapes(apply(source, [RemoveNode(div.key)]), feeds_of(source))
    made = broken(get("pp-mean-folded"), source, 0)
    assert made is not None and [type(e) for e in made[1]] == [SetInput, RemoveNode]
    heals(source, renamed(made[0]), feeds_of(source), "pp-mean-folded")


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_without_padding_the_fold_is_exact_and_no_fault(nhwc: bool) -> None:
    source, target = model(pads=0), model(nhwc, pads=0)
    assert broken(get("pp-mean-folded"), target, 0) is None
    (fold,) = folded(target)
    gone = [RemoveNode(s.node.key, s.slot) for s in reversed(fold.steps) if s.node is not None]
    target = renamed(apply(target, [*fold.done(target), *gone]))
    treatment = treated(source, target, feeds_of(source), {"v_image": NHWC} if nhwc else None)
    assert treatment.steps == () and treatment.target is target
