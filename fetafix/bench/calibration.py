"""What the networks of the conversion matrix are calibrated with: images, prepared as `check` prepares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COUNT = 32


def make_images(path: Path, size: int, count: int, seed: int) -> None:
    """Made-up natural images with a margin for the crop: uint8 (count, size·8/7, size·9/7, 3)."""
    from fetafix.inputs import natural

    rng = np.random.default_rng(seed)
    height, width = size * 8 // 7, size * 9 // 7
    np.save(path, np.stack([natural.image(rng, height, width) for _ in range(count)]))


def prepared(data: str, shape: list[int | str | None], preset: str, count: int = COUNT) -> Any:
    """The first images of `data` as a model with an input of this shape takes them: float32 (count, *shape[1:])."""
    from fetafix.inputs.preprocess import parse
    from fetafix.inputs.sources import open_source
    from fetafix.report import TensorInfo

    source = open_source(data, trust=False)
    spec = TensorInfo(name="image", dtype="float32", shape=shape)
    indices = range(min(count, len(source)))
    return np.asarray(source.feeds(list(indices), [spec], parse(preset)).arrays["image"], np.float32)


def spread(scores: Any) -> tuple[Any, Any]:
    """(scale, offset) for each class that give its scores over the samples, (N, classes), mean 0 and deviation 1.

    So every class is the answer somewhere, and labels are diverse.
    """
    scale = 1 / (scores.std(0) + 1e-6)
    return scale.astype(np.float32), (-scores.mean(0) * scale).astype(np.float32)
