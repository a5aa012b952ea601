"""Weights of a state dict (torch.save or safetensors) in a form in which faults in storage do less harm.

Under a weight's own name lies what is stored; beside it `NAME.fetafix_factor` and `NAME.fetafix_bound`, three copies
each, (3, …) in a shape that broadcasts over the weight. Beside a bias and the like lie two more copies,
`NAME.fetafix_copies`. A loader of a few lines, `LOADER`, makes the state dict of it.
`load_state_dict` casts float32 to whatever the module computes in, which is exact for what was stored in less.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fetafix.errors import OutputError, UnreadableModel, UsageError
from fetafix.formats.staging import staging
from fetafix.formats.torch import safetensors as torch_safetensors
from fetafix.formats.torch import state as torch_state
from fetafix.ir import Array
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import BFLOAT16, Form, formed, read, spread32, vote

FACTOR, BOUND, COPIES, MARK = ".fetafix_factor", ".fetafix_bound", ".fetafix_copies", "fetafix.harden"
_OWN = (FACTOR, BOUND, COPIES)
Choose = Callable[[Held, Array], "Plan | str"]
LOADER = '''"""Load weights that fetafix has hardened: model.load_state_dict(load("FILE")). Needs torch and numpy."""
import json

import numpy as np
import torch


def load(path):
    """The state dict of a hardened file, safetensors or torch.save."""
    raw = safetensors(path) if open(path, "rb").read(9)[8:] == b"{" else torch.load(path, weights_only=True)
    raw = raw.get(raw.get("fetafix.harden", {}).get("wrapper") or "", raw)
    state = {}
    for name, value in raw.items():
        if ".fetafix_" in name or not isinstance(value, torch.Tensor):
            continue
        factor, bound = raw.get(name + ".fetafix_factor"), raw.get(name + ".fetafix_bound")
        if name + ".fetafix_copies" in raw:
            value = vote((value, *raw[name + ".fetafix_copies"]))
        if factor is not None or bound is not None:
            value = value.float()
        if factor is not None:
            value = value * vote(factor)
        if bound is not None:  # what is out of range, or NaN, becomes 0
            value = torch.where(value.abs() <= vote(bound), value, torch.zeros(()))
        state[name] = value
    return state


def vote(copies):
    """What two of three copies say."""
    return torch.where(copies[0] == copies[1], copies[0], copies[2])


def safetensors(path):
    """The tensors of a safetensors file."""
    data = np.fromfile(path, np.uint8)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    kinds = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
             "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            flat = torch.from_numpy(data[begin:end].copy()).view(getattr(torch, kinds[entry["dtype"]]))
            tensors[name] = flat.reshape(entry["shape"])
    return tensors
'''


@dataclass(slots=True)
class Protected:
    """What was done. changed: weights that are stored anew; left: (tensor, why not). notes: what else to know.

    voted: constants that have three copies now.
    """

    changed: list[str] = field(default_factory=list)
    voted: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A weight that is read from what is stored: codes, float32 as read."""

    name: str
    codes: Array
    form: Form
    voted: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is stored."""
        return self.codes.dtype

    def values(self) -> Array:
        """What is read."""
        return read(self.codes, self.form)


def protect(
    path: Path, out: Path, choose: Choose, mark: Mapping[str, Any], constants: bool = False
) -> Protected:
    """Write the state dict at `path` to `out`, each weight as `choose` plans it, or left for the reason that it gives.

    constants: whether biases, statistics and the like are stored three times, too. Raises UsageError where the file is
    protected already, UnreadableModel where it is none, OutputError where `out` cannot be
    written.
    """
    container, wrapper, tensors = _opened(path)
    if marked(path) or any(k.endswith(_OWN) for k in tensors):
        raise UsageError(f"{path}: its weights are protected already; fetafix harden --restore {path} -o OUT takes the "
                         "protection off")
    done, state = Protected(), dict(tensors)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            if constants and bool(tensor.isfinite().all()):  # NaN equals nothing, not even itself
                state[name + COPIES] = tensor.detach()[None].expand(2, *tensor.shape).contiguous()
                done.voted.append(name)
            continue
        values = _array(tensor)
        held = Held(name, "weight", values.dtype, tuple(values.shape), path, (), 0)
        plan = choose(held, values.astype(np.float32))
        if isinstance(plan, str):
            done.left.append((name, plan))
            continue
        stored, form = formed(values.astype(np.float32), plan)
        if form.factor is None and form.bound is None and stored.dtype == values.dtype:
            done.left.append((name, "its values fill the format already: scaling by 1 changes nothing"))
            continue
        state[name] = _tensor(stored)
        for suffix, constant in ((FACTOR, form.factor), (BOUND, form.bound)):
            if constant is not None:
                laid = spread32(constant, stored.ndim, form.axis)
                state[name + suffix] = _tensor(np.stack([laid] * 3))
        done.changed.append(name)
    _save(path, out, container, wrapper, state, {**mark, "wrapper": wrapper})
    return done


def weights(path: Path) -> Iterator[tuple[Held, Array]]:
    """The float tensors of two dimensions or more, with their values."""
    for name, tensor in _opened(path)[2].items():
        if tensor.ndim >= 2 and tensor.is_floating_point():
            values = _array(tensor)
            yield Held(name, "weight", values.dtype, tuple(values.shape), path, (), 0), values


def recognise(path: Path) -> list[Reading]:
    """The protected weights of a state dict; none where it holds none."""
    _, _, tensors = _opened(path)
    found = []
    for name, tensor in tensors.items():
        copies = [tensors.get(name + s) for s in (FACTOR, BOUND)]
        if any(c is not None for c in copies):
            flat = [None if c is None else vote(_array(c)) for c in copies]
            found.append(Reading(name, _array(tensor), _form(flat, tuple(tensor.shape)), True))
    return found


def marked(path: Path) -> bool:
    """Whether the file says that it was hardened, whatever its tensors are now."""
    if torch_safetensors.is_file(path):
        return MARK in torch_safetensors.metadata(path)
    found = torch_state.container(path)
    return isinstance(found, Mapping) and MARK in found


def tensors_of(path: Path) -> dict[str, Array]:
    """All tensors by name, as numpy arrays (ml_dtypes' for bfloat16), as they are read."""
    _, _, tensors = _opened(path)
    found = {r.name: r.values() for r in recognise(path)} | _voted(tensors)
    return {k: found[k] if k in found else _array(v) for k, v in tensors.items() if not k.endswith(_OWN)}


def constants_of(path: Path) -> list[str]:
    """The names of the constants that have three copies."""
    return list(_voted(_opened(path)[2]))


def _voted(tensors: Mapping[str, Any]) -> dict[str, Array]:
    """Constants as a majority of their copies has them."""
    pairs = ((k, v, tensors.get(k + COPIES)) for k, v in tensors.items())
    return {k: vote(np.stack([_array(v), *_array(others)])) for k, v, others in pairs if others is not None}


def restore(path: Path, out: Path) -> int:
    """Write the plain state dict, weights as they are read; how many were protected."""
    container, wrapper, tensors = _opened(path)
    readings = {r.name: r for r in recognise(path)}
    values = {k: r.values() for k, r in readings.items()} | _voted(tensors)
    state = {k: _tensor(values[k]) if k in values else v for k, v in tensors.items() if not k.endswith(_OWN)}
    _save(path, out, container, wrapper, state, None)
    return len(values)


def _opened(path: Path) -> tuple[Any, str, dict[str, Any]]:
    container = torch_state.container(path)
    wrapper, tensors = torch_state.unwrap(container, path)
    return container, wrapper, dict(tensors)




def _form(constants: list[Array | None], shape: tuple[int, ...]) -> Form:
    axes = {i for c in constants if c is not None for i, n in enumerate(c.shape) if n != 1}
    flat = [None if c is None else c.reshape(-1) if c.size > 1 else c.reshape(()) for c in constants]
    if len(axes) > 1 or any(c is not None and c.ndim != len(shape) for c in constants):
        raise UnreadableModel(f"protected constants of the shapes {[c.shape for c in constants if c is not None]} do "
                              f"not fit a weight of shape {shape}")
    return Form(flat[0], flat[1], next(iter(axes), None))


def _array(tensor: Any) -> Array:
    import torch

    plain = tensor.detach().contiguous()
    if plain.dtype == torch.bfloat16:
        return np.asarray(plain.view(torch.int16).numpy()).view(BFLOAT16)
    return np.asarray(plain.numpy())


def _tensor(values: Array) -> Any:
    import torch

    held = np.ascontiguousarray(values).reshape(values.shape)
    if held.dtype == np.dtype(ml_dtypes.bfloat16):
        return torch.from_numpy(held.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(held.copy())


def _save(
    path: Path, out: Path, container: Any, wrapper: str, state: dict[str, Any], mark: Mapping[str, Any] | None
) -> None:
    import torch

    if out.exists() and out.samefile(path):
        raise OutputError(f"{out}: this is the original model, which is never changed; choose another output")
    with staging(out) as folder:
        file = folder / out.name
        if torch_safetensors.is_file(path):
            about = {k: v for k, v in torch_safetensors.metadata(path).items() if k != MARK}
            torch_safetensors.save(state, file, about | ({MARK: json.dumps(mark)} if mark else {}))
        else:
            content = {**{k: v for k, v in container.items() if k != MARK}, wrapper: state} if wrapper else state
            torch.save({**content, MARK: dict(mark)} if mark else content, file)
        os.replace(file, out)
