"""Find the Keras weight that held an ONNX constant, by its role or by its value up to layout, and its new value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fetafix.edits.surgery import free
from fetafix.formats.base import Unsupported
from fetafix.formats.keras.recurrent import recurrent, rewritten
from fetafix.formats.transfer import SetConstant
from fetafix.ir import Array

_NORMALISATION = {1: "gamma", 2: "beta", 3: "moving_mean", 4: "moving_variance"}
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


@dataclass(frozen=True, eq=False, slots=True)
class Delta:
    """Changes of one layer. weights: name of the weight → new value. settings: key of its config → new value."""

    weights: Mapping[str, Array] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.weights or self.settings)

    def merged(self, other: Delta) -> Delta:
        """Both; where they disagree, the other's."""
        return replace(
            self, weights={**self.weights, **other.weights}, settings={**self.settings, **other.settings}
        )

    def same(self, other: Delta) -> bool:
        """Whether both change the same things in the same way."""
        return (
            self.settings == other.settings
            and self.weights.keys() == other.weights.keys()
            and all(np.array_equal(v, other.weights[k]) for k, v in self.weights.items())
        )


def weights_of(operation: Any) -> dict[str, Any]:
    """A layer's variables by a name that is unique within it, in the order of `layer.weights`."""
    found: dict[str, Any] = {}
    for variable in getattr(operation, "weights", ()):
        found[free(variable.name, found)] = variable
    return found


def parameter(operation: Any, change: SetConstant, so_far: Delta) -> Delta | None:
    """What a changed constant comes to in the layer's weights; None where the layer does not hold it.

    so_far: what has changed in the layer already.
    Raises Unsupported where the layer holds it but cannot take the new value.
    """
    held = weights_of(operation)
    op, slot = change.node.op, change.slot
    if recurrent(change) and held:
        return Delta(rewritten(held, change))
    if op == "BatchNormalization" and slot in _NORMALISATION and "moving_mean" in held:
        return _normalisation(held, _NORMALISATION[slot], change.new)
    if _BIASED.get(op) == slot and (change.old is None or change.new is None):
        return _bias(operation, held, change.new)
    if change.old is None or change.new is None or not held:
        return None
    for name, variable in held.items():
        new = _carried(np.asarray(variable), change.old, change.new)
        if new is not None:
            return Delta({name: new.astype(variable.dtype)})
    return _affine(operation, held, change, so_far)


def _normalisation(held: Mapping[str, Any], name: str, new: Array | None) -> Delta:
    if new is None:
        raise Unsupported("a normalisation needs all its parameters")
    if name in held:
        if tuple(held[name].shape) != new.shape:
            raise Unsupported(f"{name} has shape {list(held[name].shape)}, the new one {list(new.shape)}")
        return Delta({name: new.astype(held[name].dtype)})
    return Delta({name: new}, {"scale" if name == "gamma" else "center": True})


def _bias(operation: Any, held: Mapping[str, Any], new: Array | None) -> Delta:
    if new is None:
        if "bias" not in held:
            raise Unsupported("there is no bias to drop")
        return Delta({"bias": np.zeros(held["bias"].shape, held["bias"].dtype)})
    if not hasattr(operation, "use_bias"):
        raise Unsupported(f"{type(operation).__name__} takes no bias")
    return Delta({"bias": np.asarray(new).reshape(-1)}, {"use_bias": True})


def _carried(variable: Array, old: Array, new: Array) -> Array | None:
    """The new value in the variable's layout, where the old one is the variable up to transposition and reshape."""
    if variable.size != old.size or old.size != new.size or variable.dtype.kind != old.dtype.kind:
        return None
    for perm in itertools.permutations(range(variable.ndim)):
        turned = np.transpose(variable, perm)
        if np.array_equal(turned.reshape(old.shape), old, equal_nan=old.dtype.kind == "f"):
            return np.ascontiguousarray(np.transpose(new.reshape(turned.shape), np.argsort(perm)))
    return None


def _affine(operation: Any, held: Mapping[str, Any], change: SetConstant, so_far: Delta) -> Delta | None:
    """A normalisation that is traced as x · factor + shift: the changed one goes into gamma or beta.

    factor = γ / √(σ² + ε), shift = β − μ · factor; a changed factor leaves the shift as it is.
    """
    if "moving_mean" not in held or change.node.op not in ("Mul", "Add"):
        return None
    assert change.old is not None and change.new is not None
    if change.new.size != held["moving_mean"].shape[0]:
        raise Unsupported("the normalisation's parameters have another size")
    mean, variance = (np.asarray(held[k], np.float64) for k in ("moving_mean", "moving_variance"))
    spread = np.sqrt(variance + operation.epsilon)

    def state(changed: Mapping[str, Array]) -> tuple[Array, Array]:
        gamma, beta = (
            np.asarray(changed.get(k, held.get(k, default)), np.float64)
            for k, default in (("gamma", 1.0), ("beta", 0.0))
        )
        return gamma / spread, beta - mean * gamma / spread

    was, (factor, shift) = state({}), state(so_far.weights)
    new, old = (np.asarray(v, np.float64).reshape(-1) for v in (change.new, change.old))
    if change.node.op == "Mul" and np.allclose(old, was[0], rtol=1e-4, atol=1e-6):
        made = {"gamma": new * spread, "beta": shift + mean * new}
    elif change.node.op == "Add" and np.allclose(old, was[1], rtol=1e-4, atol=1e-5):
        made = {"beta": new + mean * factor}
    else:
        return None
    missing = {k: True for n, k in (("gamma", "scale"), ("beta", "center")) if n in made and n not in held}
    return Delta({k: np.broadcast_to(v, mean.shape).astype(np.float32) for k, v in made.items()}, missing)
