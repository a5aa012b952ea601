"""Write edits natively: all together, else one after the other, so that each refusal has its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fetafix.edits import Edit, SetInputShape, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.formats.base import Unsupported
from fetafix.ir import Array

_TOLERANCE = 1e-4


def attempt_all(
    attempt: Callable[[Sequence[Edit]], None], edits: Sequence[Edit], no_shapes: str
) -> tuple[tuple[int, str], ...]:
    """Call `attempt` with the largest list of edits that it takes. Returns (index, reason) of each edit it refused.

    Args:
        attempt: writes the model with some edits; raises Unsupported or a FetafixError. Its last call is the one that
            counts.
        edits: in order. Those of the preprocessing are no affair of the file.
        no_shapes: why the format cannot declare another input shape, "" where it can.
    """
    refused = {i: no_shapes for i, e in enumerate(edits) if no_shapes and isinstance(e, SetInputShape)}
    wanted = [i for i, e in enumerate(edits) if i not in refused and not isinstance(e, SetPreprocessing)]
    together = ""
    try:
        attempt([edits[i] for i in wanted])
        return tuple(sorted(refused.items()))
    except (Unsupported, FetafixError) as reason:
        together = str(reason)
        if len(wanted) == 1:
            refused[wanted[0]] = together
            wanted = []
    kept: list[int] = []
    for i in wanted:
        try:
            attempt([edits[k] for k in (*kept, i)])
            kept.append(i)
        except (Unsupported, FetafixError) as reason:
            refused[i] = str(reason)
    if wanted and not kept:  # they may need each other: what stands against all of them says more
        refused.update(dict.fromkeys(wanted, together))
    attempt([edits[k] for k in kept])
    return tuple(sorted(refused.items()))


def compare(name: str, want: Array, have: Array) -> None:
    """Raise Unsupported where an output of the written model is not the edited graph's, up to rounding."""
    if want.shape != have.shape:
        raise Unsupported(f"written natively, output {name} has shape {list(have.shape)}, {list(want.shape)} expected")
    scale = max(float(np.max(np.abs(want), initial=0.0)), 1e-6) if want.dtype.kind == "f" else 1.0
    if not np.isfinite(scale):
        return
    if not np.allclose(want, have, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=want.dtype.kind == "f"):
        worst = float(np.max(np.abs(np.asarray(want, np.float64) - have)))
        raise Unsupported(f"written natively, output {name} answers differently from the edited graph (by {worst:.3g})")
