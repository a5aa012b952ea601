"""A struck file brought back without its source: by the code beside it, bit by bit, or else by a guard, with loss.

`repair` copies struck weights from the source where it can. Where it cannot (the source has none that correspond, or
the models cannot be looked into), these are tried on the target's own file, in this order, and kept only if the native
model then answers better.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fetafix.errors import FetafixError
from fetafix.formats import stored
from fetafix.graph.bitflips import bits_of
from fetafix.storage import sidecar
from fetafix.storage.outlying import guarded

_MOST_STRUCK = 0.05  # of a tensor: beyond it its range is not known


@dataclass(frozen=True, slots=True)
class Restored:
    """A copy with struck bytes mended. how: "sidecar" or "guard". tensors: name → elements (bytes) that changed."""

    path: Path
    how: str
    tensors: dict[str, int]
    words: str
    lossy: bool


def restorations(target: Path, folder: Path) -> Iterator[Restored]:
    """Mended copies of a model file in `folder`, the best first; none where nothing is seen to be struck."""
    for make in (by_sidecar, by_guard):
        try:
            made = make(target, folder)
        except (FetafixError, OSError):  # a form of file whose tensors are not addressable is left to the others
            continue
        if made is not None:
            yield made


def hint(target: Path) -> list[str]:
    """What to do about a target that does not even open: a note for the report, or none."""
    beside = target.with_name(target.name + sidecar.SUFFIX)
    if not beside.is_file():
        return []
    return [f"beside the target lies {beside.name}, which restores it bit by bit where no more bits flipped than it "
            f"mends: fetafix harden --restore {target} -o FILE, then repair FILE"]


def by_sidecar(target: Path, folder: Path) -> Restored | None:
    """What the Reed-Solomon code beside the file makes of it; None where there is none, or nothing is struck."""
    beside = target.with_name(target.name + sidecar.SUFFIX)
    if not beside.is_file():
        return None
    copy = _copied(target, folder, "sidecar")
    with copy.open("wb") as out:
        done = sidecar.mend(target, beside, out)
    if not done.mended:
        return None
    left = "" if done.exact else f"; {done.lost} codewords hold more errors than it mends and stay as they are"
    what = "restored bit by bit" if done.exact else "restored in part"
    return Restored(copy, "sidecar", _changed(target, copy), f"{what} from {beside.name}: {done.mended} codewords "
                    f"mended{left}", not done.exact)


def _changed(struck: Path, mended: Path) -> dict[str, int]:
    """Tensors whose bytes differ, and how many elements; {} for a form of file that does not tell."""
    try:
        tensors = [t for t in stored.held(mended) if t.path == mended]
        pairs = ((t.name, stored.read(t, struck), stored.read(t)) for t in tensors)
        counts = {name: int(np.count_nonzero(bits_of(a) != bits_of(b))) for name, a, b in pairs}
    except FetafixError:
        return {}
    return {name: count for name, count in counts.items() if count}


def by_guard(target: Path, folder: Path) -> Restored | None:
    """Floats that stand out of their tensor, or are no numbers, as 0; None where there are none."""
    struck: dict[str, int] = {}
    changes = []
    for tensor in stored.held(target):
        if tensor.path != target or not tensor.floating:
            continue
        values, count = guarded(stored.read(tensor))
        if 0 < count <= max(1, _MOST_STRUCK * tensor.size):
            struck[tensor.name] = count
            changes.append((tensor, values))
    if not changes:
        return None
    copy = _copied(target, folder, "guard")
    stored.patch_all(copy, changes)
    total = sum(struck.values())
    words = (f"set {total} values out of range or not finite to 0, in {len(struck)} tensors (lossy: what they were is "
             "gone)")
    return Restored(copy, "guard", struck, words, True)


def _copied(target: Path, folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return Path(shutil.copy(target, place / target.name))
