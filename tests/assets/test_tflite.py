"""TFLite files made by others: each opens, runs, shows its layers and lifts."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p.relative_to(ASSETS) for p in ASSETS.rglob("*.tflite"))
NO_LIFT = {"selfie_segmentation_landscape": "Convolution2DTransposeBias"}
# float arithmetic agrees closely, integer arithmetic to some codes of 1/256, hybrid to how activations are rounded
WORST = {"float": 1e-5, "coded": 0.03}

LOOK = """
import pickle, sys, tempfile
from pathlib import Path
import numpy as np
import onnxruntime as ort
from fetafix import formats
from fetafix.errors import LiftError
from fetafix.graph.segment import relative_error
root, seen = Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    model = formats.open(root / name)
    rng, feeds = np.random.default_rng(0), {}
    for t in model.info.inputs:
        low, high = model.info.details["quantised_inputs"].get(t.name, {"range": (-1, 1)})["range"]
        shape = [2 if isinstance(d, str) else d for d in t.shape]
        feeds[t.name] = rng.uniform(low, high, shape).astype(np.float32)
    own, taps = model.run(feeds), model.tap(feeds)
    same = all(np.array_equal(taps.values[k], v) for k, v in own.items())
    facts = {"layers": len(taps.layers), "same": same, "coded": model.info.details["quantised"]}
    with tempfile.TemporaryDirectory() as folder:
        try:
            lifted = model.lift(Path(folder), feeds)
        except LiftError as error:
            facts["refusal"] = str(error)
        else:
            session = ort.InferenceSession(str(lifted.path))
            found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
            facts["errors"] = {k: relative_error(found[k], v) for k, v in own.items()}
            facts["unnamed"] = len(lifted.names) == 0
    seen[name] = facts
sys.stdout.buffer.write(b"LOOKS" + pickle.dumps(seen))
"""


@pytest.fixture(scope="module")
def looks() -> dict[str, dict[str, Any]]:
    """All files in one process: TensorFlow, which lifts them, loads once."""
    command = [sys.executable, "-c", LOOK, str(ASSETS), *map(str, FILES)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    found: dict[str, dict[str, Any]] = pickle.loads(run.stdout.partition(b"LOOKS")[2])
    return found


def test_there_are_files() -> None:
    assert len(FILES) >= 14


@pytest.mark.parametrize("file", FILES, ids=str)
def test_runs_and_shows_its_layers(looks: dict[str, dict[str, Any]], file: Path) -> None:
    assert looks[str(file)]["same"] and looks[str(file)]["layers"] > 10


@pytest.mark.parametrize("file", FILES, ids=str)
def test_lifts(looks: dict[str, dict[str, Any]], file: Path) -> None:
    facts = looks[str(file)]
    if file.stem in NO_LIFT:
        assert NO_LIFT[file.stem] in facts["refusal"] and "the lift, not your model" in facts["refusal"]
        return
    assert not facts["unnamed"]
    assert max(facts["errors"].values()) < WORST["coded" if facts["coded"] else "float"]
