"""Weights in a file so that bit flips in its storage do less harm, or can be undone.

    harden(model, out, Wish(scheme="guard"))    write a protected copy
    verify(model, out)                          prove that it reads as the model does: tensor by tensor, and running
    explain(out)                                what protects it, against what, and whether an optimiser has stripped it
    restore(out, plain)                         take the protection off; secded and rs mend what flips did

`scale`, `ceiling` and `guard` change how weights are stored and add what reads them: operators in an ONNX graph, which
constant folding removes at load; entries in a state dict, which a loader of a few lines reads; a scale in a TFLite
file. `secded` puts a code into each word and `rs` a file beside the model: both need a step before the model is used.
"""

from __future__ import annotations

from fetafix.harden.act import harden
from fetafix.harden.asked import SCHEMES, Wish
from fetafix.harden.explanation import explain
from fetafix.harden.proof import verify
from fetafix.harden.undo import restore

__all__ = ["SCHEMES", "Wish", "explain", "harden", "restore", "verify"]
