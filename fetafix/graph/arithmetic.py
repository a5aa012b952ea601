"""What rounding does inside a network: every layer's result moved by a unit in its last place.

Another implementation of the same arithmetic sums in another order, in every layer, not at the inputs alone. What a
deep network makes of that cannot be seen from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fetafix.ir import Array, Graph, Node
from fetafix.judge.noise import nudged

EXACT = frozenset({  # operators that choose or move values, and never round: equal inputs give equal bits
    "ArgMax", "ArgMin", "TopK", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather", "Slice",
    "Concat", "Identity", "Expand", "Tile", "Split",
})  # fmt: skip
_WHOLE = 2.0**24  # below it float32 holds every whole number
Run = Callable[[Graph, Mapping[str, Array], Sequence[str]], Sequence[Array]]


def rounded_otherwise(
    graph: Graph, feeds: Mapping[str, Array], run: Run, eps: float, seed: int = 0
) -> dict[str, Array]:
    """A graph's outputs where the result x of every node that rounds becomes x · (1 ± eps), signs at random.

    Integers, values that are only moved, and whole numbers, such as a mask that was cast and turned round, are exact.
    run: runs a graph on feeds and gives the tensors asked for (`Evaluator.run`).
    """
    rng, values = np.random.default_rng(seed), dict(feeds)
    for node in graph.nodes:
        if graph.fixed(node.key):
            continue
        known = {t: c for t in node.reads if (c := graph.value_of(t)) is not None}
        live = {t: values[t] for t in node.reads if t not in known}
        outs = [o for o in node.outputs if o]
        alone = Graph((node,), known, (), (), graph.opset)
        made = dict(zip(outs, run(alone, live, outs), strict=True))
        values.update({o: v if _exact(node, v) else nudged(v, eps, rng) for o, v in made.items()})
    return {o: values[o] for o in graph.output_names if o in values}


def _exact(node: Node, value: Array) -> bool:
    return node.op in EXACT or bool(np.all((value == np.rint(value)) & (np.abs(value) < _WHOLE)))
