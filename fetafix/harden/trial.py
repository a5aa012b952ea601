"""The schemes that `auto` has ranked first, measured: hardened files, struck by the stress engine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from fetafix.errors import ConfigError, FetafixError, InputDataError
from fetafix.harden.asked import Wish
from fetafix.harden.report import Ranked
from fetafix.stress.options import StressOptions
from fetafix.stress.record import Cell
from fetafix.stress.run import stress

_TRIALS, _SAMPLES = "auto:60", 200


def measured(
    path: Path, rows: list[Ranked], candidates: Sequence[Ranked], wish: Wish
) -> tuple[list[Ranked], Ranked, str]:
    """(rows with what was measured, the best, why). Where nothing can be run, the first candidate, saying so."""
    from fetafix.harden.act import harden

    with tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        files = []
        try:
            for i, row in enumerate(candidates):
                place = Path(folder) / str(i)
                place.mkdir()
                one = replace(wish.by(row.scheme, row.granularity), data=None)  # type: ignore[arg-type]
                files.append(harden(path, place / path.name, one).out)
            report = stress(files, StressOptions(
                ber=f"{wish.design_ber:g}", data=wish.data, labels=wish.labels, samples=_SAMPLES, seed=wish.seed,
                preprocess=wish.preprocess, trials=_TRIALS, progress=wish.progress))
        except (ConfigError, InputDataError):  # the caller's to put right
            raise
        except FetafixError as error:
            return rows, candidates[0], f"not measured: {error}"
    cells = [s.cells[0] for s in report.subjects]
    told = {id(r): msgspec.structs.replace(r, measured=_words(c)) for r, c in zip(candidates, cells, strict=True)}
    place_of = max(range(len(cells)), key=lambda i: (*_merit(cells[i]), -i))
    best = told[id(candidates[place_of])]
    what = " and ".join(f"{r.scheme} a {r.granularity} {_words(c)}" for r, c in zip(candidates, cells, strict=True))
    where = f"measured on {report.samples} samples from {report.origin}"
    return [told.get(id(r), r) for r in rows], best, f"{where}: {what}"


def _merit(cell: Cell) -> tuple[float, float]:
    """What to prefer: the probability to survive, then the accuracy in the middle."""
    return round(cell.survival, 3), cell.median if cell.median is not None else cell.survival


def _words(cell: Cell) -> str:
    low, high = cell.bounds
    middle = f", median accuracy {cell.median:.1%}" if cell.median is not None else ""
    return f"survives {cell.survival:.1%} ({low:.1%} to {high:.1%}) of {cell.trials} trials{middle}"
