"""From a site to the preprocessing mistake there, in words, and to the edits that undo it.

A site is a guilty segment at the target's input, or both models as a whole (anything with the fields of `Models`).
What is inferred is kept while the site lives: four fault types ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from fetafix.edits import Edit, SetPreprocessing, apply
from fetafix.errors import FetafixError
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.inputmap import InputMap, Probe, frontier, infer
from fetafix.graph.inputnodes import baked, repairs
from fetafix.graph.pixels import affine_of, config_for
from fetafix.graph.segment import Segment, layout_blind_error
from fetafix.ir import Array, Graph

_PIXELS = 4 * 128 * 128


class Models(Protocol):
    """Both models as a whole; see `fetafix.faults.base.Interface`."""

    source: Graph
    target: Graph
    inputs: Mapping[str, str]
    source_feeds: Mapping[str, Array]
    target_feeds: Mapping[str, Array]
    preprocess: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]

    def refed(self, edits: Sequence[Edit]) -> Mapping[str, Array]:
        """What the target's inputs get after edits."""
        ...


@dataclass(frozen=True)
class _Pair:
    """One input and what follows it: the target's side, the source's side, and what both are fed."""

    target: Graph
    source: Graph
    name: str
    twin: str
    feeds: Mapping[str, Array]
    source_feeds: Mapping[str, Array]
    goals: tuple[str | None, str | None] = (None, None)


_known: WeakKeyDictionary[Any, list[InputMap]] = WeakKeyDictionary()


def maps(site: Any) -> list[InputMap]:
    """The maps after which the target's first layer does what the source's does, by input; [] where none is needed."""
    if site not in _known:
        found = (_inferred(pair) for pair in _pairs(site))
        _known[site] = [m for m in found if m is not None]
    return _known[site]


def first_layer(site: Any, name: str, edits: Sequence[Edit]) -> float:
    """Relative L2 error of the target's first linear response at an input after edits; inf where it cannot be told.

    site: both models as a whole (`Models`).
    """
    try:
        target = apply(site.target, edits)
        ours, theirs = frontier(target, name), frontier(site.source, site.inputs[name])
        if ours is None or theirs is None:
            return float("inf")
        evaluator = Evaluator()
        (value,) = evaluator.run(target.between([name], [ours]), {name: site.refed(edits)[name]}, [ours])
        (wanted,) = evaluator.run(site.source, site.source_feeds, [theirs])
    except FetafixError:
        return float("inf")
    return layout_blind_error(value, wanted)


def _pairs(site: Any) -> Iterator[_Pair]:
    if isinstance(site, Segment):
        own = set(site.full.input_names)
        for anchor in site.anchors:
            if anchor.target in own and anchor.source in site.source_feeds and anchor.target in site.feeds:
                yield _Pair(site.target, site.source, anchor.target, anchor.source, site.feeds, site.source_feeds,
                            (site.goal.target, site.goal.source))
        return
    for name, twin in site.inputs.items():
        if name in site.target_feeds and twin in site.source_feeds:
            yield _Pair(site.target, site.source, name, twin, site.target_feeds, site.source_feeds)


