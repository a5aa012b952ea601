"""PyTorch files: told apart by content, opened, run and lifted with native names; bad files answered with a reason."""

import subprocess
import sys
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fetafix.errors import RuntimeCrash, UnreadableModel, UntrustedModel, UsageError
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import env as torch_env
from fetafix.formats.torch import model as pytorch
from fetafix.formats.torch import safetensors as torch_safetensors
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from tests.formats.torch_zoo import ARCH, CONTAINERS, SIZE, save, small_cnn

torch_env.prepare()
X = np.random.default_rng(1).random((2, *SIZE), np.float32)


def opened(path, **options):
    options.setdefault("arch", ARCH)
    return pytorch.open(path, pytorch.recognise(path), OpenOptions(threads=1, **options))


def expected():
    return small_cnn()(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("container", CONTAINERS)
def test_recognised_opened_and_run(container, tmp_path):
    path = save(container, tmp_path)
    assert pytorch.recognise(path) == container
    artifact = opened(path)
    (entry,) = artifact.info.inputs
    assert entry.dtype == "float32" and entry.shape[1] == 1 and not isinstance(entry.shape[0], int)
    result = artifact.run({entry.name: X})
    np.testing.assert_allclose(result["output"], expected(), atol=1e-5)
    assert list(result) == [o.name for o in artifact.info.outputs] == ["output"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_lift_keeps_names_values_and_layers(container, tmp_path):
    artifact = opened(save(container, tmp_path))
    name = artifact.info.inputs[0].name
    lifted = artifact.lift(tmp_path, {name: X})
    graph = load_graph(lifted.path)
    onnx.checker.check_model(str(lifted.path))
    assert graph.input_names == (name,) and graph.output_names == ("output",)
    np.testing.assert_allclose(Evaluator().run(graph, {name: X}, ["output"])[0], expected(), atol=1e-5)
    five = np.random.default_rng(2).random((5, *SIZE), np.float32)
    assert Evaluator().run(graph, {name: five}, ["output"])[0].shape == (5, 10)
    ops = [n.op for n in graph.nodes if n.op not in ("Constant", "Identity")]
    assert ops == [
        "Conv",
        "Relu",
        "Conv",
        "BatchNormalization",
        "Clip",
        "Conv",
        "BatchNormalization",
        "Add",
        "Relu",
        "MaxPool",
        "Flatten",
        "Gemm",
    ]
    native = small_cnn().state_dict()
    norm = [n for n in graph.nodes if n.op == "BatchNormalization"][1]
    np.testing.assert_array_equal(graph.constant(norm, 4), native["block.bn2.running_var"].numpy())
    assert "bn2" in lifted.names[norm.key] and "fc" in lifted.names["output"]


def test_recognising_imports_no_torch(tmp_path):
    paths = [str(save(c, tmp_path / c)) for c in CONTAINERS if (tmp_path / c).mkdir() is None]
    script = (
        "import sys; from pathlib import Path; from fetafix.formats.torch.model import recognise;"
        "print([recognise(Path(p)) for p in sys.argv[1:]]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(list(CONTAINERS))


def test_other_files_are_not_recognised(tmp_path):
    contents = {"a.npz": None, "b.pt": b"", "c.pt": b"PK\x03\x04 cut off", "d.bin": bytes(range(256)), "e.json": b"{}"}
    np.savez(tmp_path / "a.npz", x=X)
    for name, data in contents.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        assert pytorch.recognise(tmp_path / name) is None, name
    assert pytorch.recognise(tmp_path / "missing.pt") is None


@pytest.mark.parametrize("container", CONTAINERS)
def test_truncated_files_are_refused(container, tmp_path):
    path = save(container, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((UnreadableModel, UntrustedModel)):
        pytorch.open(path, container, OpenOptions(arch=ARCH))


def test_a_legacy_file_and_wrappers_and_prefixes(tmp_path):
    state = small_cnn().state_dict()
    parallel = OrderedDict((f"module.{k}", v) for k, v in state.items())
    files = {"old.pt": state, "wrapped.pt": {"epoch": 3, "state_dict": parallel}}
    for name, content in files.items():
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=name != "old.pt")
        np.testing.assert_allclose(opened(tmp_path / name).run({"x": X})["output"], expected(), atol=1e-6)


def test_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    torch_safetensors.save(small_cnn().state_dict(), path)
    assert pytorch.recognise(path) == "safetensors"
    np.testing.assert_allclose(opened(path).run({"x": X})["output"], expected(), atol=1e-6)


def test_a_state_dict_needs_an_architecture_that_fits(tmp_path, monkeypatch):
    path = save("torch-state-dict", tmp_path)
    with pytest.raises(UnreadableModel, match="--arch"):
        opened(path, arch=None)
    with pytest.raises(UsageError, match="module:factory"):
        opened(path, arch="no_colon")
    with pytest.raises(UsageError, match="nowhere"):
        opened(path, arch="nowhere:factory")
    (tmp_path / "own_arch.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableModel, match=r"missing: weight, bias; unexpected: stem\.weight"):
        opened(path, arch="own_arch:make")


def test_torch_layers_alone_open_without_trust(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    torch.save(model, tmp_path / "model.pt")
    artifact = opened(tmp_path / "model.pt")
    assert artifact.info.inputs[0].shape == [None, 3, None, None]
    assert artifact.info.details["saved_in_training_mode"] is True
    x = np.ones((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(artifact.run({"input": x})["output"], model.eval()(torch.from_numpy(x)).numpy())


def test_several_inputs_and_outputs_by_name(tmp_path):
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": left + right, "difference": left - right}

    with torch.enable_grad():
        program = torch.export.export(Two(), (torch.ones(2, 3), torch.ones(2, 3)))
    torch.export.save(program, tmp_path / "two.pt2")
    artifact = opened(tmp_path / "two.pt2")
    a, b = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    result = artifact.run({"right": b, "left": a})
    assert list(result) == ["sum", "difference"] and result["difference"][0, 0] == 3
    graph = load_graph(artifact.lift(tmp_path, {"left": a, "right": b}).path)
    assert graph.input_names == ("left", "right") and graph.output_names == ("sum", "difference")


def test_an_onnx2torch_module_that_asks_for_the_opset_is_lifted(tmp_path):
    """GatherND, Squeeze and others look for the exporter's opset where recent versions of PyTorch do not keep it."""
    import onnx2torch
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["x", "axes"], ["flat"]),
            helper.make_node("Split", ["flat"], ["left", "right"], axis=1),
            helper.make_node("Sub", ["left", "right"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    torch.save(onnx2torch.convert(model), tmp_path / "model.pt")
    artifact = opened(tmp_path / "model.pt")
    name = artifact.info.inputs[0].name
    lifted = load_graph(artifact.lift(tmp_path, {name: X}).path)
    native = artifact.run({name: X})["output"]
    np.testing.assert_allclose(Evaluator().run(lifted, {name: X}, ["output"])[0], native)
    np.testing.assert_allclose(native, X[:, 0, :4] - X[:, 0, 4:])


def test_a_crash_names_the_model_and_the_shapes(tmp_path):
    artifact = opened(save("torch-module", tmp_path))
    name = artifact.info.inputs[0].name
    with pytest.raises(RuntimeCrash, match=r"\[2, 3, 8, 8\]"):
        artifact.run({name: np.ones((2, 3, 8, 8), np.float32)})
    with pytest.raises(RuntimeCrash, match="not fed"):
        artifact.run({})
