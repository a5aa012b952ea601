"""The ONNX view of TFLite models and taps in their own runtime: both must show what the model computes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fetafix.errors import LiftError
from fetafix.formats.base import OpenOptions, Taps
from fetafix.formats.tflite import names as tflite_names
from fetafix.graph.segment import relative_error
from fetafix.ir import Array
from fetafix.parallel import ModelProcess
from tests.formats.tflite_looks import KINDS, Look

ROOT = Path(__file__).resolve().parents[2]
Looks = Mapping[tuple[str, str | None], Look]


@pytest.fixture(scope="module")
def folder(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("tflite_models")


@pytest.fixture(scope="module")
def looks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Looks:
    out = tmp_path_factory.mktemp("looks")
    command = [sys.executable, "-m", "tests.formats.tflite_looks", str(folder), str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found: Looks = pickle.loads((out / "looks.pickle").read_bytes())
    return found


def evaluated(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def view(look: Look) -> onnx.GraphProto:
    assert look.lifted is not None, look.refusal
    return onnx.load(str(look.lifted.path)).graph


@pytest.mark.parametrize(
    ("name", "signature", "worst"),
    [
        *((k, None, {"dynamic": 2e-2, "int16x8": 1e-3}.get(k, 1e-5)) for k in KINDS),
        ("inputs", None, 1e-5), ("lstm", None, 1e-5), ("branch", None, 1e-5),
        ("signatures", "add", 1e-5), ("signatures", "scale", 1e-5),
    ],
)  # fmt: skip
def test_the_lift_answers_as_the_model_does(looks: Looks, name: str, signature: str | None, worst: float) -> None:
    look = looks[name, signature]
    assert look.lifted is not None, look.refusal
    seen = evaluated(look.lifted.path, look.feeds)
    assert seen.keys() == look.outputs.keys()
    for output, value in look.outputs.items():
        assert seen[output].shape == value.shape and relative_error(seen[output], value) <= worst
    assert [i.name for i in view(look).input] == [t.name for t in look.info.inputs]
    assert bool(look.lifted.notes) == (name == "dynamic")


@pytest.mark.parametrize("name", ["float", "int8", "int16x8"])
def test_the_lift_has_a_float_interface_and_an_open_batch(looks: Looks, name: str) -> None:
    graph = view(looks[name, None])
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        assert kind.elem_type == onnx.TensorProto.FLOAT and kind.shape.dim[0].dim_param == "batch"
    assert (graph.node[0].op_type == "QuantizeLinear") == (name != "float")


@pytest.mark.parametrize("name", ["float", "int8", "fp16"])
def test_every_node_of_the_lift_has_the_name_of_its_operator(looks: Looks, name: str) -> None:
    """A fused activation, a transposition and a bias belong to the operator that tf2onnx made them for."""
    look = looks[name, None]
    layers = {tap.layer for tap in look.taps.layers}
    owners: dict[str, set[str]] = {}
    assert look.lifted is not None
    for node in view(look).node:
        found = look.lifted.names[node.output[0]]
        assert found in layers or found.endswith(("(input)", "(output)"))
        owners.setdefault(node.op_type, set()).add(found.rpartition("(")[2].split(" ")[0])
    assert owners["Conv"] == {"CONV_2D", "DEPTHWISE_CONV_2D"}
    assert owners["Clip"] == {"CONV_2D"} and owners["Relu"] == {"CONV_2D", "DEPTHWISE_CONV_2D"}
    assert owners["Softmax"] == {"SOFTMAX"}


def test_every_run_lifts_to_the_same_graph(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However Python orders sets of names, over which converters walk."""
    made = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        (tmp_path / seed).mkdir()
        with ModelProcess(folder / "int8.tflite") as process:
            info = process.info().inputs[0]
            feed = np.zeros([1, *(info.shape or [])[1:]], info.dtype)
            made.append(process.lift(tmp_path / seed, {info.name: feed}).path.read_bytes())
    assert made[0] == made[1]


def test_layer_names_tell_the_operators_place() -> None:
    name = tflite_names.layer("block/relu (x)", "CONV_2D", 17)
    assert name == "block/relu (x) (CONV_2D #17)" and tflite_names.layer_index(name) == 17
    assert tflite_names.layer_index("block/relu") is None


