"""A normalisation folded into a zero-padded convolution.

*What goes wrong*
An optimiser moves the mean's subtraction into the bias of the first convolution, b − Σ W·μ. That is exact where every
tap meets the image. At the border taps meet padding, which is 0 behind the normalisation, but counts as a pixel of
value 0 before it: there the mean is taken off although nothing was there.

*How it shows*
Only the border of the first feature map is off, by up to 15%; the interior agrees. The folded weight and bias are the
source's, put through its normalisation.

*Repair*
Un-fold: weight and bias as they are without the normalisation, and the normalisation before the convolution again.

*When not to apply*
The convolution has no padding: then the fold is exact, a NO-OP. The interior differs too (pp-mean-std, wb-weights).

*Seen in*
mean folding in deployment optimisers (caffe's and TensorFlow Lite's importers): common knowledge, no thread found
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfold import Fold, folded, folds, padded
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "pp-mean-folded"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """A padded convolution at an input, before which only the source normalises, and that heals when un-folded."""
    if segment.healed(segment.error):
        return
    for fold in folds(segment):
        edits = fold.undone(segment.full)
        error = segment.trial(edits)
        if segment.healed(error) or error < 0.05 * segment.error:
            sure = 0.98 if segment.healed(error) else 0.6
            evidence = {"gain": fold.gain.tolist(), "shift": fold.shift.tolist(), "error_after": error}
            yield Suspicion(
                CODE, fold.conv.key, fold.twin, sure, evidence,
                f"the normalisation before {fold.conv.label} was folded into it, which is wrong at its padded border",
                edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The convolution without the normalisation, and the normalisation before it."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Fold the normalisation at an image input into the padded convolution behind it."""
    able: list[Fold] = [f for f in folded(graph) if padded(graph, f.conv) and np.any(f.shift != 0)]
    if not able:
        return None
    fold = able[int(rng.integers(len(able)))]
    gone = [ed.RemoveNode(s.node.key, s.slot) for s in reversed(fold.steps) if s.node is not None]
    return [*fold.done(graph), *gone]


FAULT = FaultType(CODE, "Mean folded into a padded convolution", "PP", detect, propose, inject)
