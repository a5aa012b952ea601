"""Keras files opened in workers: recognised by content, run as Keras runs them, refused with words that help."""

import shutil

import numpy as np
import pytest

from fetafix import formats
from fetafix.errors import FetafixError, InputDataError, UnreadableModel, UntrustedModel
from fetafix.formats.base import OpenOptions
from fetafix.parallel import ModelProcess

ARCH = "tests.tfzoo.keras_models:cnn_arch"
REFUSED = {
    "lambda.keras": (UntrustedModel, ("'twice'", "--trust")),
    "lambda.h5": (UntrustedModel, ("'twice'", "--trust")),
    "custom.keras": (UnreadableModel, ("'mine'", "Mine", "--arch")),
    "cut-cnn.keras": (UnreadableModel, ("cut off or damaged",)),
    "cut-cnn.h5": (UnreadableModel, ("cut off or damaged", "truncated")),
    "cnn-bare.h5": (UnreadableModel, ("h5 without architecture", "expected model_config", "18 layers", "--arch")),
    "cnn.weights.h5": (UnreadableModel, ("h5 without architecture", "--arch")),
    "missing.h5": (UnreadableModel, ("'dilated'", "no weights")),
    "shape.h5": (UnreadableModel, ("'dilated'", "(3, 3, 8, 8)", "(3, 3, 8, 9)")),
    "weightless.keras": (UnreadableModel, ("model.weights.h5", "config.json")),
    "cnn-unknown.h5": (UnreadableModel, ("'dw'", "groups = 2")),
}


@pytest.fixture(scope="module")
def folder(tfzoo):
    return tfzoo("keras_models")


@pytest.fixture(scope="module")
def answers(folder):
    return np.load(folder / "answers.npz")


def test_recognised_by_content(folder, tmp_path):
    for file, name in (("cnn.keras", "keras"), ("cnn.h5", "keras-h5"), ("cnn.weights.h5", "keras-h5"),
                       ("cut-cnn.keras", "keras"), ("cut-cnn.h5", "keras-h5"), ("cnn-bare.h5", "keras-h5")):
        shutil.copyfile(folder / file, tmp_path / "model.bin")
        assert formats.recognise(tmp_path / "model.bin") == name


def test_foreign_hdf5_is_not_keras(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measurements"] = np.arange(5)
    with pytest.raises(UnreadableModel):
        formats.recognise(tmp_path / "data.h5")


@pytest.mark.parametrize("file", REFUSED)
def test_refused_with_words_that_help(folder, file):
    error, words = REFUSED[file]
    with pytest.raises(error) as caught, ModelProcess(folder / file) as process:
        process.info()
    assert all(w in str(caught.value) for w in words), caught.value


def run(process, answers, name):
    fed = {k.split("/")[2]: answers[k] for k in answers.files if k.startswith(f"{name}/in/")}
    wanted = {k.split("/")[2]: answers[k] for k in answers.files if k.startswith(f"{name}/out/")}
    made = process.run(fed)
    assert [i.name for i in process.info().inputs] == list(fed)
    assert list(made) == list(wanted)
    for key, want in wanted.items():
        np.testing.assert_allclose(made[key], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "chain", "rnn", "several", "nested"])
def test_runs_as_keras_does_and_lifts(folder, answers, name, tmp_path):
    file = f"{name}.h5" if name in ("chain", "rnn", "nested") else f"{name}.keras"
    with ModelProcess(folder / file, OpenOptions(threads=1)) as process:
        run(process, answers, name)
        info = process.info()
        assert info.inputs[0].shape[0] is None
        assert info.details["backend"] == "tensorflow" and info.details["layers"] > 3
        fed = {i.name: answers[f"{name}/in/{i.name}"] for i in info.inputs}
        lifted = process.lift(tmp_path, {k: v[:2] for k, v in fed.items()})
        ort = pytest.importorskip("onnxruntime")
        session = ort.InferenceSession(str(lifted.path), providers=["CPUExecutionProvider"])
        values = session.run(None, fed)  # another batch size than the example's
        for output, value in zip(session.get_outputs(), values, strict=True):
            np.testing.assert_allclose(value, answers[f"{name}/out/{output.name}"], rtol=1e-4, atol=1e-5)
        if name == "nested":
            assert {"block/conv", "block/bn", "relu", "out"} <= set(lifted.names.values())
        with pytest.raises(InputDataError):
            process.run({"nothing": np.zeros((1, 3), np.float32)})


def test_keras_2_files_open(folder, answers):
    with ModelProcess(folder / "cnn-keras2.h5") as process:
        run(process, answers, "cnn")
        assert process.info().details["written_by"] == "keras 2.4.0"


@pytest.mark.parametrize("file", ["cnn-bare.h5", "cnn.weights.h5", "cnn.keras"])
def test_weights_with_an_architecture(folder, answers, file):
    with ModelProcess(folder / file, OpenOptions(arch=ARCH)) as process:
        run(process, answers, "cnn")


def test_trusted_lambda(folder):
    with ModelProcess(folder / "lambda.keras", OpenOptions(trust=True)) as process:
        np.testing.assert_array_equal(process.run({"x": np.ones((2, 4), np.float32)})["twice"], np.full((2, 4), 2))


def test_wrong_device(folder):
    with (
        pytest.raises(FetafixError, match="cuda:1"),
        ModelProcess(folder / "mlp.keras", OpenOptions(device="quantum")) as process,
    ):
        process.info()
