"""Which open tensors of a walk close by themselves: behind them the target meets the source again on its own.

Equivalent forms differ inside and agree behind: queries scaled before the product instead of scores behind it, a
recurrent layer unrolled step by step, a normalisation spelled in nine nodes. To suppose a twin inside such a region
would find two faults where there is none. So the target is computed on from what it made itself, and a tensor whose
every reader, or reader's reader, makes a twin again is left alone.

A twin of integers or truths closes nothing: an ArgMax hides what was wrong before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fetafix.graph.forcing import Forcing, State
from fetafix.ir import Graph


def closing(
    target: Graph, forcing: Forcing, state: State, outputs: Collection[str], at: Mapping[str, int], ahead: int
) -> set[str]:
    """Open tensors, those ahead included, that nothing needs any more once `ahead` nodes behind them are computed.

    outputs: bound outputs, which are needed in any case. at: tensor → place of its node. Nodes that do not depend on
    the open region are computed for good.
    """
    overlay, depends = State(), set(state.open)
    first = min((at[t] for t in state.open), default=len(target.nodes))
    for node in target.nodes[first:]:
        if node.key in state.done:
            continue
        if not any(t in depends for t in node.reads):
            forcing.step(node, state)
            continue
        met = forcing.step(node, state, overlay)
        depends.update(o for o in node.outputs if o)  # twins too: they are known here only
        ahead -= 1
        if met and not _needed(target, state, overlay, outputs, at) & set(state.open):
            break
        if ahead <= 0:
            break
    return (set(state.open) | set(overlay.open)) - _needed(target, state, overlay, outputs, at)


def _needed(
    target: Graph, state: State, overlay: State, outputs: Collection[str], at: Mapping[str, int]
) -> set[str]:
    """Open tensors of which a reader is not computed yet, hides what it read, or makes an open tensor needed itself."""
    found: set[str] = set()
    done = state.done | overlay.done
    for tensor in sorted({**state.open, **overlay.open}, key=at.__getitem__, reverse=True):
        readers = target.consumers.get(tensor, ())
        if tensor in outputs or any(
            n.key not in done or any(o in found or _hides(o, state, overlay) for o in n.outputs if o)
            for n, _ in readers
        ):
            found.add(tensor)
    return found


def _hides(tensor: str, state: State, overlay: State) -> bool:
    twin = overlay.twins.get(tensor) or state.twins.get(tensor)
    return twin is not None and twin.dtype.kind in "iub"
