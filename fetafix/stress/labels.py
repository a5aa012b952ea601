"""Labels of samples: from folders of classes, or from a file.

    class folders   DATA/<class>/…: a class is the folder's number where all are numbers, else its place in the order of
                    names, which counts only where there are as many folders as classes
    .npy            whole numbers (N,), in the order of the data (images: of their paths)
    .txt, .csv      a label a line in that order, or "name,label" (or "name label") by an image's path or file name

Whatever fits none of these is refused with what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fetafix.errors import InputDataError
from fetafix.ir import Array

_PAIR = re.compile(r"(.*?)[,;\t ]\s*(-?\d+)$")


@dataclass(frozen=True)
class Labels:
    """The classes of some samples, int64 (N,), and where they come from, for the report."""

    values: Array
    origin: str


def of_folders(names: Sequence[str], classes: int, folder: str) -> Labels | None:
    """Labels of images by the folder that each lies in; None where folders tell no classes.

    names: paths below the data's folder, of all images, used or not: the order of classes rests on them.
    """
    parents = [PurePosixPath(name).parent.as_posix() for name in names]
    kinds = sorted(set(parents))
    if "." in kinds or len(kinds) < 2:  # a single folder tells nothing apart
        return None
    last = {kind: PurePosixPath(kind).name for kind in kinds}
    if all(name.isdecimal() for name in last.values()) and all(int(name) < classes for name in last.values()):
        table = {kind: int(name) for kind, name in last.items()}
    elif len(kinds) == classes:
        table = {kind: i for i, kind in enumerate(kinds)}
    else:
        return None
    return Labels(np.asarray([table[p] for p in parents], np.int64), f"{len(kinds)} class folders in {folder}")


def of_file(path: Path, names: Sequence[str] | None, count: int) -> Labels:
    """Labels from a file, for `count` samples. names: of images, for files that tell them. Raises InputDataError."""
    if not path.is_file():
        raise InputDataError(f"{path}: there is no such file of labels")
    with path.open("rb") as file:
        numpy = file.read(6) == b"\x93NUMPY"
    values = _array(path, count) if numpy else _text(path, names, count)
    if values.min(initial=0) < 0:
        raise InputDataError(f"{path}: labels are numbers of classes, counted from 0; found {int(values.min())}")
    return Labels(values, str(path))


def _array(path: Path, count: int) -> Array:
    values: Array = np.load(path, allow_pickle=False)
    values = values.reshape(-1) if values.ndim > 1 and values.size == len(values) else values
    if values.ndim != 1 or values.dtype.kind not in "iu" or len(values) != count:
        raise InputDataError(f"{path}: expected {count} whole numbers, a label for each sample of the data, found "
                             f"{values.dtype}{list(values.shape)}")
    return values.astype(np.int64)


def _text(path: Path, names: Sequence[str] | None, count: int) -> Array:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputDataError(f"{path}: expected labels as .npy, .txt or .csv, found another kind of file") from None
    if lines and all(re.fullmatch(r"-?\d+", line) for line in lines):
        if len(lines) != count:
            raise InputDataError(f"{path}: expected {count} lines, a label for each sample of the data, found "
                                 f"{len(lines)}; or give 'name,label' lines")
        return np.asarray([int(line) for line in lines], np.int64)
    pairs = [_PAIR.fullmatch(line) for line in lines]
    if pairs and pairs[0] is None:  # a heading
        pairs = pairs[1:]
    odd = next((line for line, pair in zip(lines[-len(pairs):], pairs, strict=True) if pair is None), None)
    if odd is not None or not pairs:
        raise InputDataError(f"{path}: expected lines 'name,label' with a whole number, found {odd!r}")
    if names is None:
        raise InputDataError(f"{path}: tells labels by names of files, but the data has none; give a label a line")
    return _by_name(path, {p[1].strip().strip('"'): int(p[2]) for p in pairs if p is not None}, names)


def _by_name(path: Path, table: dict[str, int], names: Sequence[str]) -> Array:
    """Labels by path below the data's folder; by file name alone where the table says so and only one image has it."""
    owners: dict[str, str] = {}
    for name in names:
        short = PurePosixPath(name).name
        first = owners.setdefault(short, name)
        if first != name and short in table and not {first, name} <= set(table):
            raise InputDataError(f"{path}: {short!r} may be {first!r} and {name!r}; give their paths")
    found = [table.get(n, table.get(PurePosixPath(n).name, -1)) for n in names]
    missing = [n for n, label in zip(names, found, strict=True) if label < 0]
    if missing:
        raise InputDataError(f"{path}: has no label for {len(missing)} of {len(names)} images, such as {missing[0]!r}")
    return np.asarray(found, np.int64)
