"""Writing edits into ONNX files: the edit takes effect, everything else stays, failures leave nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fetafix import formats
from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetInputShape,
    SetOperator,
    SetOutputs,
    SetPreprocessing,
)
from fetafix.errors import EditError, OutputError
from fetafix.formats.onnx import store as onnx_store
from fetafix.graph.proto import load_graph
from fetafix.ir import Node
from tests.formats import onnx_zoo as zoo


def write(path: Path, edits: list[Edit], name: str = "out.onnx") -> onnx.ModelProto:
    out = path.parent / name
    written = formats.open(path).write(edits, out, path)
    assert written.path == out and not written.unsupported
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")], "temporary files are left"
    return onnx.load(str(out), load_external_data=False)


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)


def same_except(before: onnx.ModelProto, after: onnx.ModelProto, nodes: set[str] = frozenset(),
                tensors: set[str] = frozenset(), shapes: set[str] = frozenset()) -> None:
    """Both models are equal byte for byte but for the named nodes, initializers and declared shapes."""
    a, b = onnx.ModelProto(), onnx.ModelProto()
    for copy, model in ((a, before), (b, after)):
        copy.CopyFrom(model)
        for field, gone in (("node", nodes), ("initializer", tensors), ("value_info", shapes)):
            entries = getattr(copy.graph, field)
            for i in reversed(range(len(entries))):
                if entries[i].name in gone:
                    del entries[i]
    assert a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def tensor(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


@pytest.mark.parametrize("opset", zoo.OPSETS)
def test_set_weight_keeps_everything_else(tmp_path, opset):
    model = zoo.classifier(opset)
    path = zoo.save(model, tmp_path / "m.onnx")
    value = np.full((4, 3, 3, 3), 0.25, np.float32)
    after = write(path, [SetInput("c", 1, value)])
    same_except(model, after, tensors={"conv.weight"})
    assert np.array_equal(tensor(after, "conv.weight"), value)
    assert [t.name for t in after.graph.initializer] == [t.name for t in model.graph.initializer]
    assert after.graph.initializer[0].doc_string == "kernel"
    x = zoo.images(2)
    assert not np.allclose(run(path, {"image": x})[0], run(tmp_path / "out.onnx", {"image": x})[0])


def test_without_edits_the_model_is_the_same(tmp_path):
    model = zoo.classifier()
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetPreprocessing({"mean": 0})])
    same_except(model, after)


def test_set_attribute_keeps_the_node_otherwise(tmp_path):
    model = zoo.classifier()
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetAttribute("c", "dilations", (1, 1))])
    same_except(model, after, nodes={"/conv/Conv"})
    old, new = model.graph.node[0], after.graph.node[0]
    assert list(new.attribute)[:-1] == list(old.attribute)
    assert new.attribute[-1].name == "dilations"
    assert new.doc_string == old.doc_string and new.metadata_props[0].value == "layer 1"


def test_attribute_removed_and_changed_in_place(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    after = write(path, [SetAttribute("c", "group", None), SetAttribute("c", "strides", (2, 2)),
                         SetAttribute("c", "pads", (1, 1, 1, 1)), SetInput("logits", 1, np.ones((5, 64), np.float32))])
    assert [a.name for a in after.graph.node[0].attribute] == ["kernel_shape", "pads", "strides"]
    assert not after.graph.value_info, "declared shapes behind the stride are wrong now"
    assert run(tmp_path / "out.onnx", {"image": zoo.images(3)})[0].shape == (3, 5)


def test_constant_node_becomes_an_initializer_and_goes(tmp_path):
    model = zoo.classifier()
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetInput("a", 1, np.array([2.0], np.float32))])
    assert "Constant" not in [n.op_type for n in after.graph.node]
    add = next(n for n in after.graph.node if n.op_type == "Add")
    assert add.name == "/Add" and tensor(after, add.input[1]) == [2.0]
    same_except(model, after, nodes={"/Add", "/Constant"}, tensors={add.input[1]})


def test_shared_tensor_keeps_its_value_for_others(tmp_path):
    nodes = [helper.make_node("Add", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "w"], ["y"])]
    model = zoo.single(nodes, {"x": (1, ["N", 3])}, {"y": (1, ["N", 3])}, {"w": np.full(3, 2, np.float32)})
    write(zoo.save(model, tmp_path / "m.onnx"), [SetInput("p", 1, np.full(3, 5, np.float32))])
    assert np.array_equal(run(tmp_path / "out.onnx", {"x": np.ones((1, 3), np.float32)})[0], [[12, 12, 12]])


def test_unused_parts_of_the_original_stay(tmp_path):
    model = zoo.classifier()
    model.graph.value_info.append(helper.make_tensor_value_info("fc.weight", TensorProto.FLOAT, [5, 256]))
    model.graph.node.append(helper.make_node("Neg", ["r"], ["nobody"], "/dead"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "unused"))
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetInput("c", 2, np.zeros(4, np.float32))])
    same_except(model, after, tensors={"conv.bias"})


def test_inserted_node_gets_a_name_of_its_own(tmp_path):
    model = zoo.classifier()
    path = zoo.save(model, tmp_path / "m.onnx")
    node = Node("Relu", ("c",), ("again",), name="/act/Relu")
    softmax = Node("Softmax", ("logits",), ("p",), {"axis": 1})
    after = write(path, [InsertNode("c", node), InsertNode("logits", softmax)])
    names = [n.name for n in after.graph.node]
    assert len(set(names)) == len(names) and "/Softmax" in names
    assert [o.name for o in after.graph.output] == ["logits"]
    gemm = next(n for n in after.graph.node if n.op_type == "Gemm")
    assert gemm.name == "/fc/Gemm" and gemm.output[0] != "logits"
    assert np.allclose(run(tmp_path / "out.onnx", {"image": zoo.images(2)})[0].sum(1), 1, atol=1e-5)


def test_unnamed_files_stay_unnamed(tmp_path):
    model = zoo.relu()
    model.graph.node[0].name = ""
    after = write(zoo.save(model, tmp_path / "m.onnx"), [InsertNode("x", Node("Neg", ("x",), ("n",)))])
    assert [(n.op_type, n.name) for n in after.graph.node] == [("Neg", ""), ("Relu", "")]


def test_remove_node_and_output_name_stays(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    after = write(path, [RemoveNode("r")])
    assert "Relu" not in [n.op_type for n in after.graph.node]
    conv = after.graph.node[0]
    assert conv.op_type == "Conv" and conv.doc_string == "the only convolution"


def test_set_operator_and_rewire(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    after = write(path, [SetOperator("r", "LeakyRelu", {"alpha": 0.3}), Rewire("a", 1, "r")])
    assert next(n for n in after.graph.node if n.name == "/act/Relu").op_type == "LeakyRelu"
    x = zoo.images(1)
    w = zoo.weights()
    c = run(path_of_inner(path, "c"), {"image": x})[0]
    a = 2 * np.where(c > 0, c, 0.3 * c)
    expected = a.reshape(1, -1) @ w["fc.weight"].T + w["fc.bias"]
    assert np.allclose(run(tmp_path / "out.onnx", {"image": x})[0], expected, atol=1e-3)


def path_of_inner(path: Path, name: str) -> Path:
    write(path, [SetOutputs((name,))], "inner.onnx")
    return path.parent / "inner.onnx"


def test_set_outputs_declares_the_new_one_and_prunes(tmp_path):
    after = write(zoo.save(zoo.classifier(), tmp_path / "m.onnx"), [SetOutputs(("r", ))])
    assert [n.op_type for n in after.graph.node] == ["Conv", "Relu"]
    (output,) = after.graph.output
    assert output.name == "r" and [d.dim_value for d in output.type.tensor_type.shape.dim][1:] == [4, 8, 8]
    assert {t.name for t in after.graph.initializer} == {"conv.weight", "conv.bias"}


def test_output_shape_that_changes_is_declared_anew(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    drop = Node("Gather", ("logits", "rest"), ("kept",), {"axis": 1})
    after = write(path, [InsertNode("logits", drop, {"rest": np.arange(1, 5)})])
    dims = after.graph.output[0].type.tensor_type.shape.dim
    assert dims[1].dim_value == 4
    assert run(tmp_path / "out.onnx", {"image": zoo.images(2)})[0].shape == (2, 4)


def test_input_shape(tmp_path):
    path = zoo.save(zoo.classifier(batch=1), tmp_path / "m.onnx")
    after = write(path, [SetInputShape("image", ("batch", 3, 8, 8))])
    declared = after.graph.input[0]
    assert declared.type.tensor_type.shape.dim[0].dim_param == "batch" and declared.doc_string == "an RGB image"
    assert run(tmp_path / "out.onnx", {"image": zoo.images(3)})[0].shape == (3, 5)


def test_replaced_segment(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    source = load_graph(zoo.save(zoo.classifier(), tmp_path / "s.onnx"))
    fragment = source.between(["c"], ["a"])
    before = run(path, {"image": zoo.images(2)})[0]
    after = write(path, [ReplaceSegment("a", fragment, {"c": "c"})])
    assert np.allclose(run(tmp_path / "out.onnx", {"image": zoo.images(2)})[0], before)
    names = [n.name for n in after.graph.node]
    assert len(set(names)) == len(names)


def test_ir3_initializers_stay_inputs(tmp_path):
    model = zoo.classifier(7)
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetInput("logits", 2, None),
                                                         SetInput("c", 1, np.zeros((4, 3, 1, 1), np.float32)),
                                                         SetAttribute("c", "kernel_shape", (1, 1)),
                                                         SetAttribute("c", "pads", (0, 0, 0, 0)),
                                                         SetInput("logits", 2, np.ones(5, np.float32)),
                                                         SetInput("a", 1, np.ones(1, np.float32))])
    listed = {i.name for i in after.graph.input}
    assert listed == {"image"} | {t.name for t in after.graph.initializer}
    weight = next(i for i in after.graph.input if i.name == "conv.weight")
    assert [d.dim_value for d in weight.type.tensor_type.shape.dim] == [4, 3, 1, 1]


@pytest.mark.parametrize("dtype", [np.float16])
def test_constants_take_the_graphs_precision(tmp_path, dtype):
    path = zoo.save(zoo.classifier(dtype=dtype), tmp_path / "m.onnx")
    scale = Node("Mul", ("image", "std"), ("scaled",))
    after = write(path, [InsertNode("image", scale, {"std": np.full((1, 3, 1, 1), 0.5, np.float32)}),
                         SetInput("c", 1, np.ones((4, 3, 3, 3), np.float32)),
                         SetInput("a", 1, np.ones(1, np.float32)),
                         SetInput("logits", 1, np.ones((5, 256), np.float32))])
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert {t.data_type for t in after.graph.initializer} == {code}


def qdq_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "/q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "/dq"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], "/dqw"),
        helper.make_node("MatMul", ["d", "wf"], ["y"], "/mm"),
    ]
    tensors = {"s": np.float32(0.1), "z": np.int8(0), "w": np.arange(9, dtype=np.int8).reshape(3, 3),
               "ws": np.float32(0.5), "wz": np.int8(0)}
    tensors = {k: np.asarray(v) for k, v in tensors.items()}
    model = zoo.single(nodes, {"x": (1, ["N", 3])}, {"y": (1, ["N", 3])}, tensors)
    note = model.graph.quantization_annotation.add(tensor_name="d")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    return model


def test_quantised_graph_keeps_scalars_and_annotations(tmp_path):
    model = qdq_model()
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetInput("wf", 1, np.asarray(np.float32(0.25)))])
    same_except(model, after, tensors={"ws"})
    assert tensor(after, "ws").shape == () and tensor(after, "ws") == 0.25


def test_functions_are_kept_unless_edited_inside(tmp_path):
    body = [helper.make_node("Mul", ["a", "b"], ["ab"], "mul"), helper.make_node("Relu", ["ab"], ["o"], "act")]
    function = helper.make_function("local", "Scaled", ["a", "b"], ["o"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("Scaled", ["x", "w"], ["s"], "call", domain="local")
    nodes = [call, helper.make_node("Neg", ["s"], ["y"])]
    model = zoo.single(nodes, {"x": (1, ["N", 3])}, {"y": (1, ["N", 3])}, {"w": np.full(3, 2, np.float32)},
                       domains={"local": 1})
    model.functions.append(function)
    path = zoo.save(model, tmp_path / "m.onnx")
    after = write(path, [SetInput("s", 1, np.full(3, 3, np.float32))])
    same_except(model, after, tensors={"w"})
    inner = next(n.key for n in load_graph(path).nodes if n.op == "Mul")
    after = write(path, [SetInput(inner, 1, np.full(3, 4, np.float32))], "inlined.onnx")
    assert not after.functions
    assert np.array_equal(run(tmp_path / "inlined.onnx", {"x": np.ones((1, 3), np.float32)})[0], [[-4, -4, -4]])


def test_captures_of_bodies_are_no_orphans(tmp_path):
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x", "w"], [name])], name, [], [out])

    bodies = {"then_branch": branch("t", "Add"), "else_branch": branch("e", "Sub")}
    choice = helper.make_node("If", ["flag"], ["v"], "if", **bodies)
    nodes = [choice, helper.make_node("Relu", ["v"], ["y"], "relu")]
    inputs = {"x": (TensorProto.FLOAT, [3]), "flag": (TensorProto.BOOL, [])}
    model = zoo.single(nodes, inputs, {"y": (1, None)}, {"w": np.ones(3, np.float32)})
    after = write(zoo.save(model, tmp_path / "m.onnx"), [SetOperator("y", "Neg")])
    same_except(model, after, nodes={"relu"})


# External data


@pytest.mark.parametrize("edit", [SetInput("c", 2, np.zeros(4, np.float32)), SetAttribute("c", "group", 1)])
def test_external_data_round_trip(tmp_path, edit):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx", external=True)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    after = write(path, [edit])
    assert {t.data_location for t in after.graph.initializer} == {TensorProto.EXTERNAL}
    assert onnx_store.locations(after) == ["out.onnx.data"]
    loaded, old = onnx.load(str(tmp_path / "out.onnx")), zoo.weights()
    for name, value in old.items():
        changed = isinstance(edit, SetInput) and name == "conv.bias"
        assert np.array_equal(tensor(loaded, name), np.zeros(4) if changed else value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name in before} == before
    (tmp_path / "m.onnx.bin").unlink()
    assert run(tmp_path / "out.onnx", {"image": zoo.images(2)})[0].shape == (2, 5)


def test_external_data_keep_their_alignment(tmp_path):
    model = zoo.classifier()
    path, blob, start = tmp_path / "m.onnx", tmp_path / "weights.bin", 0
    with blob.open("wb") as file:
        for t in reversed(model.graph.initializer):
            start += 512
            file.seek(start)
            raw = t.raw_data
            file.write(raw)
            t.ClearField("raw_data")
            for key, value in (("location", blob.name), ("offset", start), ("length", len(raw)), ("checksum", "abc")):
                t.external_data.add(key=key, value=str(value))
            t.data_location = TensorProto.EXTERNAL
            start = -(-(start + len(raw)) // 512) * 512
    zoo.save(model, path)
    after = write(path, [SetAttribute("c", "group", 1)])
    places = {t.name: onnx_store.place(t) for t in after.graph.initializer}
    assert all(offset % 512 == 0 for _, offset, _ in places.values())
    assert sorted(places, key=lambda n: places[n][1]) == [t.name for t in reversed(model.graph.initializer)]
    assert {e.value for t in after.graph.initializer for e in t.external_data if e.key == "checksum"} == {"abc"}
    for name, value in zoo.weights().items():
        assert np.array_equal(tensor(onnx.load(str(tmp_path / "out.onnx")), name), value)


def test_output_never_takes_the_originals_data_file(tmp_path):
    model = zoo.classifier()
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="out.onnx.data", size_threshold=0)
    before = (tmp_path / "out.onnx.data").read_bytes()
    after = write(path, [SetInput("c", 2, np.zeros(4, np.float32))])
    assert (tmp_path / "out.onnx.data").read_bytes() == before
    assert onnx_store.locations(after) == ["out.onnx.1.data"]


def test_models_beyond_protobufs_limit_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_store, "PROTOBUF_LIMIT", 2000)
    after = write(zoo.save(zoo.classifier(), tmp_path / "m.onnx"), [SetAttribute("c", "group", 1)])
    apart = {t.name for t in after.graph.initializer if onnx_store.is_apart(t)}
    assert apart == {"fc.weight"}
    assert np.array_equal(tensor(onnx.load(str(tmp_path / "out.onnx")), "fc.weight"), zoo.weights()["fc.weight"])


@pytest.mark.slow
def test_beyond_two_gigabytes(tmp_path):
    size = (1 << 31) + (1 << 20)
    blob = tmp_path / "big.bin"
    with blob.open("wb") as file:
        file.truncate(size)  # sparse: takes no room
    pick = helper.make_node("Gather", ["table", "x"], ["g"], "pick")
    nodes = [pick, helper.make_node("Add", ["g", "b"], ["y"], "add")]
    model = zoo.single(nodes, {"x": (TensorProto.INT64, ["N"])}, {"y": (TensorProto.FLOAT, ["N", 1024])},
                       {"b": np.ones(1024, np.float32)})
    big = model.graph.initializer.add(name="table", data_type=TensorProto.FLOAT, dims=[size // 4096, 1024])
    for key, value in (("location", blob.name), ("offset", 0), ("length", size)):
        big.external_data.add(key=key, value=str(value))
    big.data_location = TensorProto.EXTERNAL
    path = zoo.save(model, tmp_path / "m.onnx")
    write(path, [SetInput("y", 1, np.full(1024, 2, np.float32))])
    assert (tmp_path / "out.onnx.data").stat().st_size == size
    assert run(tmp_path / "out.onnx", {"x": np.array([5])})[0][0, 0] == 2


# Failures


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (SetInput("nowhere", 0, np.ones(1, np.float32)), "no node"),
        (SetInput("c", 1, np.ones((4, 3, 3, 3), np.int64)), "does not load"),
        (SetOperator("r", "NoSuchOperator"), "not valid ONNX"),
    ],
)
def test_bad_edit_leaves_everything(tmp_path, edit, words):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx", external=True)
    (tmp_path / "out.onnx").write_text("an older result")
    (tmp_path / "out.onnx.data").write_text("its weights")
    before = snapshot(tmp_path)
    with pytest.raises(EditError, match=words):
        formats.open(path).write([edit], tmp_path / "out.onnx", path)
    assert snapshot(tmp_path) == before and len(list(tmp_path.iterdir())) == len(before)


def test_unwritable_destination(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    model = formats.open(path)
    with pytest.raises(OutputError, match="does not exist"):
        model.write([], tmp_path / "nowhere" / "out.onnx", path)
    with pytest.raises(OutputError, match="found a folder"):
        model.write([], tmp_path, path)
    with pytest.raises(OutputError, match="original"):
        model.write([], path, path)
    assert list(snapshot(tmp_path)) == ["m.onnx"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        formats.open(path).write([], closed / "out.onnx", path)


def test_failed_rename_keeps_the_older_result(tmp_path, monkeypatch):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    (tmp_path / "out.onnx").write_text("an older result")
    before = snapshot(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        formats.open(path).write([], tmp_path / "out.onnx", path)
    assert snapshot(tmp_path) == before and len(list(tmp_path.iterdir())) == 2
