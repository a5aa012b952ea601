"""Edits written into TFLite files: what comes out is run by stock LiteRT and compared with the edited ONNX view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fetafix.edits import Edit, InsertNode, RemoveNode, Rewire, SetAttribute, SetInput, SetOperator, SetOutputs, apply
from fetafix.errors import EditError, OutputError
from fetafix.faults import catalogue
from fetafix.formats.base import OpenOptions, Written
from fetafix.formats.tflite import schema as tflite_schema
from fetafix.formats.tflite.patch import patched
from fetafix.formats.tflite.write import write
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph, model_from_graph
from fetafix.graph.segment import relative_error
from fetafix.inject import _find, measured
from fetafix.ir import Array, Graph, Node
from fetafix.parallel import ModelProcess

KINDS = ("float", "fp16", "dynamic", "int8")
EXACT = 2e-5


@dataclass(frozen=True)
class Model:
    """A TFLite file, its view, and samples."""

    path: Path
    lifted: Path
    images: Array

    @property
    def graph(self) -> Graph:
        return load_graph(self.lifted)

    def nodes(self, op: str) -> list[Node]:
        return [n for n in self.graph.nodes if n.op == op]

    def weight(self, node: Node, slot: int = 1) -> Array:
        value = self.graph.constant(node, slot)
        assert value is not None
        return value

    def write(self, edits: Sequence[Edit], out: Path) -> Written:
        return write(self.path, edits, out, self.lifted, OpenOptions())

    def expected(self, edits: Sequence[Edit]) -> list[Array]:
        graph = apply(self.graph, edits)
        feeds = {graph.input_names[0]: self.images}
        return Evaluator().run(graph, feeds, graph.output_names)


@pytest.fixture(scope="module")
def models(tfzoo: Callable[[str], Path]) -> Mapping[str, Model]:
    folder = tfzoo("tflite_edit_models")
    with np.load(folder / "samples.npz") as arrays:
        images = arrays["images"][:4]
    return {k: Model(folder / f"{k}.tflite", folder / k / "lifted.onnx", images) for k in KINDS}


@pytest.fixture
def model(models: Mapping[str, Model]) -> Model:
    return models["float"]


def answers(path: Path, images: Array) -> list[Array]:
    """What stock LiteRT says to the file: as it is where it takes real numbers, else through a worker."""
    interpreter = Interpreter(str(path))
    entry = interpreter.get_input_details()[0]
    if entry["dtype"] != np.float32:
        with ModelProcess(path) as process:
            return list(process.run({process.info().inputs[0].name: images}, len(images), True).values())
    interpreter.resize_tensor_input(entry["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], images)
    interpreter.invoke()
    return [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]


def differ(a: Array, b: Array) -> bool:
    return a.shape != b.shape or relative_error(a, b) > 1e-5


def check(model: Model, edits: Sequence[Edit], out: Path, worst: float = EXACT) -> bytes:
    """Write, reload, compare with ONNX Runtime on the edited view; the edits must also matter."""
    written = model.write(edits, out)
    assert not written.unsupported
    made, wanted = answers(out, model.images), model.expected(edits)
    assert [m.shape for m in made] == [w.shape for w in wanted]
    assert max(map(relative_error, made, wanted)) <= worst
    assert len(made) != 1 or any(map(differ, made, model.expected([])))
    return out.read_bytes()


def changed_bytes(a: bytes, b: bytes) -> Array:
    """Places where two files of one length differ."""
    assert len(a) == len(b)
    return np.flatnonzero(np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8))


def operators(data: bytes) -> list[str]:
    model = tflite_schema.parse(data)
    return [tflite_schema.opcode(model, o) for o in model.subgraphs[0].operators]


@pytest.mark.parametrize("kind", KINDS)
def test_no_edit_is_the_same_file(models: Mapping[str, Model], kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    assert models[kind].write([], out) == Written(out)
    assert out.read_bytes() == models[kind].path.read_bytes()


@pytest.mark.parametrize("place", range(5))
def test_a_weight_changes_in_its_buffer_and_nowhere_else(model: Model, place: int, tmp_path: Path) -> None:
    node = model.nodes("Conv")[place]
    weight = model.weight(node).copy()
    weight.flat[3] *= -2.0
    made = check(model, [SetInput(node.key, 1, weight)], tmp_path / "out.tflite")
    touched = changed_bytes(model.path.read_bytes(), made)
    assert 1 <= touched.size <= 4 and touched[-1] - touched[0] < 4


def test_dense_weights_and_biases_change_in_place(model: Model, tmp_path: Path) -> None:
    dense = model.nodes("MatMul")[0]
    bias = next(n for n in model.nodes("Add") if model.graph.constant(n, 1) is not None)
    edits = [SetInput(dense.key, 1, model.weight(dense)[::-1].copy()), SetInput(bias.key, 1, model.weight(bias) + 1)]
    made = check(model, edits, tmp_path / "out.tflite")
    before, after = tflite_schema.parse(model.path.read_bytes()), tflite_schema.parse(made)
    assert sum(not np.array_equal(a.data, b.data) for a, b in zip(before.buffers, after.buffers, strict=True)) == 2


def test_an_option_that_is_there_is_overwritten(model: Model, tmp_path: Path) -> None:
    leaky = model.nodes("LeakyRelu")[0]
    made = check(model, [SetAttribute(leaky.key, "alpha", 0.01)], tmp_path / "out.tflite")
    assert changed_bytes(model.path.read_bytes(), made).size <= 4


def test_the_parts_of_a_concatenation_change_places_in_place(model: Model, tmp_path: Path) -> None:
    join = next(n for n in model.nodes("Concat") if n.attrs["axis"] == 1)
    edits = [Rewire(join.key, 0, join.inputs[1]), Rewire(join.key, 1, join.inputs[0])]
    made = check(model, edits, tmp_path / "out.tflite")
    assert changed_bytes(model.path.read_bytes(), made).size == 2


def test_an_option_that_was_left_out_is_appended(model: Model, tmp_path: Path) -> None:
    depthwise = model.nodes("Conv")[1]
    edits = [SetAttribute(depthwise.key, "dilations", (2, 2)), SetAttribute(depthwise.key, "pads", (2, 2, 2, 2))]
    made, before = check(model, edits, tmp_path / "out.tflite"), model.path.read_bytes()
    assert len(before) < len(made) < len(before) + 1000
    assert changed_bytes(before, made[: len(before)]).size <= 8  # the one offset, and the operator's version
    assert operators(made) == operators(before)


def test_a_fused_activation_is_an_option(model: Model, tmp_path: Path) -> None:
    clip = model.nodes("Clip")[0]
    relu = SetOperator(clip.key, "Relu", {}, clip.inputs[:1])
    edits: tuple[Edit, ...] = (RemoveNode(clip.key), SetInput(clip.key, 2, None), relu)
    for i, edit in enumerate(edits):
        made = check(model, [edit], tmp_path / f"{i}.tflite")
        assert changed_bytes(model.path.read_bytes(), made).size == 1


def test_bounds_that_no_activation_has_become_operators(model: Model, tmp_path: Path) -> None:
    clip = model.nodes("Clip")[0]
    made = check(model, [SetInput(clip.key, 2, np.array(0.7, np.float32))], tmp_path / "out.tflite")
    assert set(operators(made)) - set(operators(model.path.read_bytes())) == {"RELU", "MINIMUM"}


def test_a_bias_can_go_and_come_back(model: Model, tmp_path: Path) -> None:
    conv = model.nodes("Conv")[0]
    made = check(model, [SetInput(conv.key, 2, None)], tmp_path / "out.tflite")
    assert operators(made) == operators(model.path.read_bytes())
    check(model, [SetInput(conv.key, 2, model.weight(conv, 2) * 3)], tmp_path / "more.tflite")


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (1, 1, 0, 0)])
def test_pads_that_no_option_has_become_a_pad(model: Model, pads: tuple[int, ...], tmp_path: Path) -> None:
    made = check(model, [SetAttribute(model.nodes("Conv")[0].key, "pads", pads)], tmp_path / "out.tflite")
    assert operators(made)[:2] == ["PAD", "CONV_2D"] and operators(made)[2:] == operators(model.path.read_bytes())[1:]


def test_a_kernel_of_another_size(model: Model, tmp_path: Path) -> None:
    conv = model.nodes("Conv")[2]
    weight = np.zeros((*model.weight(conv).shape[:2], 5, 5), np.float32)
    weight[:, :, 2:3, 2:3], weight[:, :, 0, 0] = model.weight(conv), 0.1
    size, pads = SetAttribute(conv.key, "kernel_shape", (5, 5)), SetAttribute(conv.key, "pads", (2, 2, 2, 2))
    check(model, [SetInput(conv.key, 1, weight), size, pads], tmp_path / "out.tflite")


def test_pooling_becomes_another(model: Model, tmp_path: Path) -> None:
    highest, mean = model.nodes("MaxPool")[0], model.nodes("AveragePool")[0]
    check(model, [SetOperator(highest.key, "AveragePool", highest.attrs)], tmp_path / "a.tflite")
    check(model, [SetOperator(mean.key, "MaxPool", mean.attrs)], tmp_path / "b.tflite")
    check(model, [SetAttribute(mean.key, "pads", (1, 1, 0, 0))], tmp_path / "c.tflite")
    check(model, [SetAttribute(mean.key, "count_include_pad", 1)], tmp_path / "d.tflite")


def test_connections(model: Model, tmp_path: Path) -> None:
    add, sub = model.nodes("Add")[0], model.nodes("Sub")[0]
    check(model, [Rewire(sub.key, 0, sub.inputs[1]), Rewire(sub.key, 1, sub.inputs[0])], tmp_path / "swap.tflite")
    check(model, [Rewire(add.key, 1, add.inputs[0])], tmp_path / "twice.tflite")
    made = check(model, [RemoveNode(add.key)], tmp_path / "gone.tflite")
    assert len(operators(made)) < len(operators(model.path.read_bytes()))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [("Relu", {}), ("Tanh", {}), ("Sigmoid", {}), ("HardSigmoid", {"alpha": 0.3}), ("Elu", {"alpha": 0.5}),
     ("HardSwish", {}), ("LeakyRelu", {"alpha": 0.1}), ("Transpose", {"perm": (0, 1, 3, 2)}), ("Softmax", {"axis": 1}),
     ("Softmax", {"axis": 3}), ("Neg", {}), ("Abs", {}), ("Exp", {})],
)  # fmt: skip
def test_an_operator_goes_in(model: Model, op: str, attrs: Mapping[str, object], tmp_path: Path) -> None:
    add = model.nodes("Add")[0]
    node = Node(op, (add.key,), ("new",), attrs)  # type: ignore[arg-type]
    made = check(model, [InsertNode(add.key, node)], tmp_path / "out.tflite")
    before = model.path.read_bytes()
    old = tflite_schema.parse(before)
    assert len(operators(made)) > len(operators(before))
    assert changed_bytes(before, made[: len(before)]).size < 32  # offsets to what is new; weights stay where they are
    assert {m.name for m in old.metadata} == {m.name for m in tflite_schema.parse(made).metadata}


@pytest.mark.parametrize(
    ("op", "constants", "attrs"),
    [
        ("Mul", [np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1, 1)], {}),
        ("Add", [np.array(0.5, np.float32)], {}),
        ("Pow", [np.array(2.0, np.float32)], {}),
        ("Gather", [np.arange(8, dtype=np.int64)[::-1].copy()], {"axis": 1}),
        ("Slice", [np.array([-1]), np.array([-9]), np.array([1]), np.array([-1])], {}),
        ("PRelu", [np.linspace(0.1, 0.9, 8, dtype=np.float32).reshape(8, 1, 1)], {}),
        ("Clip", [np.array(-0.2, np.float32), np.array(0.4, np.float32)], {}),
        ("BatchNormalization", [np.linspace(0.5, 1.5, 8, dtype=np.float32)] * 4, {"epsilon": 1e-3}),
        ("CumSum", [np.array(1)], {"exclusive": 1}),
    ],
)
def test_an_operator_with_constants_goes_in(
    model: Model, op: str, constants: list[Array], attrs: Mapping[str, object], tmp_path: Path
) -> None:
    add = model.nodes("Add")[0]
    names = {f"c{i}": c for i, c in enumerate(constants)}
    node = Node(op, (add.key, *names), ("new",), attrs)  # type: ignore[arg-type]
    check(model, [InsertNode(add.key, node, names)], tmp_path / "out.tflite")


def test_outputs_are_dropped_and_added(model: Model, tmp_path: Path) -> None:
    softmax, leaky = model.nodes("Softmax")[0], model.nodes("LeakyRelu")[0]
    check(model, [RemoveNode(softmax.key)], tmp_path / "logits.tflite")
    out = tmp_path / "two.tflite"
    check(model, [SetOutputs((model.graph.output_names[0], leaky.key))], out)
    signature = tflite_schema.parse(out.read_bytes()).signatureDefs[0]
    assert len(signature.outputs) == 2


def test_edits_that_rely_on_each_other(model: Model, tmp_path: Path) -> None:
    add = model.nodes("Add")[0]
    first = InsertNode(add.key, Node("Relu", (add.key,), ("one",)))
    second = InsertNode("one", Node("Neg", ("one",), ("two",)))
    check(model, [first, second, RemoveNode(model.nodes("Clip")[0].key)], tmp_path / "out.tflite")


def test_what_cannot_be_written_is_named_and_the_rest_is(model: Model, tmp_path: Path) -> None:
    add, clip = model.nodes("Add")[0], model.nodes("Clip")[0]
    strange = InsertNode(add.key, Node("Erf", (add.key,), ("new",)))
    out = tmp_path / "out.tflite"
    written = model.write([strange, RemoveNode(clip.key)], out)
    assert [i for i, _ in written.unsupported] == [0] and "Erf" in written.unsupported[0][1]
    assert relative_error(answers(out, model.images)[0], model.expected([RemoveNode(clip.key)])[0]) <= EXACT


@pytest.mark.parametrize("kind", ["fp16", "dynamic", "int8"])
def test_weights_are_written_in_the_file_s_encoding(models: Mapping[str, Model], kind: str, tmp_path: Path) -> None:
    model = models[kind]
    conv = model.nodes("Conv")[0]
    graph = model.graph
    name = conv.inputs[1]
    old = graph.initializers.get(name)
    if old is None:
        old = Evaluator().run(graph, {graph.input_names[0]: model.images}, [name])[0]
    new = (old * np.linspace(-4, 4, old.shape[0], dtype=np.float32).reshape(-1, 1, 1, 1)).astype(np.float32)
    edits, out = [SetInput(conv.key, 1, new)], tmp_path / "out.tflite"
    before = relative_error(answers(model.path, model.images)[0], model.expected([])[0])
    made = check(model, edits, out, max(3 * before, 0.03))
    old_tensors, tensors = (tflite_schema.parse(d).subgraphs[0].tensors for d in (model.path.read_bytes(), made))
    assert [t.type for t in tensors] == [t.type for t in old_tensors]
    assert len(made) == model.path.stat().st_size


def test_scales_of_weights_keep_their_bias(models: Mapping[str, Model], tmp_path: Path) -> None:
    model = models["int8"]
    graph = model.graph
    dequantise = graph.producers[model.nodes("Conv")[0].inputs[1]]
    scale = model.weight(dequantise)
    made = check(model, [SetInput(dequantise.key, 1, (scale * 1.5).astype(np.float32))], tmp_path / "out.tflite", 0.05)
    parsed = tflite_schema.parse(made)
    operator = parsed.subgraphs[0].operators[0]
    source, weight, bias = (tflite_schema.quantisation(parsed.subgraphs[0].tensors[i]) for i in operator.inputs)
    assert source is not None and weight is not None and bias is not None
    np.testing.assert_allclose(weight[0], scale * 1.5, rtol=1e-6)
    np.testing.assert_allclose(bias[0], source[0] * weight[0], rtol=1e-5)


def test_codes_keep_their_operators_when_activations_and_connections_change(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    model = models["int8"]
    clip, sub = model.nodes("Clip")[0], model.nodes("Sub")[0]
    before = operators(model.path.read_bytes())
    out = tmp_path / "a.tflite"  # what ReLU6 cuts off, the grid of its output cuts off as well
    assert not model.write([RemoveNode(clip.key)], out).unsupported
    assert operators(out.read_bytes()) == before
    assert changed_bytes(model.path.read_bytes(), out.read_bytes()).size == 1
    swap = [Rewire(sub.key, 0, sub.inputs[1]), Rewire(sub.key, 1, sub.inputs[0])]
    made = check(model, swap, tmp_path / "b.tflite", 0.1)
    assert operators(made) == before
    bound = check(model, [SetInput(clip.key, 2, np.array(0.7, np.float32))], tmp_path / "c.tflite", 0.1)
    assert "MINIMUM" in operators(bound)


def test_one_end_of_a_tensor_cannot_have_a_grid_of_its_own(models: Mapping[str, Model], tmp_path: Path) -> None:
    model = models["int8"]
    graph = model.graph
    reader = graph.producers[model.nodes("LeakyRelu")[0].inputs[0]]
    assert reader.op == "DequantizeLinear"
    double = SetInput(reader.key, 1, (model.weight(reader) * 2).astype(np.float32))
    written = model.write([double], tmp_path / "out.tflite")
    assert [i for i, _ in written.unsupported] == [0] and "one scale" in written.unsupported[0][1]
    assert (tmp_path / "out.tflite").read_bytes() == model.path.read_bytes()


def test_both_ends_of_a_tensor_change_its_grid(models: Mapping[str, Model], tmp_path: Path) -> None:
    model = models["int8"]
    reader = model.graph.producers[model.nodes("LeakyRelu")[0].inputs[0]]
    writer = model.graph.producers[reader.inputs[0]]
    assert writer.op == "QuantizeLinear"
    scale = (model.weight(reader) * 0.5).astype(np.float32)
    made = check(model, [SetInput(n.key, 1, scale) for n in (writer, reader)], tmp_path / "out.tflite", 0.1)
    assert len(made) == model.path.stat().st_size
    assert changed_bytes(model.path.read_bytes(), made).size <= 4


def test_a_shared_buffer_is_parted(model: Model, tmp_path: Path) -> None:
    """Two convolutions made to share one bias tensor: an edit of the one leaves the other alone."""
    parsed = tflite_schema.parse(model.path.read_bytes())
    convs = [o for o in parsed.subgraphs[0].operators if tflite_schema.opcode(parsed, o).endswith("CONV_2D")][:3]
    for operator in convs:
        operator.inputs = np.array([*operator.inputs[:2], convs[0].inputs[2]], np.int32)
    shared = tmp_path / "shared.tflite"
    shared.write_bytes(patched(model.path.read_bytes(), parsed))
    graph = model.graph
    nodes = model.nodes("Conv")[:3]
    bias = model.weight(nodes[0], 2)
    same = apply(graph, [SetInput(n.key, 2, bias) for n in nodes])
    folder = tmp_path / "view"
    folder.mkdir()
    (folder / "lifted.onnx").write_bytes(model_from_graph(same).SerializeToString())
    edited = Model(shared, folder / "lifted.onnx", model.images)
    check(edited, [SetInput(nodes[1].key, 2, bias + 1)], tmp_path / "out.tflite")


def test_outputs_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    before = model.path.read_bytes()
    with pytest.raises(OutputError, match="original"):
        model.write([], model.path)
    with pytest.raises(OutputError, match="folder"):
        model.write([], tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        model.write([], tmp_path / "none" / "out.tflite")
    assert model.path.read_bytes() == before and not list(tmp_path.iterdir())


REFUSED = {
    "dt-fp16-overflow": "float16", "cg-bad-fusion": "no way to write FusedConv",
    "cg-dropout-live": "no way to write GreaterOrEqual",  # PAD cuts nothing off, as the crop behind a doubled Pad does:
    "cg-pad-duplicated": "does not load",
}


@pytest.mark.parametrize("kind", ["float", "fp16", "dynamic"])
def test_every_fault_of_the_catalogue_can_be_put_into_the_file(
    models: Mapping[str, Model], kind: str, tmp_path: Path
) -> None:
    model, evaluator = models[kind], Evaluator()
    feeds = {model.graph.input_names[0]: model.images[:1]}
    graph = measured(canonical(model.graph, evaluator), feeds, evaluator)
    done, refused = 0, {}
    for code, fault in catalogue().items():
        try:
            edits, _ = _find(fault, graph, feeds, 1, evaluator)
        except EditError:
            continue
        written = model.write(edits, tmp_path / "out.tflite")
        if written.unsupported:
            refused[code] = written.unsupported[0][1]
        done += not written.unsupported
    assert done >= 18
    assert {c: why for c, why in refused.items() if REFUSED.get(c, "no reason") not in why} == {}
