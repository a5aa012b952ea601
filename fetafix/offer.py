"""Where the target's own format cannot express a repair: the repaired ONNX view, written beside it and judged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from fetafix.errors import FetafixError
from fetafix.formats.base import OpenOptions
from fetafix.parallel import ModelProcess
from fetafix.repair import Group, Trial
from fetafix.session import Session


def unwritten(trial: Trial) -> list[Group]:
    """The groups that the target's format could not express."""
    return [g for i, g in enumerate(trial.groups) if i in trial.refused and trial.refused[i].status == "unsupported"]


def offer(session: Session, lifted: Path, trial: Trial, out: Path, write: bool) -> str:
    """Write all groups to the lifted ONNX model as `<out>.onnx` and judge it on the held-out samples; a note on it.

    Without `write` the file goes to the lift's own folder, which does not stay.
    """
    path = out.with_suffix(".onnx") if write else lifted.with_name("offer.onnx")
    if path.exists():
        return f"{path} exists already, so the repaired ONNX model was not written there"
    names = ", ".join(g.entry.code for g in unwritten(trial))
    try:
        figures = _judged(session, lifted, trial.groups, path)
    except FetafixError as error:
        return f"an ONNX model with the repairs that the target's format cannot express ({names}) fails: {error}"
    where = f"is {path}" if write else "would be written with --apply"
    which = f"all repairs, also those that the target's format cannot express ({names}),"
    return f"an ONNX model with {which} {where}: {figures}"


def _judged(session: Session, lifted: Path, groups: Sequence[Group], path: Path) -> str:
    options = OpenOptions(threads=session.threads)
    with closing(ModelProcess(lifted, options)) as model:
        model.write([e for g in groups for e in g.edits], path, lifted)
    with closing(ModelProcess(path, options)) as repaired:
        return session.judge("heldout", repaired).ruling.reason
