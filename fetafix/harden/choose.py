"""`auto`: which scheme to take, by prediction, and by measurement where there are samples to measure on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.formats import stored as stored_tensors
from fetafix.harden.asked import KEEP, Scheme, Wish
from fetafix.harden.files import files_of
from fetafix.harden.rank import FREE, Part, part, rank
from fetafix.harden.report import Ranked
from fetafix.storage.holding import Held

Array = npt.NDArray[Any]
TORCH = ("torch-state-dict", "safetensors")
_ALL: tuple[Scheme, ...] = ("guard", "ceiling", "scale", "secded", "rs")
_ALLOWED: dict[str, tuple[Scheme, ...]] = {
    "onnx": _ALL, "torch-state-dict": _ALL, "safetensors": _ALL, "tflite": ("scale", "secded", "rs")}
_OTHERS: tuple[Scheme, ...] = ("secded", "rs")
_LOADED = "none: read once by the loader"
_SERIOUS = 0.5  # wrecked weights, from which on a scheme is no protection


@dataclass(frozen=True, slots=True)
class Choice:
    """The scheme to take, all that were ranked, and why."""

    wish: Wish
    ranking: list[Ranked]
    why: str


def choose(path: Path, format: str, wish: Wish) -> Choice:
    """The best scheme of those that the format can take and that a stock runtime reads; any, where none of them helps.

    Raises UnreadableModel where the file's tensors cannot be read, UsageError where there are no weights.
    """
    parts = parts_of(path, format, wish)
    allowed = _ALLOWED.get(format, _OTHERS)
    if format == "tflite":
        allowed = allowed if wish.dtype == "int8" else ("secded", "rs") if wish.dtype == KEEP else ("rs",)
    rows = rank(parts, wish, allowed, sum(f.stat().st_size for f in files_of(path, format)))
    if format in TORCH:
        rows = [msgspec.structs.replace(r, cost=_LOADED) if r.cost == FREE else r for r in rows]
    able = [r for r in rows if r.scheme != "none"]
    stock = [r for r in able if r.stock and r.wrecked < _SERIOUS] or [r for r in able if r.stock]
    best = (stock or able)[0]
    why = _why(best, rows, wish, bool(stock))
    if wish.data is not None and len(stock) > 1:
        from fetafix.harden.trial import measured

        rows, best, found = measured(path, rows, stock[:2], wish)
        why = f"{_why(best, rows, wish, True)}; {found}"
    ranking = [msgspec.structs.replace(r, chosen=r is best) for r in rows]
    return Choice(_wished(wish, best), ranking, why)


def parts_of(path: Path, format: str, wish: Wish) -> list[Part]:
    """A part of every weight that a scheme can take."""
    found = []
    for held, read in _weights(path, format):
        values = read().astype(np.float32)
        if np.isfinite(values).all() and values.size:
            found.append(part(held, values, wish.seed))
    if not found:
        raise UsageError(f"{path}: it has no weights of float32, float16 or bfloat16 that a scheme could be chosen "
                         "for; codes of 8 bits are scaled already (in ONNX, --scheme guard bounds them and votes on "
                         "their scales). --scheme rs protects any file")
    return found


def _weights(path: Path, format: str) -> Iterator[tuple[Held, Callable[[], Array]]]:
    """Float weights with what reads them. State dicts are read by torch, those of before torch 1.6 too."""
    if format in TORCH:
        from fetafix.formats.torch.protect import weights

        yield from ((held, lambda v=values: v) for held, values in weights(path))
        return
    for held in stored_tensors.held(path):
        if held.role == "weight" and held.floating:
            yield held, partial(stored_tensors.read, held)


def _wished(wish: Wish, best: Ranked) -> Wish:
    granularity = best.granularity if best.granularity in ("tensor", "channel") else wish.granularity
    return wish.by(best.scheme, granularity)  # type: ignore[arg-type]


def _why(best: Ranked, rows: Sequence[Ranked], wish: Wish, stock: bool) -> str:
    plain = next(r for r in rows if r.scheme == "none")
    name = f"{best.scheme} a {best.granularity}"
    gain = f"at a bit-error rate of {wish.design_ber:g} the predicted RMS error of a weight is {best.rms:.2g} of " \
           f"the weights' own, unprotected {plain.rms:.2g} with {plain.wrecked:.2g} weights wrecked"
    free = "a stock runtime" if best.cost == FREE else "a loader of a few lines"
    reads = f"read by {free} at no cost per inference" if stock else "this format reads no scheme by itself"
    better = next((r for r in itertools.takewhile(lambda r: r is not best, rows) if r.scheme != "none"), None)
    text = f"{name}: {gain}; {reads}"
    if better is not None and stock:
        text += f". Where you control the loader, {better.scheme} does better ({better.rms:.2g})"
    return text
