"""From the command line and fetafix.yaml to one request: which models, and the options that were given.

The command line wins over the file; what neither gives is left to the API's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from fetafix.config import Pair

_FILE = "fetafix.yaml"
_PAIR = ("data", "samples", "seed", "rounds", "batch", "threads", "gate", "max_mismatch", "confidence", "task",
         "search")
_SIDES = ("preprocess", "arch", "device", "provider", "optimise", "signature")
_ALONE = ("threads",)  # what the pair has as well


@dataclass(frozen=True)
class Request:
    """The two models and the options that somebody gave, by the names of the API's options."""

    source: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)


def request(given: Mapping[str, Any]) -> Request:
    """The request of a command's parameters. Raises click.UsageError where models are missing, ConfigError."""
    source, target = given.get("source"), given.get("target")
    if source and not target:
        raise click.UsageError(f"only one model given ({source}); a source and a target are needed")
    pair = _pair(given, needed=not source)
    options: dict[str, Any] = {}
    if pair is not None:
        options = _from_pair(pair)
        first, second = pair.models()
        source, target = source or first.model, target or second.model
    options |= {k: given[k] for k in _PAIR if given.get(k) not in (None, ())}
    given = {**given, **{k.removesuffix("_off"): "none" for k, v in given.items() if k.endswith("optimise_off") and v}}
    for key in _SIDES:
        for side in ("source", "target"):
            value = given.get(f"{side}_{key}") or given.get(key)
            if value is not None:
                options[f"{side}_{key}"] = value
    options |= {k: given[k] for key in _ALONE for side in ("source", "target")
                if given.get(k := f"{side}_{key}") is not None}
    if given.get("trust"):
        options["trust"] = True
    if given.get("keep_worst"):
        options["keep_worst"] = given["keep_worst"]
    return Request(str(source), str(target), options)


def _pair(given: Mapping[str, Any], needed: bool) -> Pair | None:
    path = given.get("config")
    if path is None and needed and Path(_FILE).is_file():
        path = _FILE
    if path is None:
        if needed:
            raise click.UsageError(f"no models given, and there is no {_FILE} here: name a source and a target")
        return None
    from fetafix import config

    pair = config.load(path).pair(given.get("pair"))
    _check_preprocessing(pair, str(path))
    _check_task(pair, str(path))
    return pair


def _check_preprocessing(pair: Pair, path: str) -> None:
    """The configuration keeps preprocessing as plain data: what is wrong with it is to name the file, too."""
    from fetafix.inputs.recipe import parse

    for side, model in zip(("source", "target"), pair.models(), strict=True):
        try:
            parse(model.preprocess or "raw")
        except ConfigError as error:
            raise ConfigError(f"{path}: {side}: {error}") from error


def _check_task(pair: Pair, path: str) -> None:
    """So it does what outputs are for."""
    if pair.task is not None:
        from fetafix.judge.tasks.choice import wishes

        try:
            wishes(pair.task)
        except UsageError as error:
            raise ConfigError(f"{path}: task: {error}") from error


def _from_pair(pair: Pair) -> dict[str, Any]:
    options = {k: getattr(pair, k) for k in _PAIR if getattr(pair, k) is not None}
    source, target = pair.models()
    for side, model in (("source", source), ("target", target)):
        own = {k: getattr(model, k) for k in (*_SIDES, *_ALONE)}
        if isinstance(own["optimise"], bool):
            own["optimise"] = "all" if own["optimise"] else "none"
        options |= {f"{side}_{k}": v for k, v in own.items() if v is not None}
    if pair.trust:
        options["trust"] = True
    if pair.tolerance:
        options["tolerance"] = dict(pair.tolerance)
    if pair.accept:
        options["accept"] = tuple(pair.accept)
    return options
