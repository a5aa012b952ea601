"""A SavedModel made by others: it opens, runs, shows its operators, lifts, and takes edits into its variables."""

import numpy as np
import onnxruntime as ort
import pytest

from fetafix.edits import SetAttribute, SetInput
from fetafix.errors import OutputError
from fetafix.formats.base import OpenOptions
from fetafix.graph.proto import load_graph
from fetafix.parallel import ModelProcess
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS

MODEL = ASSETS / "known_broken/kws/kws_ref_model"


def test_keyword_spotting(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 49, 10, 1)).astype(np.float32)
    with ModelProcess(MODEL, OpenOptions(threads=1)) as model:
        assert model.info().format == "saved_model" and model.info().details["variables"] == 56
        own = model.run({"input_1": x})["dense"]
        taps = model.tap({"input_1": x})
        lifted = model.lift(tmp_path, {"input_1": x})
        graph = load_graph(lifted.path)
        conv = next(n for n in graph.nodes if n.op == "Conv")
        norm = next(n for n in graph.nodes if n.op == "BatchNormalization")
        edits = [SetInput(conv.key, 1, -graph.initializers[conv.inputs[1]]), SetAttribute(norm.key, "epsilon", 0.5)]
        written = model.write(edits, tmp_path / "edited", lifted.path)
        with pytest.raises(OutputError, match="expected a name that is free"):
            model.write(edits, tmp_path / "edited", lifted.path)
    np.testing.assert_allclose(own.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(taps.values["dense"], own, atol=1e-6)
    assert sum(t.op == "FusedBatchNormV3" for t in taps.layers) == 9
    assert lifted.names[norm.key].endswith("FusedBatchNormV3")
    seen = ort.InferenceSession(str(lifted.path)).run(["dense"], {"input_1": x})[0]
    np.testing.assert_allclose(seen, own, atol=1e-5)
    assert written.unsupported == ()
    with ModelProcess(tmp_path / "edited", OpenOptions(threads=1)) as edited:
        assert np.abs(edited.run({"input_1": x})["dense"] - own).max() > 0.01
