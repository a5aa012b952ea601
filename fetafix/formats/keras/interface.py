"""A Keras model's inputs and outputs under names that are its own, and unique."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. dtype: numpy's name ("float32" for bfloat16, which numpy lacks). shape: None is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def ports(model: Any) -> tuple[list[Port], list[Port]]:
    """(inputs, outputs). Raises ValueError where the model declares none."""
    inputs, outputs = _tensors(model, "inputs"), _tensors(model, "outputs")
    if not inputs or not outputs:
        raise ValueError(
            f"{type(model).__name__} {model.name!r} declares no inputs; expected a functional or sequential model, or "
            "one whose --arch factory builds it on keras.Input"
        )
    named = unique(t.name for t in inputs)
    labels = unique(t._keras_history[0].name for t in outputs)
    return (
        [_port(n, t) for n, t in zip(named, inputs, strict=True)],
        [_port(n, t) for n, t in zip(labels, outputs, strict=True)],
    )


def unique(names: Iterable[str]) -> list[str]:
    """The names, those that repeat numbered from 1 on."""
    made: list[str] = []
    for name in names:
        new, i = name, 1
        while new in made:
            new, i = f"{name}_{i}", i + 1
        made.append(new)
    return made


def _tensors(model: Any, side: str) -> list[Any]:
    try:
        return list(getattr(model, side) or ())
    except (AttributeError, ValueError):  # a model that was never called
        return []


def _port(name: str, tensor: Any) -> Port:
    dtype = str(tensor.dtype)
    return Port(name, "float32" if dtype == "bfloat16" else dtype, tuple(tensor.shape))
