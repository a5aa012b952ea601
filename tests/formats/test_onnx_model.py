"""ONNX files in ONNX Runtime: interface, dtypes, odd outputs, and errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from fetafix import formats
from fetafix.errors import InputDataError, RuntimeCrash, UnreadableModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx import cast as onnx_cast
from fetafix.formats.onnx.scan import scan
from tests.formats import onnx_zoo as zoo


def opened(model: onnx.ModelProto, folder: Path, **options: object) -> formats.Artifact:
    return formats.open(zoo.save(model, folder / "m.onnx"), OpenOptions(**options))


@pytest.mark.parametrize("opset", zoo.OPSETS)
def test_every_opset_runs_and_tells_its_facts(tmp_path, opset):
    model = opened(zoo.classifier(opset), tmp_path)
    assert model.run({"image": zoo.images(2)})["logits"].shape == (2, zoo.CLASSES)
    info = model.info
    assert info.format == "onnx"
    assert info.details["opset"] == opset and info.details["producer"] == "zoo 1.2"
    assert info.details["ir_version"] == zoo.classifier(opset).ir_version
    assert [(i.name, i.dtype, i.shape) for i in info.inputs] == [("image", "float32", ["N", 3, 8, 8])]
    assert [(o.name, o.shape) for o in info.outputs] == [("logits", ["N", 5])]
    assert not info.details["quantised"] and info.details["dtypes"] == {"float32": 4}


def test_optimised_or_not_and_threads(tmp_path):
    x = {"image": zoo.images(4)}
    plain = opened(zoo.classifier(), tmp_path, optimise=False, threads=1).run(x)
    assert np.allclose(plain["logits"], opened(zoo.classifier(), tmp_path, threads=2).run(x)["logits"], atol=1e-4)


def test_external_data_by_path(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx", external=True)
    inline = opened(zoo.classifier(), tmp_path / "..")
    model = formats.open(path)
    x = {"image": zoo.images(1)}
    assert np.array_equal(model.run(x)["logits"], inline.run(x)["logits"])
    assert model.info.details["external_data"] == ["m.onnx.bin"]


def test_missing_short_and_outside_external_data(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx", external=True)
    blob = tmp_path / "m.onnx.bin"
    content = blob.read_bytes()
    blob.write_bytes(content[:100])
    with pytest.raises(UnreadableModel, match="ends after 100 bytes"):
        formats.open(path)
    blob.unlink()
    with pytest.raises(UnreadableModel, match=r"'conv.weight' and 3 others in .*m.onnx.bin, but there is no such file"):
        formats.open(path)
    with pytest.raises(UnreadableModel, match=r"m\.onnx\.bin"):
        formats.sha256(path)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../elsewhere.bin"
    with pytest.raises(UnreadableModel, match="expected it in the model's folder"):
        opened(model, tmp_path)


def test_float16_takes_float32(tmp_path):
    model = opened(zoo.classifier(dtype=np.float16), tmp_path)
    out = model.run({"image": zoo.images(2)})["logits"]
    assert out.dtype == np.float16 and model.info.inputs[0].dtype == "float16"


def test_bfloat16_interface(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("Neg", ["f"], ["n"]),
             helper.make_node("Cast", ["n"], ["y"], to=TensorProto.BFLOAT16)]
    kind = (TensorProto.BFLOAT16, ["N", 2])
    model = opened(zoo.single(nodes, {"x": kind}, {"y": kind}), tmp_path)
    assert model.info.inputs[0].dtype == "bfloat16"
    assert np.array_equal(model.run({"x": np.array([[1.0, 3.14159]], np.float32)})["y"], [[-1, -3.140625]])


def test_quantised_is_told(tmp_path):
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    tensors = {"s": np.asarray(np.float32(0.5)), "z": np.asarray(np.uint8(128))}
    model = opened(zoo.single(nodes, {"x": (1, ["N", 2])}, {"y": (1, ["N", 2])}, tensors), tmp_path)
    assert model.info.details["quantised"]
    assert np.array_equal(model.run({"x": np.array([[0.6, -9.0]])})["y"], [[0.5, -9.0]])


def test_old_initializers_are_no_inputs(tmp_path):
    assert [i.name for i in opened(zoo.classifier(7), tmp_path).info.inputs] == ["image"]


def test_unknown_shape_is_not_a_scalar(tmp_path):
    model = zoo.relu()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert opened(model, tmp_path).info.inputs[0].shape is None


def zipmap() -> onnx.ModelProto:
    from sklearn.linear_model import LogisticRegression  # only to have true class labels

    fit = LogisticRegression().fit(np.eye(3), [10, 20, 30])
    nodes = [
        helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml",
                         coefficients=fit.coef_.ravel().tolist(), intercepts=fit.intercept_.tolist(),
                         classlabels_ints=[10, 20, 30], multi_class=0, post_transform="SOFTMAX"),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[10, 20, 30]),
    ]
    model = zoo.single(nodes, {"x": (1, ["N", 3])}, {"label": (TensorProto.INT64, ["N"])}, domains={"ai.onnx.ml": 1})
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, []).type
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, value))
    model.graph.output.append(helper.make_value_info("probabilities", kind))
    return model


def test_zipmap_becomes_a_matrix(tmp_path):
    out = opened(zipmap(), tmp_path).run({"x": np.eye(3, dtype=np.float32)[:2]})
    assert out["probabilities"].shape == (2, 3) and np.allclose(out["probabilities"].sum(1), 1)
    assert np.array_equal(out["label"], [10, 20])


def test_sequences_are_left_out_or_refused(tmp_path):
    nodes = [helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("Neg", ["x"], ["y"])]
    model = zoo.single(nodes, {"x": (1, ["N", 3])}, {"y": (1, ["N", 3])})
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    artifact = opened(model, tmp_path)
    assert [o.name for o in artifact.info.outputs] == ["y"] == list(artifact.run({"x": np.ones((1, 3))}))
    assert list(artifact.info.details["left_out"]) == ["s"]
    del model.graph.output[0], model.graph.node[1]
    with pytest.raises(UnreadableModel, match=r"found s \(seq"):
        opened(model, tmp_path)


def magic(domain: str) -> onnx.ModelProto:
    node = helper.make_node("Magic", ["x"], ["y"], domain=domain)
    return zoo.single([node], {"x": (1, [3])}, {"y": (1, [3])}, domains={domain: 1} if domain else None)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: magic("com.shop"), r"operator 'Magic' of domain 'com.shop'.*custom operator library"),
        (lambda: magic(""), "operator 'Magic' in ONNX's own domain"),
        (lambda: zoo.relu(opset=99), "uses opset 99 .* supports it up to [0-9]+; update onnxruntime"),
        (lambda: zoo.relu(ir=99), "IR version 99"),
        (lambda: zoo.relu(opset=3), "opset 3 is older than onnxruntime supports"),
        (lambda: zoo.relu(dtype=TensorProto.BFLOAT16), "no CPU kernel for operator Relu .*'the_relu'"),
    ],
)
def test_what_the_runtime_refuses(tmp_path, model, words):
    with pytest.raises(RuntimeCrash, match=words):
        opened(model(), tmp_path)


def test_failing_node_is_named(tmp_path):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], "/head/Reshape")
    model = zoo.single([node], {"x": (1, ["N", 3])}, {"y": (1, None)}, {"shape": np.array([1, 7])})
    with pytest.raises(RuntimeCrash, match=r"node '/head/Reshape' \(Reshape\): .*cannot be reshaped") as caught:
        opened(model, tmp_path).run({"x": np.ones((2, 3), np.float32)})
    assert "onnxruntime_src" not in str(caught.value)


def test_wrong_names_and_shapes(tmp_path):
    model = opened(zoo.relu(batch=1), tmp_path)
    with pytest.raises(InputDataError, match="expected inputs x; got image"):
        model.run({"image": np.ones((1, 3))})
    with pytest.raises(RuntimeCrash, match="invalid dimensions for input: x"):
        model.run({"x": np.ones((2, 3))})


@pytest.mark.parametrize(
    ("array", "dtype", "good"),
    [
        (np.array([1.0, 2.0]), "int64", True),
        (np.array([1.5]), "int64", False),
        (np.array([np.nan]), "int32", False),
        (np.array([0, 255]), "uint8", True),
        (np.array([-1]), "uint8", False),
        (np.array([256.0], np.float32), "uint8", False),
        (np.array([3], np.uint8), "float32", True),
        (np.array([2**24 + 1]), "float32", False),
        (np.array([0.1]), "float32", True),
        (np.array([1e300]), "float32", False),
        (np.array([np.inf, np.nan]), "float16", True),
        (np.array([1e6], np.float32), "float16", False),
        (np.array([0, 1]), "bool", True),
        (np.array(["a"]), "float32", False),
        (np.array([2**63], np.uint64), "int64", False),
    ],
)
def test_casts_are_exact_or_refused(array, dtype, good):
    if good:
        assert onnx_cast.fit("x", array, dtype).dtype == np.dtype(dtype)
    else:
        with pytest.raises(InputDataError, match="input 'x': expected"):
            onnx_cast.fit("x", array, dtype)


def test_scalars_stay_scalars():
    assert onnx_cast.fit("x", np.float64(0.5), "float32").shape == ()


@given(hnp.arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_bfloat16_rounds_to_nearest(values):
    import ml_dtypes

    ours = onnx_cast.from_bfloat16(onnx_cast.to_bfloat16(values))
    theirs = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(ours, theirs, equal_nan=True)


def test_lift_is_the_file_itself(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    assert formats.open(path).lift(tmp_path, {}).path == path


def test_scan_sees_bodies_functions_and_attributes(tmp_path):
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [out])

    choice = helper.make_node("If", ["flag"], ["v"], then_branch=branch("t", "Neg"), else_branch=branch("e", "Abs"))
    call = helper.make_node("Twice", ["v"], ["y"], domain="local")
    inputs = {"x": (TensorProto.FLOAT, [3]), "flag": (TensorProto.BOOL, [])}
    model = zoo.single([choice, call], inputs, {"y": (1, None)}, domains={"local": 1})
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    facts = scan(zoo.save(model, tmp_path / "m.onnx"))
    assert facts is not None and facts.nodes == 2
    assert {op for _, op in facts.ops} == {"If", "Neg", "Abs", "Twice", "Add"}
    assert facts.functions == {("local", "Twice")} and facts.unshaped == {"y"}
