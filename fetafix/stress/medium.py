"""A copy of a model file whose storage is struck in place, and undone again: what one trial changes and no more.

    with Medium(wanted) as medium:
        medium.strike(positions)       the copy now holds what is read after these flips
        medium.heal()                  and now it is whole again

Bytes of the file are struck by XOR. Where weights are stored in another form (`schemes.Plan`), their codes are struck,
and what the protection reads of those is written into the copy, in the file's own dtype: of the weights struck alone.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fetafix import formats
from fetafix.errors import UsageError
from fetafix.formats import checksums, stored
from fetafix.storage.holding import Held
from fetafix.storage.left_over import check_bits, left_over
from fetafix.storage.schemes import Plan, Stored, load, store
from fetafix.stress.options import Storing
from fetafix.stress.record import Storage
from fetafix.stress.tables import Bytes, Codes, cast

Array = npt.NDArray[Any]
_WHOLE = "file"
_AS_IS = Storing()
_CHECKED = ("keras", "saved_model")  # formats whose runtime verifies checksums
_ROLES = {"weights": ("weight",), "constants": ("constant",), "tensors": ("weight", "constant")}


@dataclass(frozen=True, eq=False)
class Part:
    """A row of bits that flips strike. tensor: None for bytes of a file as such. kept: how weights are stored, or None
    for the file's own bytes. bits: how many there are.
    """

    path: Path
    pieces: tuple[tuple[int, int], ...]
    bits: int
    tensor: Held | None = None
    kept: Stored | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be struck in one model file: its parts, in order, their bits one after the other.

    path: the model. checked: whether the format keeps checksums of what is struck, which are renewed as if the storage
    behind them had none. checks: check bytes of each Reed-Solomon codeword behind the parts, 0 for none; they are
    struck like the rest, and what they can mend is whole before it is read.
    """

    path: Path
    storage: Storage
    parts: tuple[Part, ...]
    checked: bool = False
    checks: int = 0

    @property
    def bits(self) -> int:
        """Bits in storage, check bytes included."""
        return self.storage.bits

    def read_wrong(self, where: Array) -> Array:
        """Which bits of the parts are wrong when they are read, of flips at these bits in storage."""
        return left_over(where, sum(p.bits for p in self.parts), self.checks) if self.checks else where

    @cached_property
    def edges(self) -> Array:
        """Where each part's bits begin, and the end, int64 (parts + 1,)."""
        return np.concatenate([[0], np.cumsum([p.bits for p in self.parts])]).astype(np.int64)

    @cached_property
    def coded(self) -> Array:
        """Which parts are stored in another form, bool (parts,)."""
        return np.asarray([p.kept is not None for p in self.parts], bool)

    @cached_property
    def tables(self) -> tuple[Bytes | None, Codes | None]:
        """Where the bits of the other parts, and of those, lie."""
        starts = self.edges[:-1]
        plain, coded = ([p for p in self.parts if (p.kept is not None) == kind] for kind in (False, True))
        return (Bytes(plain, starts[~self.coded].tolist()) if plain else None,
                Codes(coded, starts[self.coded].tolist()) if coded else None)


def target(
    path: Path, scope: str = "weights", storing: Storing = _AS_IS, granularity: str = "tensor"
) -> Target:
    """What flips strike in a model file, which is a copy already (`stored.copy`).

    granularity: "channel" takes each tensor's own axis of output channels. Raises UsageError where nothing lies there.
    """
    if scope == _WHOLE:
        return _file(path, storing)
    plan = storing.plan
    wanted = [h for h in stored.held(path) if h.role in _ROLES[scope]]
    if not wanted:
        raise UsageError(f"{path}: holds no {scope} that flips could strike; try another --scope")
    if plan is not None and not any(h.floating for h in wanted):
        raise UsageError(f"{path}: its {scope} are integers ({wanted[0].dtype.name}) already, which no --dtype or "
                         "--scheme stores otherwise; take --dtype keep, which strikes them as they are")
    both = scope == "tensors"  # constants beside weights stay as the file has them
    parts = tuple(_part(h, None if both and h.role == "constant" else plan, granularity) for h in wanted)
    storage = Storage(
        scope=scope, dtype=storing.dtype, scheme=storing.scheme, granularity=granularity, tensors=len(parts),
        values=sum(h.size for h in wanted), bits=_bits(parts, storing.checks),
        mixed=0 if plan is None else sum(p.kept is None for p in parts))
    return Target(path, storage, parts, formats.recognise(path) in _CHECKED, storing.checks)


