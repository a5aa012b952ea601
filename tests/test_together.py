"""Claims about one segment united: each at its own place, the surer first, values alone of what is not proved."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from fetafix import heal
from fetafix.edits import Edit, RemoveNode, SetAttribute, SetInput, apply
from fetafix.faults.base import FaultType, Suspicion
from fetafix.together import unions
from tests.faults.sites import segment
from tests.faults.support import conv

SITE: Any = SimpleNamespace()  # claims know their repairs; the site is only handed on
WEIGHT, BIAS = (SetInput("conv", slot, np.ones(1, np.float32)) for slot in (1, 2))
PADS, DILATION = SetAttribute("conv", "pads", (2, 2)), SetAttribute("conv", "dilations", (2, 2))


def claim(code: str, confidence: float, *repairs: Sequence[Edit]) -> tuple[FaultType, Suspicion]:
    fault = FaultType(code, code, "WB", lambda site: (), lambda site, suspicion: repairs, lambda graph, rng: None)
    return fault, Suspicion(code, "conv", None, confidence)


def united(*claims: tuple[FaultType, Suspicion]) -> list[list[tuple[str, int]]]:
    """Of each union the codes and how many edits each brings."""
    return [[(s.code, len(edits)) for s, edits in steps] for steps in unions(SITE, claims)]


def test_proved_claims_at_different_places_are_united() -> None:
    assert united(claim("wb-kernel-flip", 0.97, [WEIGHT]), claim("wb-bias", 0.95, [BIAS])) == [
        [("wb-kernel-flip", 1), ("wb-bias", 1)]]


def test_of_claims_about_one_place_the_surer_counts() -> None:
    assert united(claim("wb-kernel-flip", 0.97, [WEIGHT]), claim("wb-precision", 0.96, [WEIGHT])) == []


def test_what_is_not_proved_joins_in_with_values_only() -> None:
    first, second = claim("wb-kernel-flip", 0.97, [WEIGHT]), claim("lh-pads-lost", 0.4, [PADS])
    assert united(first, second) == [[("wb-kernel-flip", 1), ("lh-pads-lost", 1)]]
    assert united(first, claim("cg-act-missing", 0.4, [RemoveNode("relu")])) == []


def test_without_a_proved_claim_nothing_is_united() -> None:
    assert united(claim("wb-weights", 0.4, [WEIGHT]), claim("wb-bias", 0.6, [BIAS])) == []


def test_a_larger_repair_stands_for_two() -> None:
    """A dilation comes with its pads: those are no fault of their own."""
    found = united(claim("wb-kernel-flip", 0.97, [WEIGHT]), claim("lh-dilation", 0.8, [DILATION], [DILATION, PADS]),
                   claim("lh-pads-lost", 0.4, [PADS]))
    assert found == [[("wb-kernel-flip", 1), ("lh-dilation", 2)]]


def test_a_node_that_goes_is_not_mended() -> None:
    assert united(claim("cg-act-missing", 0.95, [RemoveNode("conv")]), claim("wb-bias", 0.93, [BIAS])) == []


def test_where_one_of_two_claims_is_enough_nothing_is_united() -> None:
    """The first claim changes nothing, the second heals alone; dropping either leaves no union of two."""
    source = conv()
    node = next(n for n in source.nodes if n.op == "Conv")
    weight, bias = (source.initializers[t] for t in node.inputs[1:3])
    site = segment(source, apply(source, [SetInput(node.key, 1, weight * 2)]))
    idle = claim("wb-bias", 0.97, [SetInput(node.key, 2, bias + np.float32(0))])
    needed = claim("wb-kernel-flip", 0.95, [SetInput(node.key, 1, weight)])
    assert site.error > 0.1 and len(list(unions(site, [idle, needed]))) == 1
    assert heal._united(site, [idle, needed]) == []
