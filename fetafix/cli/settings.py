"""From the command line and fetafix.yaml to one request: which models, and the options that were given.

The command line wins over the file; what neither gives is left to the API's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fetafix.config import Pair

FILE = "fetafix.yaml"


@dataclass(frozen=True)
class Request:
    """The two models and the options that somebody gave, by the names of the API's options."""

    source: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)


def request(given: Mapping[str, Any]) -> Request:
    """The request of a command's parameters. Raises click.UsageError where models are missing, ConfigError."""
    from fetafix.pair_options import OF_ONE_SIDE, OF_PAIR, OF_SIDES
    from fetafix.pair_options import options as of_pair

    source, target = given.get("source"), given.get("target")
    if source and not target:
        raise click.UsageError(f"only one model given ({source}); a source and a target are needed")
    pair = _pair(given, needed=not source)
    options: dict[str, Any] = {}
    if pair is not None:
        options = of_pair(pair)
        first, second = pair.models()
        source, target = source or first.model, target or second.model
    options |= {k: given[k] for k in OF_PAIR if given.get(k) not in (None, ())}
    given = {**given, **{k.removesuffix("_off"): "none" for k, v in given.items() if k.endswith("optimise_off") and v}}
    for key in OF_SIDES:
        for side in ("source", "target"):
            value = given.get(f"{side}_{key}") or given.get(key)
            if value is not None:
                options[f"{side}_{key}"] = value
    options |= {k: given[k] for key in OF_ONE_SIDE for side in ("source", "target")
                if given.get(k := f"{side}_{key}") is not None}
    if given.get("trust"):
        options["trust"] = True
    if given.get("html"):
        options["exhibits"] = True
    if given.get("keep_worst"):
        options["keep_worst"] = given["keep_worst"]
    return Request(str(source), str(target), options)


def _pair(given: Mapping[str, Any], needed: bool) -> Pair | None:
    path = given.get("config")
    if path is None and needed and Path(FILE).is_file():
        path = FILE
    if path is None:
        if needed:
            raise click.UsageError(f"no models given, and there is no {FILE} here: name a source and a target")
        return None
    from fetafix import config, pair_options

    pair = config.load(path).pair(given.get("pair"))
    pair_options.check(pair, str(path))
    return pair
