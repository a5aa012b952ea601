"""A repaired ONNX view converted to the target's own format again, judged natively before anybody is offered it.

The routes are those of `fetafix convert`, each step in a process of its own; several are tried, and the first model
that passes, else the best one, is the candidate. A converter that fails, or is missing, is a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.convert.attempt import Attempts
from fetafix.convert.kinds import SUFFIXES, Target, kind_of_format
from fetafix.convert.report import StepReport
from fetafix.convert.routes import Route, plan
from fetafix.convert.samples import Files
from fetafix.errors import FetafixError
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.repair import better
from fetafix.report import ModelInfo
from fetafix.session import Session

_ROUTES = 3
_CALIBRATION = 50
_STEP_SECONDS = 900.0
_WORDS = 400  # characters of a failure, which can be a whole traceback


@dataclass(frozen=True, slots=True)
class Converted:
    """A model that a route led to, as it judges on the held-out samples. converters: in order, with their options."""

    path: Path
    info: ModelInfo
    converters: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all routes. model: the best, None where none led to one; `why` says then what is in the way.

    format: what it was, or would have been, converted to.
    """

    format: str
    model: Converted | None = None
    why: str = ""


def suffix(target: ModelInfo) -> str:
    """What a re-conversion of this target's name ends with; that of the format for a state dict, else the target's."""
    kind = kind_of_format(target.path, target.format)
    return SUFFIXES["torchscript"] if kind == "state_dict" else Path(target.path).suffix or SUFFIXES[kind]


def reconvert(session: Session, repaired: Path, folder: Path, preprocess: Any = None) -> Outcome:
    """Convert the ONNX model `repaired` to the format of the session's target, along routes until one passes.

    folder: where to work; what is made stays there. preprocess: of the repaired model's inputs, where that changed.
    What a converter or its model does raises nothing.
    """
    target = _target(session)
    routes = [_as_they_are(r) for r in plan("onnx", target)]
    usable = [r for r in routes if not _missing(r)]
    if not usable:
        why = _missing(routes[0]) if routes else f"no converter leads from ONNX to {target.name}"
        return Outcome(target.name, why=why)
    folder.mkdir()
    attempts = Attempts(repaired, folder, _samples(session, folder), _STEP_SECONDS, {"threads": session.threads})
    best: Converted | None = None
    failures: list[str] = []
    for found in _tried(session, usable[:_ROUTES], attempts, preprocess):
        if isinstance(found, str):
            failures.append(found)
        elif best is None or better(found.judgement, best.judgement):
            best = found
    return Outcome(target.name, best, "" if best else _nothing(failures))


def _nothing(failures: Sequence[str]) -> str:
    count = "1 route was" if len(failures) == 1 else f"{len(failures)} routes were"
    first = " ".join(failures[0].split())
    told = first if len(first) <= _WORDS else f"{first[:_WORDS]} …"
    return f"{count} tried, and none led to a model that runs; the first: {told}"


def _target(session: Session) -> Target:
    """The target's own format and precision. A bare state dict has no code of its own: TorchScript carries it along."""
    kind = kind_of_format(session.paths[1], session.target_info.format)
    if kind == "state_dict":
        return Target("torchscript")
    return Target(kind, _precision(session.target_info) if kind == "tflite" else "")


def _precision(info: ModelInfo) -> str:
    """Of the weights, as the converters name it; "" for float32, and for activations in codes, which no converter
    takes over from an ONNX model.
    """
    details = info.details
    dtypes, operators = details.get("dtypes", {}), details.get("operators", {})
    if "QUANTIZE" in operators or details.get("quantised_inputs"):
        return ""
    return "fp16" if "float16" in dtypes else "dynamic" if "int8" in dtypes else ""


def _as_they_are(route: Route) -> Route:
    """The route, told to leave the inputs' layout alone: it is the target's own already."""
    changed = (replace(s, options={**s.options, "inputs": "as they are"}) if s.converter.command else s
               for s in route.steps)
    return replace(route, steps=tuple(changed))


def _missing(route: Route) -> str:
    return next((m for s in route.steps if (m := s.converter.missing())), "")


def _samples(session: Session, folder: Path) -> Files:
    """The target's own samples of the search set: nothing held out is shown to a converter."""
    files = Files(folder / "example.npz", folder / "calibration.npz")
    _, theirs = session.feeds("search", 2)
    _, several = session.sets("search", _CALIBRATION)
    np.savez(files.example, **{n: np.asarray(v) for n, v in theirs.items()})  # type: ignore[arg-type]
    np.savez(files.calibration, **{n: np.asarray(v) for n, v in several.arrays.items()})  # type: ignore[arg-type]
    return files


def _tried(session: Session, routes: list[Route], attempts: Attempts, preprocess: Any) -> Iterator[Converted | str]:
    """What each route leads to, or why it leads to nothing, up to the first model that passes."""
    for route in routes:
        session.options.progress(f"converting again: {route.describe()}", 0, None)
        path, steps = attempts.run(route)
        if path is None:
            yield _failure(steps)
            continue
        try:
            info, judgement = judged(session, path, preprocess)
        except FetafixError as error:
            yield f"what {steps[-1].converter} makes fails: {str(error).removeprefix(f'{path}: ')}"
            continue
        yield Converted(path, info, ", then ".join(s.converter for s in steps), judgement)
        if judgement.ruling.passed:
            return


def judged(session: Session, path: Path, preprocess: Any = None) -> tuple[ModelInfo, Judgement]:
    """A model in the target's place, natively, on the held-out samples."""
    opening = replace(session.opening("target"), arch=None, signature=None)
    with closing(ModelProcess(path, opening)) as process:
        return process.info(), session.judge("heldout", process, preprocess)


def _failure(steps: list[StepReport]) -> str:
    failed = next(s for s in steps if s.status not in ("done", "not run"))
    return f"{failed.converter}, {failed.status}: {failed.message}"
