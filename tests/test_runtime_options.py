"""How each model is run: asked for a side, down to its runtime, and told in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fetafix import api
from fetafix.cli.settings import request
from fetafix.config import load
from fetafix.errors import ConfigError, UsageError
from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx import model as onnx_model
from fetafix.formats.torch import model as pytorch
from fetafix.options import RUNTIME, Options
from fetafix.report import Verdict
from fetafix.session import Session
from tests.cli.test_settings import given
from tests.commands import invoke
from tests.small_models import cnn

X = {"x": np.random.default_rng(0).random((2, 3, 16, 16), np.float32)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnn(tmp_path_factory.mktemp("runtime") / "a.onnx")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtime") / "a.pt"
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(784, 5))
    torch.jit.save(torch.jit.script(net.eval()), str(path))
    return path


def test_each_side_is_opened_as_asked() -> None:
    options = Options(threads=3, source_threads=1, target_device="cuda:1", target_provider="CUDA", source_signature="s")
    assert options.opening("source", 3) == OpenOptions(threads=1, signature="s")
    assert options.opening("target", 3) == OpenOptions(threads=3, device="cuda:1", provider="CUDA")


def test_a_level_on_one_side_fixes_the_other() -> None:
    """Else the source's noise would be measured across the very difference that is asked about."""
    options = Options(target_optimise="none")
    assert options.opening("source", 0) == OpenOptions(level="all")
    assert options.opening("target", 0) == OpenOptions(optimise=False, level="none")
    assert Options().opening("source", 0) == OpenOptions()


@pytest.mark.parametrize("wrong", [{"source_threads": -1}, {"target_optimise": "fast"}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)).split("_")[1]):
        Options(**wrong)  # type: ignore[arg-type]


def test_the_command_line_speaks_of_both_or_of_one() -> None:
    wanted = given(source="a", target="b", device="cuda", target_device="cpu", source_threads=0, threads=4,
                   target_optimise_off=True, optimise="basic", signature="s")
    assert request(wanted).options == {
        "source_device": "cuda", "target_device": "cpu", "source_threads": 0, "threads": 4, "source_optimise": "basic",
        "target_optimise": "none", "source_signature": "s", "target_signature": "s",
    }


def test_the_configuration_speaks_of_each_model(tmp_path: Path) -> None:
    path = tmp_path / "fetafix.yaml"
    path.write_text("source: {model: a.onnx, threads: 2, provider: CPU, optimise: true}\n"
                    "target: {model: b.pt, device: 'cuda:0', optimise: false, signature: s}\n")
    assert request(given(config=str(path))).options == {
        "source_threads": 2, "source_provider": "CPU", "source_optimise": "all", "target_device": "cuda:0",
        "target_optimise": "none", "target_signature": "s",
    }
    path.write_text("source: {model: a.onnx, optimise: fast}\ntarget: b.onnx\n")
    with pytest.raises(ConfigError, match="optimise"):
        load(path)


def test_every_runtime_option_is_an_option_of_the_api_and_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for name in RUNTIME:
        assert {f"source_{name}", f"target_{name}"} <= set(Options.__dataclass_fields__)
        path.write_text(f"source: {{model: a, {name}: 3}}\ntarget: b\n")
        try:
            load(path)
        except ConfigError as error:
            assert "unknown key" not in str(error)


def test_a_model_is_measured_against_itself_across_optimisation(model: Path) -> None:
    options = Options(samples=6, source_threads=1, target_threads=2, target_optimise="none")
    report = api.check(model, model, options)
    assert report.verdict is Verdict.EQUIVALENT and report.agreement is not None
    assert report.agreement.samples == 6 and report.agreement.max_abs is not None
    assert report.source.details["runtime_options"] == {"threads": 1}
    assert report.target.details["runtime_options"] == {"threads": 2, "optimise": "none"}


def test_identical_files_and_options_are_measured_all_the_same(model: Path) -> None:
    report = api.check(model, model, Options(samples=6, threads=1))
    assert report.agreement is not None and report.agreement.max_abs == 0.0 and report.agreement.samples == 6


