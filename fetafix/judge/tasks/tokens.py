"""A sequence of tokens: which of them are equal, and how far greedy decoding goes before it parts.

Tokens are the arg max of scores (N, T, V) along the last axis, with ties as for labels, or they are put out as ids
(N, T). A sample agrees where the share of equal tokens reaches the limit: 1 unless said otherwise, since a decoder that
feeds on its own answers goes another way after the first other token. The equal beginning says how far it would get.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge.tasks import scores
from fetafix.judge.tasks.base import OUTPUT, Claim, Limits, Observed, Rows, View, alike, only, percent, share, usable

_NAMES = re.compile(r"logit|token|vocab|lm_head|next|char|ctc|decoded|sequences?(?![a-z])|output_ids|label|tag")
_SURELY = re.compile(r"logit|token|vocab|lm_head")


class Tokens:
    """Sequences. limits: tokens, the least share of equal tokens of a sample."""

    name = "tokens"
    needs = "scores (N, T, V) or integer ids (N, T)"
    limits: Limits = {"tokens": 1.0}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """Integer sequences; scores that are named so, or are the only output's probabilities."""
        return [c for v in usable(views) if (_ids(v.values) or _scores(v.values))
                if (c := only(v, "asked", _shape(v)) if asked else _recognised(v)) is not None]

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Shares of equal tokens and of the equal beginning."""
        if not alike(source, target):
            return None
        s, t = decoded(source[OUTPUT], target[OUTPUT], ties.get(OUTPUT, 0.0))
        equal = s == t
        first = np.where(equal.all(1), -1, equal.argmin(1))
        rows = np.arange(len(s))
        told = {"first": first, "source": s[rows, first], "target": t[rows, first]}
        beginning = np.where(first < 0, 1.0, first / max(1, s.shape[1]))
        return Observed({"tokens": share(equal), "beginning": beginning}, told)

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Enough equal tokens."""
        enough: NDArray[np.bool_] = seen.measures["tokens"] >= limits["tokens"] - 1e-12
        return enough

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Those that disagree."""
        return ~self.agree(seen, limits)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """A sequence stands for itself."""
        return True

    def likeness(self, seen: Observed) -> float:
        """The share of equal tokens."""
        return seen.mean("tokens")

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """Shares of equal tokens, of the equal beginning, and of sequences that are equal throughout."""
        whole = seen.measures["tokens"] == 1.0
        return {"tokens": seen.mean("tokens"), "beginning": seen.mean("beginning"),
                "sequences": float(whole.mean()) if seen.n else 1.0}

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures."""
        whole, way = (percent(figures[k]) for k in ("sequences", "beginning"))
        return (f"{percent(figures['tokens'], 2)} of the tokens equal, {whole} of the sequences throughout, greedy "
                f"decoding goes {way} of the way")

    def answer(self, seen: Observed, i: int) -> str:
        """The first token that differs."""
        first, s, t = (int(seen.kept[k][i]) for k in ("first", "source", "target"))
        return f"token {first}: source says {s}, target {t}" if first >= 0 else "equal"


def decoded(source: Array, target: Array, tie: float) -> tuple[Array, Array]:
    """The tokens of two outputs: int (N, T) each."""
    if source.ndim == 3:
        return scores.best(source, target, 2, tie)
    return source, target


def _ids(values: Array) -> bool:
    return values.dtype.kind in "iu" and values.ndim == 2 and values.shape[1] >= 1


def _scores(values: Array) -> bool:
    return values.dtype.kind == "f" and values.ndim == 3 and values.shape[1] >= 1 and values.shape[2] >= 2


def _shape(view: View) -> str:
    what = "ids" if _ids(view.values) else f"scores of {view.values.shape[2]} tokens"
    return f"it has {what} at {view.values.shape[1]} places"


def _recognised(view: View) -> Claim | None:
    """Ids count as numbers exactly, too, so that taking them for tokens can do no harm."""
    values = view.values
    if _ids(values):
        wide = values.dtype.itemsize >= 4 and values.shape[1] >= 2
        return only(view, "yes", f"{_shape(view)}, as whole numbers") if wide else None
    if values.shape[2] < 3:
        return None
    if _NAMES.search(view.name.lower()):
        sure = view.alone or _SURELY.search(view.name.lower())
        return only(view, "yes" if sure else "maybe", f"{_shape(view)} and is named {view.name!r}")
    if values.shape[1] != values.shape[2] and scores.sums_to_one(values, 2):  # square: the weights of an attention
        return only(view, "yes" if view.alone else "maybe", f"{_shape(view)}, and they are probabilities")
    return None
