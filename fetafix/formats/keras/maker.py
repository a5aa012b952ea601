"""What the conversions of ONNX operators into Keras layers have in common: what they read, how a layer is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.ir import Array, Graph, Node


class Maker:
    """What the conversion of one node may ask for: its inputs, its constants, the values it has on the example."""

    def __init__(self, fragment: Graph, values: Mapping[str, Array], made: Mapping[str, Laid]) -> None:
        self._fragment, self._made = fragment, made
        self.values = values

    def input(self, node: Node, slot: int = 0) -> Laid:
        """A computed input. Raises Unsupported where it is a constant."""
        laid = self._made.get(node.input(slot))
        if laid is None:
            raise Unsupported(f"{node.op} of a constant has no Keras layer")
        return laid

    def constant(self, node: Node, slot: int) -> Array | None:
        """A constant input, or None."""
        name = node.input(slot)
        return self.values[name] if name and name not in self._made else None

    def needed(self, node: Node, slot: int) -> Array:
        """A constant input. Raises Unsupported where it is computed."""
        value = self.constant(node, slot)
        if value is None:
            raise Unsupported(f"{node.op} with a computed input {slot} has no Keras layer")
        return value

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of the node's output on the example."""
        return self.values[node.outputs[0]].shape


def applied(layer: Any, inputs: Any, *weights: Array | None) -> Any:
    """The layer's output, its weights set (those given)."""
    made = layer(inputs)
    given = [np.ascontiguousarray(w) for w in weights if w is not None]
    if given:
        layer.set_weights(given)
    return made


def keras_layers() -> Any:
    """The module `keras.layers`, imported when first asked for."""
    import keras

    return keras.layers


def sized(name: str, rank: int) -> Any:
    """A layer's class for tensors of `rank` axes (Conv → Conv2D for 4). Raises Unsupported where there is none."""
    if not 3 <= rank <= 5:
        raise Unsupported(f"Keras has no {name} for tensors of {rank} dimensions")
    found = getattr(keras_layers(), f"{name}{rank - 2}D", None)
    if found is None:
        raise Unsupported(f"Keras has no {name}{rank - 2}D")
    return found


def number(node: Node, name: str, default: float) -> float:
    """An attribute that is a number."""
    value: Any = node.attrs.get(name, default)
    return float(value)


Handler = Callable[[Maker, Node], Laid]