def test_the_noise_does_not_cross_the_difference_that_is_asked_about(model: Path) -> None:
    with Session(model, model, Options(samples=4, threads=1, target_optimise="none")) as session:
        asked = session._source_probe.noise.floor("y_").changes["runtime"]
    with Session(model, model, Options(samples=4, threads=1)) as session:
        free = session._source_probe.noise.floor("y_").changes["runtime"]
    assert asked == (0.0, 0.0) and free[0] > 0.0


def test_onnx_levels_reach_the_session(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    seen: list[tuple[str, int]] = []
    make = ort.InferenceSession

    def spy(path: str, settings: ort.SessionOptions, **more: object) -> ort.InferenceSession:
        seen.append((settings.graph_optimization_level.name, settings.intra_op_num_threads))
        return make(path, settings, **more)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    for options in (OpenOptions(threads=3, level="basic"), OpenOptions(optimise=False, level="none"), OpenOptions()):
        artifact = onnx_model.open(model, "onnx", options)
        with artifact.differently():
            artifact.run(X)
    assert seen == [("ORT_ENABLE_BASIC", 3), ("ORT_ENABLE_BASIC", 1), ("ORT_DISABLE_ALL", 0), ("ORT_DISABLE_ALL", 1),
                    ("ORT_ENABLE_ALL", 0), ("ORT_DISABLE_ALL", 1)]


def test_a_provider_that_is_not_there_is_refused_with_those_that_are(model: Path) -> None:
    with pytest.raises(UsageError, match=r"no execution provider 'Nonsense'; it has .*CPUExecutionProvider"):
        onnx_model.open(model, "onnx", OpenOptions(provider="Nonsense"))
    for name in ("cpu", "CPUExecutionProvider"):
        assert onnx_model.open(model, "onnx", OpenOptions(provider=name)).run(X)["y_"].shape == (2, 10)
    with pytest.raises(UsageError, match="no device 'tpu'"):
        onnx_model.open(model, "onnx", OpenOptions(device="tpu"))


def test_a_provider_that_does_not_start_is_no_run_on_the_cpu(model: Path) -> None:
    from fetafix.errors import RuntimeCrash
    from fetafix.formats.onnx import provider as onnx_provider

    class Fallen:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(RuntimeCrash, match="CUDAExecutionProvider, but could not start"):
        onnx_provider.check(model, Fallen(), [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"])


def opened(path: Path, **options: object) -> pytorch.TorchArtifact:
    return pytorch.open(path, str(pytorch.recognise(path)), OpenOptions(threads=1, **options))  # type: ignore[arg-type]


def test_pytorch_runs_without_onednn_where_that_is_asked_for(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = opened(script, optimise=False, level="none")
    seen: list[bool] = []
    call = artifact._program.call
    artifact._program.call = lambda args: (seen.append(torch.backends.mkldnn.enabled), call(args))[1]  # type: ignore
    name = artifact.info.inputs[0].name
    artifact.run({name: X["x"]})
    with artifact.differently():
        artifact.run({name: X["x"]})
    free = opened(script)
    free._program.call = lambda args: (seen.append(torch.backends.mkldnn.enabled), call(args))[1]  # type: ignore
    free.run({name: X["x"]})
    with free.differently():
        free.run({name: X["x"]})
    assert seen == [False, False, True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_pytorch_names_the_device_that_is_missing(script: Path) -> None:
    with pytest.raises(UsageError, match=r"'cuda:1' was asked for, but this PyTorch sees no CUDA device"):
        opened(script, device="cuda:1")


@pytest.mark.parametrize(("options", "words"), [
    ({"device": "gpux"}, "expected a device"), ({"provider": "CUDA"}, "no execution providers"),
    ({"signature": "s"}, "no signatures"),
])
def test_pytorch_refuses_what_says_nothing_there(script: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        opened(script, **options)


def test_the_command_line_tells_how_the_models_ran(model: Path, tmp_path: Path) -> None:
    done = invoke(tmp_path, "check", model, model, "--samples", 4, "--target-no-optimise", "--source-threads", 1,
                  "--target-threads", 2, "--no-progress")
    assert done.code == 0, done.stderr
    assert "(onnx, opset 17, threads 1)" in done.text and "(onnx, opset 17, threads 2, optimise none)" in done.text
    for wrong in (["--signature", "x"], ["--target-provider", "Nonsense"], ["--device", "tpu"]):
        done = invoke(tmp_path, "check", model, model, "--samples", 4, *wrong)
        assert done.code == 2 and str(model) in done.text
