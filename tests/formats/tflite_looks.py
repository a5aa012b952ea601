"""Open, run, lift and tap many TFLite models in one process: python -m tests.formats.tflite_looks FOLDER OUT.

Every lift needs TensorFlow, which takes seconds to load and does not go with PyTorch, which pytest's processes load.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fetafix import formats
from fetafix.errors import LiftError
from fetafix.formats.base import Lifted, OpenOptions, Taps
from fetafix.ir import Array
from fetafix.report import ModelInfo

KINDS = ("float", "fp16", "dynamic", "int8", "uint8", "int8_float_io", "int16x8")
MODELS = (
    *((k, None) for k in KINDS), ("inputs", None), ("lstm", None), ("branch", None), ("stateful", None),
    ("signatures", "add"), ("signatures", "scale"),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What was seen of one model. refusal: why there is no lift."""

    info: ModelInfo
    feeds: dict[str, Array]
    outputs: dict[str, Array]
    taps: Taps
    lifted: Lifted | None
    refusal: str = ""


def look(path: Path, signature: str | None, out: Path, images: Array) -> Look:
    """One model; its lift goes into `out`."""
    model = formats.open(path, OpenOptions(threads=1, signature=signature))
    rng = np.random.default_rng(1)
    feeds = {}
    for t in model.info.inputs:
        shape = [4 if isinstance(d, str) else d for d in t.shape or []]
        feeds[t.name] = images if shape == list(images.shape) else rng.normal(size=shape).astype(np.float32)
    seen = model.info, feeds, model.run(feeds), model.tap(feeds)  # type: ignore[attr-defined]
    out.mkdir()
    try:
        return Look(*seen, model.lift(out, feeds))
    except LiftError as error:
        return Look(*seen, None, str(error))


if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    pixels = np.load(folder / "samples.npz")["images"][:4]
    looks = {(n, s): look(folder / f"{n}.tflite", s, out / f"{n}-{s}", pixels) for n, s in MODELS}
    sys.modules["tests.formats.tflite_looks"] = sys.modules["__main__"]
    Look.__module__ = "tests.formats.tflite_looks"
    (out / "looks.pickle").write_bytes(pickle.dumps(looks))
