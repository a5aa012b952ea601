"""From a pair of fetafix.yaml to the options of `check`, `localize` and `repair`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fetafix.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from fetafix.config import Pair

OF_PAIR = ("data", "samples", "seed", "rounds", "batch", "threads", "gate", "max_mismatch", "confidence", "task",
           "search")
OF_SIDES = ("preprocess", "arch", "device", "provider", "optimise", "signature")
OF_ONE_SIDE = ("threads",)  # what the pair has as well


def options(pair: Pair) -> dict[str, Any]:
    """What a pair says, by the names of `Options`; what it leaves out is left to the defaults."""
    found = {k: getattr(pair, k) for k in OF_PAIR if getattr(pair, k) is not None}
    for side, model in zip(("source", "target"), pair.models(), strict=True):
        own = {k: getattr(model, k) for k in (*OF_SIDES, *OF_ONE_SIDE)}
        if isinstance(own["optimise"], bool):
            own["optimise"] = "all" if own["optimise"] else "none"
        found |= {f"{side}_{k}": v for k, v in own.items() if v is not None}
    more: Mapping[str, Any] = {"trust": pair.trust, "tolerance": dict(pair.tolerance), "accept": tuple(pair.accept)}
    return found | {k: v for k, v in more.items() if v}


def check(pair: Pair, path: str) -> None:
    """Raise ConfigError that names the file, where what the configuration keeps as plain data makes no sense."""
    from fetafix.inputs.recipe import parse
    from fetafix.judge.tasks.choice import wishes

    for side, model in zip(("source", "target"), pair.models(), strict=True):
        try:
            parse(model.preprocess or "raw")
        except ConfigError as error:
            raise ConfigError(f"{path}: {side}: {error}") from error
    try:
        wishes(pair.task)
    except UsageError as error:
        raise ConfigError(f"{path}: task: {error}") from error
