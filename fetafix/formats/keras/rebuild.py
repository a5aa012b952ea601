"""Build a model anew from the calls of the old one and what changes in them.

Layers are made again from their configurations and get their weights back, so the old model stays as it is. Models
within the model are spelled out: a block's layer `block/conv` becomes `block_conv`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.graph import Call, Flat
from fetafix.formats.keras.host import Held, Kept, Plan, Spliced
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.lift import Places
from fetafix.formats.keras.parameters import Delta, weights_of


def rebuild(model: Any, flat: Flat, places: Places, plan: Plan, names: Sequence[str]) -> Any:
    """The changed model; `names`: its outputs'. Raises Unsupported where a layer cannot be made again."""
    import keras

    builder = _Builder(flat, places, plan)
    outputs = builder.outputs()
    builder.name_outputs(outputs, names)
    made = keras.Model(_packed(model, "_inputs_struct", builder.inputs), _packed(model, "_outputs_struct", outputs),
                       name=model.name)
    for layer, values in builder.weights:
        layer.set_weights(values)
    return _sequential(made) if isinstance(model, keras.Sequential) else made


def _sequential(model: Any) -> Any:
    """The same layers as a Sequential, where each reads the one before it."""
    import keras

    operations = list(model.operations)
    inputs = len(model.inputs) == len(model.outputs) == 1
    for previous, operation in itertools.pairwise(operations):
        read = [t._keras_history[0] for t in operation._inbound_nodes[-1].input_tensors]
        inputs = inputs and isinstance(operation, keras.layers.Layer) and read == [previous]
    if not inputs:
        return model
    made = keras.Sequential(name=model.name)
    for operation in operations:
        made.add(operation)
    return made


def _packed(model: Any, attribute: str, tensors: Sequence[Any]) -> Any:
    """The tensors in the structure that the old model had, where it still holds as many."""
    from keras import tree

    from fetafix.formats.keras.graph import functional

    structure = getattr(functional(model), attribute, None)
    if structure is not None and len(tree.flatten(structure)) == len(tensors):
        return tree.pack_sequence_as(structure, list(tensors))
    return list(tensors)


