"""Where things are, and a workspace with models to gate."""

from __future__ import annotations

import os
from pathlib import Path

import fetafix
from tests.small_models import cnn, weights

ROOT = Path(fetafix.__file__).parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def pair(folder: Path, broken: bool) -> Path:
    """A source, and a target that is the same or has lost a bias; with a fetafix.yaml that names them."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    cnn(folder / "models" / "a.onnx")
    bias = weights()["b1"]
    cnn(folder / "models" / "b.onnx", change={"b1": bias * 0} if broken else {})
    config = folder / "fetafix.yaml"
    named = "name: small\nsource: models/a.onnx\ntarget: models/b.onnx\n"
    config.write_text(f"{named}samples: 20\nsearch: 'off'\n", "utf-8")
    return config
