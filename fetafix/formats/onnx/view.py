"""The file of an ONNX view: the model, which of its tensors hold native values, and the batch it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from fetafix.ir import Array

_KEY = "fetafix.taps"
_EXAMPLE = "example.npz"


@dataclass(frozen=True, slots=True)
class Taps:
    """Native value → ONNX tensor, in native order. Several values share a tensor where one is only an alias.

    layouts: native value → the permutation of its axes that gives the ONNX tensor, where that is not the same.
    """

    tensors: Mapping[str, str]
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def save(model: onnx.ModelProto, taps: Taps, folder: Path, example: Mapping[str, Array]) -> Path:
    """Write the ONNX view, the correspondence and the example batch into `folder`."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _KEY, json.dumps([dict(taps.tensors), dict(taps.layouts)])
    path = folder / "lifted.onnx"
    large = model.ByteSize() > 1_800_000_000
    onnx.save(model, str(path), save_as_external_data=large, location="lifted.onnx.data" if large else None)
    np.savez(folder / _EXAMPLE, allow_pickle=False, **dict(example))
    return path


def load_taps(lifted: Path) -> Taps:
    """The correspondence kept in a lifted file; empty where it holds none."""
    model = onnx.load(str(lifted), load_external_data=False)
    found = next((p.value for p in model.metadata_props if p.key == _KEY), "[{}, {}]")
    tensors, layouts = json.loads(found)
    return Taps(tensors, {k: tuple(v) for k, v in layouts.items()})


def load_example(lifted: Path) -> dict[str, Array] | None:
    """The batch that the view was made with, or None where it is gone."""
    path = lifted.parent / _EXAMPLE
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