class _Builder:
    def __init__(self, flat: Flat, places: Places, plan: Plan) -> None:
        import keras

        self._flat, self._places, self._plan = flat, places, plan
        self._made: dict[int, Any] = {}
        self._spliced: dict[int, Laid] = {}
        self._layers: dict[tuple[int, int], Any] = {}
        self._taken: set[str] = set()
        self.inputs: list[Any] = []
        self.weights: list[tuple[Any, list[Any]]] = []
        self._makers = {v: i for i, call in enumerate(flat.calls) for v in call.outputs}
        for v in flat.inputs:
            symbol = flat.symbols[v]
            name = symbol._keras_history[0].name
            self._taken.add(name)
            self._made[v] = keras.Input(batch_shape=symbol.shape, dtype=symbol.dtype, name=name)
            self.inputs.append(self._made[v])

    def outputs(self) -> list[Any]:
        """The new model's output tensors, natively laid out."""
        for held in self._plan.order:
            if isinstance(held, Kept):
                self._value(held.value)
            else:
                self._laid(held)
        wanted = self._plan.outputs
        if wanted is None:
            return [self._value(v) for v in self._flat.outputs]
        return [self._native(held, self._output_perm(i, held)) for i, held in enumerate(wanted)]

    def _output_perm(self, i: int, held: Held) -> tuple[int, ...]:
        """Outputs stand in the view as they are in Keras."""
        rank = len(held.perm if isinstance(held, Kept) else self._laid(held).perm)
        return tuple(range(rank))

    def _laid(self, held: Held) -> Laid:
        if isinstance(held, Kept):
            return Laid(self._value(held.value), held.perm)
        if id(held) not in self._spliced:
            self._spliced[id(held)] = self._splice(held)
        return self._spliced[id(held)]

    def _splice(self, held: Spliced) -> Laid:
        inputs = [self._laid(h) for h in held.inputs]
        made = held.piece.build(inputs)
        return made

    def _native(self, held: Held, perm: tuple[int, ...]) -> Any:
        return self._laid(held).turned(perm).tensor

    def _value(self, v: int) -> Any:
        if v not in self._made:
            self._call(self._makers[v])
        return self._made[v]

    def _call(self, i: int) -> None:
        call = self._flat.calls[i]
        wires = self._plan.wires.get(i, {})
        given: dict[int, Any] = {}
        for symbol, v in call.inputs.items():
            given[symbol] = self._native(wires[v], self._places[v][1]) if v in wires else self._value(v)
        layer = self._layer(i, call)
        args, kwargs = call.node.arguments.fill_in(given)
        from keras import tree

        try:
            outputs = tree.flatten(layer(*args, **kwargs))
        except (ValueError, TypeError) as error:
            raise Unsupported(f"{call.name} does not take its new inputs: {str(error)[:200]}") from error
        for v, y in zip(call.outputs, outputs, strict=True):
            self._made[v] = y
        self._fill(i, call, layer)

    def _layer(self, i: int, call: Call) -> Any:
        """A fresh copy of the layer; one for all its calls that change in the same way."""
        import keras

        if not isinstance(call.operation, keras.layers.Layer):
            return _operation(call)
        delta = self._plan.deltas.get(i)
        key = (id(call.operation), i if delta else -1)
        if key not in self._layers:
            config = copy.deepcopy(call.operation.get_config())
            config.update(delta.settings if delta else {})
            config["name"] = self._name(call.name.split(":")[0].replace("/", "_"))
            try:
                self._layers[key] = type(call.operation).from_config(config)
            except (ValueError, TypeError) as error:
                new = dict(delta.settings) if delta else {}
                raise Unsupported(f"{call.name} cannot be made with {new}: {error}") from error
        return self._layers[key]

    def _name(self, base: str) -> str:
        name, i = base, 1
        while name in self._taken:
            name, i = f"{base}_{i}", i + 1
        self._taken.add(name)
        return name

    def _fill(self, i: int, call: Call, layer: Any) -> None:
        """Note the old weights with those that change, in the order in which the new layer holds them."""
        if not getattr(layer, "weights", None) or any(held is layer for held, _ in self.weights):
            return
        delta = self._plan.deltas.get(i) or Delta()
        old = {n: np.asarray(w) for n, w in weights_of(call.operation).items()}
        values = []
        for name, variable in weights_of(layer).items():
            value = delta.weights.get(name, old.get(name))
            value = np.asarray(variable) if value is None else value
            if tuple(value.shape) != tuple(variable.shape):
                shapes = f"{list(value.shape)}, expected {list(variable.shape)}"
                raise Unsupported(f"{call.name}: {name} would have shape {shapes}")
            values.append(value)
        self.weights.append((layer, values))

    def name_outputs(self, outputs: Sequence[Any], names: Sequence[str]) -> None:
        """The layers that make the outputs take the names that the outputs had; others give way."""
        if len(names) != len(outputs) or len({*names}) != len(names):
            return
        makers = [t._keras_history[0] for t in outputs]
        if len({id(m) for m in makers}) != len(makers) or any(m.name == t.name and t in self.inputs for m, t in
                                                              zip(makers, outputs, strict=True)):
            return
        holders = {layer.name: layer for layer in self._layers.values()}
        for maker, name in zip(makers, names, strict=True):
            if maker.name == name:
                continue
            other = holders.get(name)
            if other is not None and other not in makers:
                other.name = self._name(f"{name}_inner")
            if other is None or other not in makers:
                maker.name = name


def _operation(call: Call) -> Any:
    """An operation that is no layer: the same settings, without the calls that it was used in."""
    made = copy.copy(call.operation)
    made._inbound_nodes, made._outbound_nodes = [], []
    return made