def _bits(parts: Sequence[Part], checks: int) -> int:
    """In storage, check bytes included."""
    data = sum(p.bits for p in parts)
    return data + check_bits(data, checks) if checks else data


def _file(path: Path, storing: Storing) -> Target:
    if storing.plan is not None:
        raise UsageError("--scope file strikes the file's own bytes, so --dtype is keep, and --scheme none or rs")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        files = list(dict.fromkeys([path, *(h.path for h in _held_or_none(path))]))
    parts = tuple(Part(f, ((0, f.stat().st_size),), 8 * f.stat().st_size) for f in files if f.stat().st_size)
    storage = Storage(scope=_WHOLE, scheme=storing.scheme, bits=_bits(parts, storing.checks))
    return Target(path, storage, parts, checks=storing.checks)


def _held_or_none(path: Path) -> list[Held]:
    """Tensors, for the files that they lie in; none where the format does not tell."""
    from fetafix.errors import UnreadableModel

    try:
        return stored.held(path)
    except UnreadableModel:
        return []


def _part(tensor: Held, plan: Plan | None, granularity: str) -> Part:
    if plan is None or not tensor.floating:
        return Part(tensor.path, tensor.pieces, 8 * tensor.nbytes, tensor)
    own = replace(plan, axis=tensor.axis if granularity == "channel" else None)
    kept = store(stored.read(tensor).astype(np.float32), own)
    return Part(tensor.path, tensor.pieces, kept.bits, tensor, kept)


def encode(wanted: Target) -> None:
    """Write into the copy what is read of the stored encoding without a fault."""
    by_file: dict[Path, list[tuple[Held, Array]]] = {}
    for part in wanted.parts:
        if part.kept is not None and part.tensor is not None:
            by_file.setdefault(part.path, []).append((part.tensor, cast(load(part.kept), part.tensor)))
    for path, changes in by_file.items():
        stored.patch_all(path, changes)


class Medium:
    """A target's files, or those of another copy of its folder, mapped for writing. Raises OSError where they are not.

    path: the model in that copy.
    """

    def __init__(self, wanted: Target, folder: Path | None = None) -> None:
        self._target, self._folder = wanted, folder or wanted.path.parent
        self.path = self._here(wanted.path)
        self._open = ExitStack()
        self._bytes = {p: self._map(p) for p in dict.fromkeys(part.path for part in wanted.parts)}
        self._undo: list[tuple[Path, Array, Array]] = []

    def _here(self, path: Path) -> Path:
        return self._folder / path.relative_to(self._target.path.parent)

    def _map(self, path: Path) -> Array:
        file = self._open.enter_context(self._here(path).open("r+b"))
        mapped = mmap.mmap(file.fileno(), 0)
        return np.frombuffer(mapped, np.uint8)

    def strike(self, where: Array) -> None:
        """Flip bits: sorted, distinct positions among the target's bits, int64 (flips,)."""
        where = self._target.read_wrong(where)
        coded = self._target.coded[np.searchsorted(self._target.edges, where, "right") - 1]
        for table, own in zip(self._target.tables, (where[~coded], where[coded]), strict=True):
            for change in table.changes(own) if table is not None and own.size else ():
                held = self._bytes[change.path]
                old = held[change.at]
                self._undo.append((change.path, change.at, old))
                held[change.at] = old ^ change.new if change.mask else change.new
        self._settle()

    def heal(self) -> None:
        """Undo the last strike."""
        for path, at, old in self._undo:
            self._bytes[path][at] = old
        self._settle()
        self._undo.clear()

    def _settle(self) -> None:
        if self._target.checked:
            for path, at, _ in self._undo:
                checksums.renew(self._here(path), at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bytes.clear()
        self._undo.clear()
        self._open.close()