def test_what_onnx_lacks_is_named(looks: Looks) -> None:
    assert "ASSIGN_VARIABLE" in looks["stateful", None].refusal


@pytest.mark.parametrize(("name", "signature"), [*((k, None) for k in KINDS), ("lstm", None), ("signatures", "scale")])
def test_taps_end_in_the_models_outputs(looks: Looks, name: str, signature: str | None) -> None:
    look = looks[name, signature]
    taps = look.taps
    for output, value in look.outputs.items():
        np.testing.assert_array_equal(taps.values[output], value)
    for tensor, value in look.feeds.items():
        assert np.abs(taps.values[tensor] - value).max() < 0.02  # as far as the input's codes go
    made = set(look.feeds)
    for layer in taps.layers:
        assert set(layer.inputs) <= made and layer.layer.endswith(")")
        made |= set(layer.outputs)
    assert made == set(taps.values)


@pytest.mark.parametrize("name", ["float", "int8"])
def test_taps_are_what_the_lift_computes(looks: Looks, tmp_path: Path, name: str) -> None:
    """Layer by layer: what an operator makes is found in the lift, behind the nodes that carry its name."""
    look = looks[name, None]
    assert look.lifted is not None
    model = onnx.load(str(look.lifted.path))
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(o) for n in model.graph.node for o in n.output if o not in known
    )
    onnx.save(model, str(tmp_path / "all.onnx"))
    values = evaluated(tmp_path / "all.onnx", look.feeds)
    for layer in look.taps.layers:
        native = np.sort(look.taps.values[layer.outputs[0]], axis=None)
        keys = [k for k, owner in look.lifted.names.items() if owner == layer.layer]
        errors = [
            np.abs(np.sort(values[k], axis=None) - native).max() / np.abs(native).max()
            for k in keys if values[k].size == native.size and values[k].dtype.kind == "f"
        ]  # fmt: skip
        assert errors and min(errors) < (1e-5 if name == "float" else 2e-2), layer.layer


WAYS = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from fetafix import formats
from fetafix.formats.tflite import taps as tflite_taps
model = formats.open(Path(sys.argv[1]))
feeds = {model.info.inputs[0].name: np.load(sys.argv[2])["images"][:2]}
plain = replace(model._settings, optimise=False, threads=1)
found = [way(model.file, model._ports, plain, feeds) for way in (tflite_taps.kept, tflite_taps.as_outputs)]
assert found[0].keys() == found[1].keys()
print(all(np.array_equal(v, found[1][k]) for k, v in found[0].items()))
def lying(file, ports, settings, feeds):
    values = tflite_taps.as_outputs(file, ports, settings, feeds)
    return {k: v + 1e-3 * (k == ports.outputs[0].name) for k, v in values.items()}
try:
    tflite_taps._proven(lying, model.file, model._ports, plain, feeds)
except Exception as error:
    print(type(error).__name__, "change output" in str(error))
"""


@pytest.mark.parametrize("name", ["float", "int8"])
def test_both_ways_to_tap_agree_and_one_that_changes_outputs_is_refused(folder: Path, name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WAYS, str(folder / f"{name}.tflite"), str(folder / "samples.npz")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == ["True", "LiftError", "True"]


@pytest.mark.parametrize("name", ["float", "int8"])
def test_forced_values_change_what_follows_and_nothing_else(looks: Looks, folder: Path, name: str) -> None:
    look = looks[name, None]
    forced = look.taps.layers[2].outputs[0]
    value = look.taps.values[forced]
    with ModelProcess(folder / f"{name}.tflite", OpenOptions(threads=1)) as process:
        same, other = (process.tap(look.feeds, {forced: value * factor}) for factor in (1.0, 0.5))
        with pytest.raises(LiftError, match="no tensor 'nothing'"):
            process.tap(look.feeds, {"nothing": value})
    behind = _behind(look.taps, forced)
    for tensor, usual in look.taps.values.items():
        np.testing.assert_array_equal(same.values[tensor], usual)
        assert np.array_equal(other.values[tensor], usual) == (tensor not in behind), tensor


def _behind(taps: Taps, tensor: str) -> set[str]:
    found = {tensor}
    for layer in taps.layers:
        if found & set(layer.inputs):
            found |= set(layer.outputs)
    return found
