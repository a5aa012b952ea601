"""The part of the text report on quantised models: which layers are off, and how much of it rounding explains."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.render.style import Style, number, wrap
from fetafix.report import LayerRounding, Quantisation

_FEW = 3


def render(found: Quantisation | None, paint: Style, verbose: bool) -> Iterator[str]:
    """Lines about quantisation; none for float models. `verbose` lists every layer."""
    if found is None:
        return
    counts = [f"{n} {k}" for kinds, name in ((found.weights, "constants"), (found.activations, "activations"))
              for k, n in ((f"{t} {name}", c) for t, c in kinds.items())]
    state = "all layers within what rounding explains" if found.within else "rounding does not explain every layer"
    yield ""
    yield f"{paint('quantisation', 'bold')} of the {_whose(found)} ({', '.join(counts)}): {state}"
    shown = found.layers if verbose else found.layers[:_FEW]
    for row in shown:
        yield from wrap(_layer(row), 4, "  ")
    if len(found.layers) > len(shown):
        yield f"  and {len(found.layers) - len(shown)} more layers (-v)"


def _whose(found: Quantisation) -> str:
    return "source and the target" if found.of == "both" else found.of


def _layer(row: LayerRounding) -> str:
    return (f"{row.target_layer} ({row.rounds}): error {number(row.measured)}, explained {number(row.explained)}, "
            f"unexplained {number(row.unexplained)}")
