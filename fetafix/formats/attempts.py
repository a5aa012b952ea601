"""Write edits natively: all together, else one after the other, so that each refusal has its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fetafix.edits import Edit, SetInputShape, SetPreprocessing
from fetafix.errors import FetafixError, RuntimeCrash
from fetafix.formats.base import Unsupported
from fetafix.formats.onnx import view as onnx_view
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Array, Graph

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


class View:
    """The lifted graph that edits are in terms of, and the example batch that it was made with.

    Attributes:
        before: the graph without any edits.
        example: input name → array; None where the file beside the graph is gone.
    """

    def __init__(self, lifted: Path) -> None:
        self.before = load_graph(lifted)
        self.example = onnx_view.load_example(lifted)
        self._evaluator = Evaluator()

    def feeds(self) -> Mapping[str, Array]:
        """The example. Raises Unsupported where there is none."""
        if self.example is None:
            raise Unsupported("the example batch beside the lifted file is gone; lift the model again")
        return self.example

    def samples(self, graph: Graph, names: Sequence[str]) -> Mapping[str, Array]:
        """The values of tensors of a graph, edited or not, on the example."""
        return dict(zip(names, self._evaluator.run(graph, self.feeds(), names), strict=True))

    def wanted(self, after: Graph) -> list[Array] | None:
        """What the edited graph puts out on the example; None where its runtime cannot run it."""
        try:
            return list(self._evaluator.run(after, self.feeds(), after.output_names))
        except RuntimeCrash:
            return None


def evaluated(fragment: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of a fragment on an example. Raises Unsupported where it does not run."""
    need_examples(fragment, feeds)
    names = [o for n in fragment.nodes for o in n.outputs if o]
    try:
        made = Evaluator().run(fragment, feeds, names)
    except FetafixError as error:
        raise Unsupported(f"what is to be written does not run: {error}") from error
    return {**fragment.initializers, **feeds, **dict(zip(names, made, strict=True))}


def need_examples(fragment: Graph, feeds: Mapping[str, Array]) -> None:
    """Raise Unsupported where an input of a fragment has no example."""
    missing = [v.name for v in fragment.inputs if v.name not in feeds]
    if missing:
        raise Unsupported(f"nothing is known about tensor {missing[0]}")


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
