"""SavedModels and frozen graphs: told apart, opened, run, tapped and lifted; bad ones refused with a reason."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fetafix import formats
from fetafix.errors import UnreadableModel, UntrustedModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.tensorflow import recognise as tf_recognise
from fetafix.parallel import ModelProcess

OPENED = {
    "signatures:first": ["y"],
    "signatures:second": ["logits", "x2"],
    "no_signature": ["y"],
    "keras": ["output_0"],
    "nested": ["a", "b"],
    "lstm": ["output_0"],
    "first_generation": ["features", "mean"],
    "first_resource": ["features", "mean"],
    "frozen.pb": ["Identity"],
    "two_outputs.pb": ["mean", "probs"],
}
REFUSED = {
    "signatures": ("UnreadableModel", "expected signature 'serving_default' or a single one, found first, second"),
    "two_functions": ("UnreadableModel", "expected a signature, found none, and f (1 forms), g (1 forms)"),
    "truncated": ("UnreadableModel", "cut off or damaged"),
    "no_variables": ("UnreadableModel", "expected the values of 2 variable(s)"),
    "no_data": ("UnreadableModel", "there is no variables.data-"),
    "empty": ("UnreadableModel", "this is a folder"),
    "text": ("UnreadableModel", "saved_model.pbtxt"),
    "graph.pbtxt": ("UnreadableModel", "text form"),
    "part": ("UnreadableModel", "expected saved_model.pb in the folder"),
    "cut.pb": ("UnreadableModel", "cut off or damaged"),
    "custom.pb": ("UnreadableModel", "no operator MyCompanysOperator (node y)"),
    "writes": ("UntrustedModel", "it touches files: WriteFile (node cond/WriteFile)"),
    "python.pb": ("UntrustedModel", "it runs Python: PyFunc (node python)"),
}


@pytest.fixture(scope="module")
def looked(tfzoo):
    folder = tfzoo("tensorflow_edits")
    return json.loads((folder / "results.json").read_text()), np.load(folder / "results.npz"), folder / "zoo"


@pytest.mark.parametrize("name", OPENED)
def test_answers_as_tensorflow_does(looked, name):
    facts, arrays, _ = looked
    opened = facts["opened"][name]
    assert opened["outputs"] == opened["declared"] == OPENED[name]
    assert opened["format"] == ("graphdef" if name.endswith(".pb") else "saved_model")
    assert set(opened["stock"]) >= set(OPENED[name])
    for output in OPENED[name]:
        run, stock, other = (arrays[f"{name}/{output}/{k}"] for k in ("run", "stock", "differently"))
        assert run.dtype == stock.dtype and np.ptp(run) > 1e-3
        np.testing.assert_allclose(run, stock, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(run, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPENED)
def test_lift_and_taps_agree(looked, name):
    facts, arrays, _ = looked
    opened = facts["opened"][name]
    assert opened["notes"] == []
    assert not any(dim.isdigit() for dim in opened["batch"]), "the batch is baked in"
    assert set(opened["names"].values()) <= set(opened["layers"])
    for output in OPENED[name]:
        run, lift, tap = (arrays[f"{name}/{output}/{k}"] for k in ("run", "lift", "tap"))
        np.testing.assert_allclose(lift, run, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(tap, run, rtol=1e-4, atol=1e-5)


def test_lift_keeps_what_the_model_keeps_apart(looked):
    opened = looked[0]["opened"]
    assert "BatchNormalization" in opened["two_outputs.pb"]["ops"]
    assert {"Conv", "Mul", "Clip", "Concat", "MaxPool"} <= set(opened["keras"]["ops"])
    assert "functional_1/stem_1/convolution" not in opened["two_outputs.pb"]["layers"]
    assert any("stem" in layer for layer in opened["keras"]["names"].values())


def test_details(looked):
    details = looked[0]["opened"]["keras"]["details"]
    assert details["signature"] == "serving_default" and details["variables"] == 17
    assert details["runtime"].startswith("tensorflow ") and details["ops"]["DepthwiseConv2dNative"] == 1
    assert looked[0]["opened"]["signatures:first"]["signatures"] == ["first", "second"]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(looked, name):
    kind, message = looked[0]["refused"][name]
    assert (kind, REFUSED[name][1] in message) == (REFUSED[name][0], True), message


def test_nothing_dangerous_ran(looked):
    assert looked[0]["evidence"] is False
    assert set(looked[0]["refused"]) == {*REFUSED, "short_data"}


def test_in_a_worker(looked):
    zoo = looked[2]
    x = np.ones((3, 4), np.float32)
    with ModelProcess(zoo / "signatures" / "saved_model.pb", OpenOptions(threads=1, signature="first")) as model:
        info = model.info()
        assert info.sha256 == formats.sha256(zoo / "signatures")
        assert model.run({"x": x})["y"].shape == (3, 3)
        taps = model.tap({"x": x})
        (matmul,) = [t for t in taps.layers if t.op == "MatMul"]
        forced = model.tap({"x": x}, {matmul.outputs[0]: np.zeros((3, 3), np.float32)})
        assert not np.allclose(forced.values["y"], taps.values["y"])
    with (
        ModelProcess(zoo / "short_data", OpenOptions(threads=1, signature="first")) as model,
        pytest.raises(UnreadableModel, match="variables cannot be restored"),
    ):
        model.info()
    with ModelProcess(zoo / "writes") as model, pytest.raises(UntrustedModel):
        model.run({"x": x[:, :2]})
    assert not (zoo / "evidence").exists()


def test_recognised_without_tensorflow(looked):
    code = (
        "import sys; from fetafix import formats\n"
        "assert formats.recognise(sys.argv[1]) == 'saved_model' and formats.recognise(sys.argv[2]) == 'graphdef'\n"
        "assert not {'tensorflow', 'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, looked[2] / "keras", looked[2] / "frozen.pb"], check=True)


def test_a_saved_model_has_its_name(tmp_path):
    content = b"\x08\x01\x12\x04\x0a\x02ab"
    (tmp_path / "saved_model.pb").write_bytes(content)
    assert formats.recognise(tmp_path) == formats.recognise(tmp_path / "saved_model.pb") == "saved_model"
    (tmp_path / "model.pb").write_bytes(content)
    with pytest.raises(UnreadableModel, match=r"opened by its name; expected saved_model\.pb"):
        formats.recognise(tmp_path / "model.pb")


FOREIGN = [b"", b"\x08\x01", b"\x08\x01\x12", b"\x0a\x02\x0a\x00", b"\x08\x08\x12\x03abc", b"node {"]


@pytest.mark.parametrize("content", FOREIGN)
def test_foreign_files_are_left_alone(tmp_path, content):
    file = tmp_path / "something"
    file.write_bytes(content)
    assert tf_recognise.recognise(file) is None
