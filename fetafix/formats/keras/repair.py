"""Apply a list of edits natively and write the file; what cannot be written is named and the rest is applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.formats.attempts import View, attempt_all, compare
from fetafix.formats.base import OpenOptions, Unsupported
from fetafix.formats.keras import container as keras_container
from fetafix.formats.keras.graph import Flat, flatten, functional
from fetafix.formats.keras.host import KerasHost, Plan
from fetafix.formats.keras.interface import ports
from fetafix.formats.keras.lift import load_places
from fetafix.formats.keras.open import load
from fetafix.formats.keras.parameters import Delta, weights_of
from fetafix.formats.keras.rebuild import rebuild
from fetafix.formats.transfer import transfer
from fetafix.ir import Graph

_NO_SHAPES = "the input layer's shape is part of the model, which has to be made anew for another one"


def repair(
    path: Path, format: str, options: OpenOptions, edits: Sequence[Edit], lifted: Path, out: Path
) -> tuple[tuple[int, str], ...]:
    """Write `path` with the edits to `out`. Returns (index, reason) for each edit that cannot be written natively.

    All edits are tried together; where that fails, one after the other, so that each refusal has its own reason.
    """
    attempt = _Attempt(path, format, options, lifted, out)
    return attempt_all(attempt, edits, _NO_SHAPES)


class _Attempt:
    """Writes the file with some edits, from the original each time."""

    def __init__(self, path: Path, format: str, options: OpenOptions, lifted: Path, out: Path) -> None:
        self._path, self._format, self._options, self._out = path, format, options, out
        self._model = load(path, format, options)[0]
        self._view = View(lifted)
        self._places = load_places(lifted)
        self._names = [p.name for p in ports(self._model)[1]]
        self._inputs = [p.name for p in ports(self._model)[0]]

    def __call__(self, edits: Sequence[Edit]) -> None:
        """Raises Unsupported or EditError with the reason; `out` is then of no use."""
        if not edits:
            self._out.write_bytes(self._path.read_bytes())
            return
        after = apply(self._view.before, edits)
        if functional(self._model) is None or not self._places:
            raise Unsupported("the model is no graph of layers, so nothing says which of them an edit means")
        flat = flatten(self._model)
        host = KerasHost(flat, self._places, self._inputs, self._view.feeds())
        transfer(self._view.before, after, host, lambda names: self._view.samples(after, names))
        self._write(flat, host.plan)
        self._verify(after)

    def _write(self, flat: Flat, plan: Plan) -> None:
        layers = None if plan.structural else _by_layer(flat, plan)
        if layers is None or any(set(d.weights) - set(weights_of(layer)) for layer, _, d in layers):
            if self._options.arch:
                raise Unsupported("the file holds weights only; the layers and their settings live in your code")
            made = rebuild(self._model, flat, self._places, plan, self._names)
            keras_container.save(made, self._format, self._out)
            return
        weights = {id(weights_of(layer)[n]): v for layer, _, d in layers for n, v in d.weights.items()}
        settings = {name: d.settings for _, name, d in layers if d.settings}
        if settings and self._options.arch:
            raise Unsupported("the file holds weights only; the layers and their settings live in your code")
        keras_container.edit(self._path, self._format, self._model, weights, settings, self._out)

    def _verify(self, after: Graph) -> None:
        """The written file must load again, and answer as the edited graph does on the example."""
        from keras import tree

        model = load(self._out, self._format, self._options)[0]
        feeds, names, wanted = self._view.feeds(), after.output_names, self._view.wanted(after)
        if wanted is None:
            return
        tensors = [feeds[n] for n in self._inputs]
        structure = getattr(model, "_inputs_struct", None)
        packed = tree.pack_sequence_as(structure, tensors) if structure is not None else tensors
        made = tree.flatten(model(packed if structure is not None or len(tensors) > 1 else tensors[0], training=False))
        if len(made) != len(names):
            raise Unsupported(f"the written model has {len(made)} outputs, {len(names)} expected")
        for name, want, have in zip(names, wanted, made, strict=True):
            compare(name, want, np.asarray(have))


def _by_layer(flat: Flat, plan: Plan) -> list[tuple[Any, str, Delta]] | None:
    """(layer, its name, what changes in it); None where a layer's calls change in different ways."""
    groups: dict[int, list[int]] = {}
    for i, call in enumerate(flat.calls):
        groups.setdefault(id(call.operation), []).append(i)
    made = []
    for members in groups.values():
        deltas = [plan.deltas.get(i, Delta()) for i in members]
        if not any(deltas):
            continue
        if not all(d.same(deltas[0]) for d in deltas):
            return None
        call = flat.calls[members[0]]
        made.append((call.operation, call.name, deltas[0]))
    return made
