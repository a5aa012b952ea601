"""What every layer of a Keras model makes, in its own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Tap, Taps
from fetafix.formats.keras.graph import evaluate, flatten
from fetafix.formats.keras.interface import Port
from fetafix.ir import Array


def tap(model: Any, inputs: Sequence[Port], outputs: Sequence[Port], arguments: Sequence[Array]) -> Taps:
    """Layers in the order in which they run, those of models within the model as `block/conv`.

    A value is named after its layer ("conv", "split:1"), the model's inputs and outputs as in its interface. Raises
    LiftError where the model is no graph of layers.
    """
    flat = flatten(model)
    values = evaluate(flat, list(arguments))
    names: dict[int, str] = {v: p.name for v, p in zip(flat.inputs, inputs, strict=True)}
    for v, port in zip(flat.outputs, outputs, strict=True):
        names.setdefault(v, port.name)
    taken = {*names.values()}
    layers = []
    for call in flat.calls:
        for k, v in enumerate(call.outputs):
            name = call.name if len(call.outputs) == 1 else f"{call.name}:{k}"
            if v not in names:
                while name in taken:
                    name += "'"
                names[v] = name
                taken.add(name)
        kind = type(call.operation).__name__
        layers.append(Tap(call.name, kind, tuple(names[v] for v in call.reads), tuple(names[v] for v in call.outputs)))
    made = {names[v]: np.asarray(x) for v, x in enumerate(values) if x is not None and v in names}
    for v, port in zip(flat.outputs, outputs, strict=True):
        made.setdefault(port.name, np.asarray(values[v]))
    return Taps(tuple(layers), made)
