"""What kind of mistake an inferred map of the input is: which fault type of preprocessing it belongs to.

Let the target treat a pixel (or, where no configuration is known, a value of its input) as y = g·u + b by channel, its
baked nodes and its configuration together, and let (g*, b*) be what its first layer needs; `found` leads from one to
the other. Then

- a rescaling by 1/255 or to −1…1 that stands at the input of one model only, and is just that map: double rescaling;
- g one number for all channels, g* one a channel between whose extremes it lies, while the mean μ = −b/g or the offset
  b is right: one std for all channels;
- g = g* and b a constant multiple of b*, by a factor that the scale or the std explains: an affine in the wrong order;
- anything else is another mean or std, or another range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from fetafix.graph.inputfix import axes
from fetafix.graph.inputmap import InputMap
from fetafix.graph.inputnodes import Step, baked, composed, identity
from fetafix.graph.pixels import affine_of
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph

Kind = Literal["rescaled", "scalar std", "order", "channels", "range", "none"]
_CLOSE = 2e-3
RESCALINGS = ((1 / 255, 0.0), (1 / 127.5, -1.0), (1 / 256, 0.0), (1 / 127.5, 0.0))
_SCALES = (1 / 255, 1 / 127.5, 1 / 256)
Affine = tuple[Array, Array]


def kind(site: Any, found: InputMap) -> Kind:
    """The kind of a map; "none" where it changes no values.

    Nor where it turns them round: nobody prepares pictures so, and a node at the input may explain it better.
    """
    if not found.scaled or (np.any(found.gain < 0) and not isinstance(site, Segment)):
        return "none"
    if not found.by_channel:
        return "rescaled" if rescaling(site, found) else "range"
    if len(found.gain) == 1:
        return "channels"
    have, want = treatment(site, found)
    if _scalar(have, want):
        return "scalar std"
    return "order" if reordered(have, want) is not None else "channels"


def treatment(site: Any, found: InputMap) -> tuple[Affine, Affine]:
    """(gain, bias) by channel of what the target makes of a pixel, or of a value of its input, and of what it needs."""
    channels = len(found.gain)
    config = None if isinstance(site, Segment) else site.preprocess[1]
    first = affine_of(config or {}, channels)
    steps = composed(_steps(site, found), identity(channels, 0))
    pick, order = list(found.order), list(steps.order)

    def behind(gain: Array, bias: Array) -> Affine:
        return steps.gain * gain[order], steps.gain * bias[order] + steps.bias

    return behind(*first), behind(found.gain * first[0][pick], found.gain * first[1][pick] + found.bias)


def _steps(site: Any, found: InputMap) -> list[Step]:
    graph, fed = (site.full, site.feeds) if isinstance(site, Segment) else (site.target, site.target_feeds)
    return [_plain(s) for s in baked(graph, found.input, found.axis, len(found.gain), fed[found.input].ndim)]


def _plain(step: Step) -> Step:
    """A step without the places of axes, which do not matter to values."""
    return Step(step.node, step.order, step.gain, step.bias, (), ())


def rescaling(site: Any, found: InputMap) -> str | None:
    """Whether a rescaling stands in one model only, and is the map: "superfluous", "missing", or None."""
    gain, bias = float(found.gain[0]), float(found.bias[0])
    if any(_is(*_forward(s), 1 / gain, -bias / gain) for s in _runs(_steps(site, found))):
        return "superfluous"
    twin = _source_steps(site, found)
    return "missing" if any(_is(*_forward(s), gain, bias) for s in _runs(twin)) else None


def _source_steps(site: Any, found: InputMap) -> list[Step]:
    """The steps at the source's input; those that the target has too do not count."""
    if isinstance(site, Segment):
        name = next((a.source for a in site.anchors if a.target == found.input), "")
    else:
        name = site.inputs.get(found.input, "")
    fed: Array | None = site.source_feeds.get(name)
    if fed is None:
        return []
    graph: Graph = site.source
    axis = axes(graph, name, fed)[0]
    channels = 1 if axis is None else fed.shape[axis]
    own = [(float(s.gain[0]), float(s.bias[0])) for s in _steps(site, found)]
    steps = [_plain(s) for s in baked(graph, name, axis, channels, fed.ndim)]
    return [s for s in steps if not any(_is(g, b, float(s.gain[0]), float(s.bias[0])) for g, b in own if g != 1)]


def _runs(steps: Sequence[Step]) -> Iterator[Step]:
    """Scaling steps alone and with the one behind; only those that do to all channels alike."""
    even = [s for s in steps if np.ptp(s.gain) == 0 and np.ptp(s.bias) == 0 and s.node is not None]
    useful = [s for s in even if s.gain[0] != 1 or s.bias[0] != 0]
    yield from (b.after(a) for a, b in pairwise(useful))
    yield from useful


def _forward(step: Step) -> tuple[float, float]:
    return float(step.gain[0]), float(step.bias[0])


def _is(gain: float, bias: float, other: float, shift: float) -> bool:
    """Whether an affine map is another one, and a rescaling of pixels."""
    same = abs(gain - other) <= _CLOSE * abs(gain) and abs(bias - shift) <= _CLOSE
    return same and any(abs(gain - g) <= _CLOSE * g and abs(bias - b) <= _CLOSE for g, b in RESCALINGS)


def _near(a: Array, b: Array, unit: float = 0.0) -> bool:
    return bool(np.all(np.abs(a - b) <= _CLOSE * np.maximum(np.abs(b), unit)))


def _scalar(have: Affine, want: Affine) -> bool:
    """Whether one gain stands for those of all channels, while the mean or the offset is right."""
    (g, b), (g_, b_) = have, want
    even = np.ptp(g) <= 1e-6 * abs(g[0]) and np.ptp(g_) > _CLOSE * np.abs(g_).max()
    between = g_.min() <= g[0] * (1 + 1e-6) and g[0] <= g_.max() * (1 + 1e-6)
    if not (even and between and np.all(g_ != 0)):
        return False
    return _near(b / g, b_ / g_, float(np.abs(b_ / g_).max())) or _near(b, b_, float(np.abs(b_).max()))


def reordered(have: Affine, want: Affine) -> float | None:
    """By how much the shift is too large or too small since it comes on the wrong side of the scaling; None if not."""
    (g, b), (g_, b_) = have, want
    if not _near(g, g_) or np.any(b_ == 0) or np.any(b == 0):
        return None
    ratio = b / b_
    explained = [g_, *(np.full(len(g_), s) for s in _SCALES), *(g_ / s for s in _SCALES)]
    for factor in explained:
        for way in (factor, 1 / factor):
            if _near(ratio, way) and not _near(ratio, np.ones(len(g_))):
                return float(np.mean(ratio))
    return None
