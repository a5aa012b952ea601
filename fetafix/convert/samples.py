"""Samples of the source's inputs, for converters that trace a model or measure its ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs.preprocess import parse
from fetafix.inputs.samples import SampleSet
from fetafix.inputs.sources import open_source
from fetafix.inputs.splits import draw_from
from fetafix.options import Options
from fetafix.report import ModelInfo

_BATCH = 2


@dataclass(frozen=True)
class Files:
    """.npz files with the source's inputs by name. example: a batch of two. calibration: (N, *item)."""

    example: Path
    calibration: Path


def write(info: ModelInfo, options: Options, count: int, folder: Path) -> Files:
    """Draw samples as `check` does and write them. Raises InputDataError, ConfigError, UsageError.

    All are of the search set, so that nothing held out was seen. Those for calibration are prepared as the target's
    inputs are, where that was said.
    """
    data = open_source(options.data, trust=options.trust, seed=options.seed)
    indices = draw_from(data, options.samples, options.seed, options.rounds)[0].search
    ours, theirs = options.source_preprocess, options.target_preprocess
    files = Files(folder / "example.npz", folder / "calibration.npz")
    example = data.feeds(indices[:_BATCH], info.inputs, _parsed(ours))
    np.savez(files.example, **_plain(_batch(example)))
    calibration = data.feeds(indices[:count], info.inputs, _parsed(theirs if theirs is not None else ours))
    np.savez(files.calibration, **_plain(calibration.arrays))
    return files


def _plain(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in arrays.items()}


def _parsed(given: Any) -> Any:
    return None if given is None else parse(given)


def _batch(samples: SampleSet) -> dict[str, Any]:
    """Two samples in one batch where they stack; one sample twice where there is no other; else one alone."""
    if not len(samples):
        raise InputDataError("no sample could be read, and converters need one")
    if not samples.stackable:
        return samples.feed(0)
    feed = samples.feed(0, min(_BATCH, len(samples)))
    return {n: np.repeat(a, _BATCH, axis=0) if len(a) == 1 else a for n, a in feed.items()}
