"""One std for all channels, or a shift on the wrong side of the scaling.

*What goes wrong*
The framework's converter takes one scale for all channels where the model was trained with a std a channel, and so the
mean of the three is taken; or it computes scale·(x + b) where the recipe means scale·x + b, so that the shift is scaled
too (or is not, and should be).

*How it shows*
Inputs differ by a factor and a constant per channel, the factors within a few percent of 1; or the scale is right and
all shifts are off by the same factor, that of the scale. The target's first linear layer answers like the source's as
soon as that is undone.

*Repair*
The right mean and std in the configuration; or the constants of the baked nodes a channel.

*When not to apply*
Mean and scale are both others: pp-mean-std, pp-range. A source that has one std for all channels itself.

*Seen in*
coremltools#64 (one scale for all channels), #1087 (scale and bias in the wrong order)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputkind import kind, treatment
from fetafix.graph.inputnodes import Step, baked
from fetafix.graph.inputplaces import places
from fetafix.ir import Array, Graph

CODE = "pp-scalar-std"


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps from one std to several, and those that scale the shift alone."""
    for found in maps(site) if not site.healed(site.error) else ():
        how = kind(site, found)
        if how not in ("scalar std", "order"):
            continue
        (gain, bias), (right, shift) = treatment(site, found)
        what = "one std for all channels" if how == "scalar std" else "the shift on the wrong side of the scaling"
        more = {"how": what, "scale": gain.tolist(), "shift": bias.tolist(), "source_scale": right.tolist(),
                "source_shift": shift.tolist()}
        sure = 0.98 if not found.reordered and not found.swapped else 0.94
        yield Suspicion(CODE, reader(site, found), None, sure, {**evidence(found), **more},
                        f"the target has {what}: {describe(found)}", found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The normalisation at an image input gets one scale for all channels, or its shift scaled once more or less."""
    ways: list[list[Edit]] = []
    for place in places(graph):
        steps = baked(graph, place.name, place.axis, place.channels, place.rank)
        scales = [s for s in steps if s.node is not None and s.node.op in ("Mul", "Div")]
        shifts = [s for s in steps if s.shifts]
        ways += [[e] for s in scales if np.ptp(s.gain) > 0 and (e := _set(graph, s, np.mean))]
        if scales and shifts:
            gain, shift = scales[-1].gain, shifts[-1]
            factor = gain if steps.index(shift) > steps.index(scales[-1]) else 1 / gain
            edit = _set(graph, shift, lambda c, factor=factor: c * _like(factor, c))
            ways += [[edit]] if edit else []
    return ways[int(rng.integers(len(ways)))] if ways else None


def _like(factor: Array, constant: Array) -> Array:
    """A factor a channel in the shape of a constant: all of them, or their mean."""
    whole: Array = factor.reshape(constant.shape) if constant.size == factor.size else np.asarray(np.mean(factor))
    return whole


def _set(graph: Graph, step: Step, change: Any) -> Edit | None:
    """The constant of a step changed; its shape stays."""
    node = step.node
    held = graph.constant(node, 1 - step.slot) if node is not None else None
    if node is None or held is None:
        return None
    value = np.broadcast_to(change(held.astype(np.float64)), held.shape).astype(held.dtype)
    return None if np.allclose(value, held, rtol=1e-3) else ed.SetInput(node.key, 1 - step.slot, value.copy())


FAULT = FaultType(CODE, "One std for all channels", "PP", detect, propose, inject, scope="both")
