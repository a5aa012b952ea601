"""Faults of recurrent and transformer models: named at their node, healed, silent on every equivalent form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from fetafix.edits import Edit, SetAttribute, SetInput, apply
from fetafix.faults import get
from fetafix.graph.canonical import canonical
from fetafix.ir import Graph
from tests.faults import sequences as made
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR
from tests.faults.through import Case, codes, error, healed, named_by, silent, treated

MODELS: dict[str, Callable[[], Graph]] = {
    "LSTM": made.recurrent_tokens,
    "GRU": lambda: made.recurrent_tokens(op="GRU", linear_before_reset=1),
    "GRU of the paper": lambda: made.recurrent_series(op="GRU"),
    "RNN reverse": lambda: made.recurrent_series(op="RNN", direction="reverse"),
    "LSTM reverse": lambda: made.recurrent_series(op="LSTM", direction="reverse"),
    "LSTM both ways": lambda: made.recurrent_series(op="LSTM", direction="bidirectional"),
    "Keras both ways": made.keras_bidirectional,
    "encoder": lambda: made.encoder(layers=1),
    "encoder spelled": lambda: made.encoder(layers=1, spelled=True, scale="query"),
    "encoder 20": lambda: made.encoder(layers=1, opset=20, act="Gelu none", scale="mul"),
    "decoder": lambda: made.decoder(layers=1),
    "decoder 23": lambda: made.decoder(layers=1, opset=23, core="Attention", act="Gelu tanh"),
    "deep encoder": lambda: made.encoder(scale="mul"),
    "deep encoder spelled": lambda: made.encoder(spelled=True),
    "deep encoder 20": lambda: made.encoder(opset=20, act="Gelu none"),
    "deep decoder": made.decoder,
    "deep decoder 20": lambda: made.decoder(opset=20, act="Gelu tanh"),
    "positions": made.positions,
    "relative": made.relative,
    "relative fmod": lambda: made.relative(floor=False, fmod=1),
    "assigned": made.assigned,
    "tagger": made.tagger,
    "opset 11": made.old_softmax,
    "opset 13": lambda: made.old_softmax(opset=13),
}
# Fault type → models that must have a place for it.
PLACES = {
    "wb-rnn-gate-order": ["LSTM", "GRU", "GRU of the paper", "LSTM reverse", "LSTM both ways"],
    "lh-gru-lbr": ["GRU", "GRU of the paper"],
    "lh-rnn-direction": ["LSTM", "GRU", "RNN reverse", "LSTM reverse", "LSTM both ways", "Keras both ways"],
    "lh-ln-eps": ["encoder", "encoder spelled", "decoder", "decoder 23"],
    "lh-gelu": ["deep encoder", "deep encoder spelled", "deep encoder 20", "deep decoder", "deep decoder 20"],
    "lh-attn": ["encoder", "encoder spelled", "encoder 20", "decoder", "decoder 23"],
    "tss-head-split": ["encoder", "encoder spelled", "decoder", "decoder 23"],
    "lh-argmax-tie": ["tagger"],
    "lh-cumsum-exclusive": ["positions"],
    "vs-softmax-13": ["opset 11", "opset 13"],
    "wb-tied-broken": ["decoder", "decoder 23"],
    "cg-inplace-lost": ["assigned"],
    "cg-int-div-mod": ["relative", "relative fmod"],
}
CASES = [(code, name, seed) for code, names in PLACES.items() for name in names for seed in range(3)]


@cache
def case(name: str) -> Case:
    return Case.of(canonical(MODELS[name](), EVALUATOR), feeds=made.feeds_of)


def effective(of: Case, code: str, seed: int) -> tuple[Graph, tuple[Edit, ...]]:
    """The target with the first seeded fault that shows at its outputs."""
    rng = np.random.default_rng(seed)
    for _ in range(24):
        edits = get(code).inject(of.target, rng)
        assert edits, f"no place for {code}"
        broken = apply(of.target, edits)
        if error(of, broken) > 1e-4:
            return broken, tuple(edits)
    raise AssertionError("every place tried is a NO-OP")


@pytest.mark.parametrize(("code", "name", "seed"), CASES)
def test_injected_is_named_and_healed(code: str, name: str, seed: int) -> None:
    broken, edits = effective(case(name), code, seed)
    loose = code in ("tss-head-split", "lh-rnn-direction", "cg-inplace-lost", "lh-attn", "vs-softmax-13")
    healed(case(name), broken, code, set() if loose else named_by(edits) | {getattr(e, "output", "") for e in edits})