def _inferred(pair: _Pair) -> InputMap | None:
    given = pair.feeds[pair.name]
    if given.dtype in (np.uint8, np.int8) and given.ndim == 4:  # pixels, which a Cast makes floats
        given = given.astype(np.float32)
    if not np.issubdtype(given.dtype, np.floating) or given.ndim < 2 or given.size == 0:
        return None
    ours, theirs = (frontier(g, n, goal) for g, n, goal in
                    ((pair.target, pair.name, pair.goals[0]), (pair.source, pair.twin, pair.goals[1])))
    if ours is None or theirs is None:
        return None
    count = max(1, min(len(given), _PIXELS // max(given[0].size, 1)))
    evaluator = Evaluator()
    try:
        axis, spatial = axes(pair.target, pair.name, given)
        feeds = {k: v[:count] if len(v) == len(given) else v for k, v in pair.source_feeds.items()}
        (wanted,) = evaluator.run(pair.source, feeds, [theirs])
        piece = pair.target.between([pair.name], [ours])

        def respond(x: Array) -> Array:
            (value,) = evaluator.run(piece, {pair.name: x}, [ours])
            return value

        probe = Probe(pair.name, given[:count], wanted, respond, axis, spatial)
        return infer(_aligned(probe))
    except FetafixError:
        return None


def _aligned(probe: Probe) -> Probe:
    """The probe with the source's response in the target's layout, where that differs (no layer came before it)."""
    made = probe.respond(probe.given)
    if made.shape == probe.wanted.shape or made.size != probe.wanted.size or made.ndim != probe.wanted.ndim:
        return probe
    perm = next((p for p in permutations(range(made.ndim)) if p[0] == 0
                 and tuple(probe.wanted.shape[i] for i in p) == made.shape), None)
    if perm is None:
        return probe
    return Probe(probe.input, probe.given, probe.wanted.transpose(perm), probe.respond, probe.axis, probe.spatial)


def axes(graph: Graph, name: str, given: Array) -> tuple[int | None, tuple[int, int] | None]:
    """The channel axis of an input and its two spatial axes; channels are what the first convolution takes as such."""
    if given.ndim == 3:
        return None, (1, 2)
    if given.ndim != 4:
        return None, None
    steps = baked(graph, name, None, 1, 4)
    tensor = name if not steps or steps[-1].node is None else steps[-1].node.key
    readers = [n for n, _ in graph.consumers.get(tensor, ()) if n.op in ("Conv", "Pad", "BatchNormalization")]
    axis = steps[-1].axes[1] if steps and readers else 1 if readers or given.shape[1] in (1, 3, 4) else 3
    if given.shape[axis] > 4:
        axis = next((a for a in (1, 3) if given.shape[a] <= 4), axis)
    rest = [a for a in (1, 2, 3) if a != axis]
    return axis, (rest[0], rest[1])


def describe(found: InputMap) -> str:
    """The mistake in one sentence."""
    parts = []
    if found.reordered:
        bgr = found.order == (2, 1, 0)
        parts.append("channels in reverse order (BGR for RGB)" if bgr else f"channels in the order {list(found.order)}")
    if found.swapped:
        parts.append("height and width exchanged")
    if found.naming is not None:
        parts.append(f"values as {found.naming.wanted} and gets {found.naming.given}")
    elif found.scaled:
        parts.append(f"values scaled by {_numbers(found.gain)} and shifted by {_numbers(found.bias)}")
    return f"the target's first layer needs input {found.input!r} with " + ", ".join(parts)


def _numbers(values: Array) -> str:
    shown = [f"{v:.6g}" for v in values]
    return shown[0] if len(set(shown)) == 1 else f"[{', '.join(shown)}]"


def evidence(found: InputMap) -> dict[str, Any]:
    """What the inference found, as plain data."""
    data: dict[str, Any] = {"input": found.input, "first_layer_error": found.before, "explained_to": found.after}
    if found.reordered:
        data["channel_order"] = list(found.order)
    if found.scaled:
        data |= {"gain": [float(g) for g in found.gain], "bias": [float(b) for b in found.bias]}
    if found.naming is not None:
        data |= {"given": found.naming.given, "wanted": found.naming.wanted}
    if found.swapped:
        data["height_width_swapped"] = True
    return data


def reader(site: Any, found: InputMap) -> str | None:
    """The key of the first target node that reads the input, for a segment; None for the interface."""
    if not isinstance(site, Segment):
        return None
    return next((n.key for n, _ in site.full.consumers.get(found.input, ())), None)


def fixes(site: Any, found: InputMap) -> Iterator[Sequence[Edit]]:
    """Whole fixes: the configuration (for the interface), then edits of the graph, the smallest first."""
    if isinstance(site, Segment):
        yield from repairs(site.full, found, site.feeds[found.input].shape, site.source)
        return
    changes = _configuration(site, found)
    if changes:
        yield [SetPreprocessing(changes, found.input)]
    yield from repairs(site.target, found, site.target_feeds[found.input].shape, site.source)


def _configuration(site: Models, found: InputMap) -> dict[str, Any]:
    """The fields of the target's preprocessing to change; {} where no configuration says it."""
    theirs, ours = site.preprocess
    channels = len(found.order)
    now = dict(ours or {})
    straight = tuple(range(channels))
    if found.order not in (straight, straight[::-1]):
        return {}
    old_gain, old_bias = affine_of(now, channels)
    pick = list(found.order)
    # wanted_i = gain_i · (g·u + o)[order_i] + bias_i, u being the pixel of that channel
    gain, bias = found.gain * old_gain[pick], found.gain * old_bias[pick] + found.bias
    changes = config_for(gain, bias, theirs)
    if found.reordered:
        changes["color"] = "rgb" if now.get("color") == "bgr" else "bgr"
    if found.swapped:
        changes["transpose_hw"] = not now.get("transpose_hw", False)
    defaults = {"scale": 1.0, "offset": 0.0, "mean": 0.0, "std": 1.0, "color": "auto", "transpose_hw": False}
    return {k: v for k, v in changes.items() if not _equal(now.get(k, defaults[k]), v)}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))
