"""How a repaired model's inputs are to be prepared.

A repair of the preprocessing changes no model, so it is handed over as an option of the command line and as a
configuration that `fetafix check -c` reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetafix import config
from fetafix.inputs.preprocess import ASSUMED
from fetafix.inputs.recipe import Preprocess, diff
from fetafix.options import RUNTIME, Options
from fetafix.session import Session


def wanted(session: Session, changes: Mapping[str, Any]) -> Preprocess:
    """The target's preprocessing with the changes of a repair."""
    return (session.samplings.target.preprocess or ASSUMED).changed(changes)


def option(preprocess: Preprocess) -> str:
    """The preprocessing as `--target-preprocess` takes it."""
    fields = (f"{k}={_text(v)}" for k, v in diff(Preprocess(), preprocess).items())
    return f"--target-preprocess \"{','.join(fields) or 'raw'}\""


def path_for(out: Path) -> Path:
    """Where the configuration lies: beside the repaired model."""
    return out.with_name(f"{out.name}.preprocess.yaml")


def write(session: Session, out: Path, changes: Mapping[str, Any]) -> Path:
    """Write the configuration of the source and the repaired model `out`. Raises OutputError."""
    path = path_for(out)
    folder = path.absolute().parent
    ours, theirs = session.samplings.source.preprocess or ASSUMED, wanted(session, changes)
    options, first = session.options, _relative(session.paths[0], folder)
    source = config.Model(model=first, preprocess=_fields(ours), **_opening(options, "source"))
    target = config.Model(model=out.name, preprocess=_fields(theirs), **_opening(options, "target"))
    data = options.data
    place = None if data is None else _relative(data, folder) if Path(data).exists() else str(data)
    config.save(config.Pair(source=source, target=target, data=place), path)
    return path


def _opening(options: Options, side: str) -> dict[str, Any]:
    """How a model wants to be opened and run, as the configuration says it."""
    return {k: getattr(options, f"{side}_{k}") for k in ("arch", *RUNTIME)}


def _fields(preprocess: Preprocess) -> dict[str, Any] | str:
    return diff(Preprocess(), preprocess) or "raw"


def _relative(path: str | Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(Path(path).absolute())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
