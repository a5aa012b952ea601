"""Repairs written natively: the reloaded file answers as ONNX Runtime does with the edited graph."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fetafix import edits as E
from fetafix.errors import OutputError
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import env as torch_env
from fetafix.formats.torch import model as pytorch
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Graph, Node
from tests.formats.torch_zoo import ARCH, CONTAINERS, SIZE, converted, save, small_cnn

torch_env.prepare()
X = np.random.default_rng(1).random((2, *SIZE), np.float32) * 4
STRUCTURED = [c for c in CONTAINERS if c != "torch-state-dict"]


def nodes(graph: Graph, op: str) -> list[Node]:
    return [n for n in graph.nodes if n.op == op]


def set_weight(g):
    conv = nodes(g, "Conv")[1]
    return [E.SetInput(conv.key, 1, g.constant(conv, 1)[:, :, ::-1, ::-1].copy())]


def set_linear(g):
    (gemm,) = nodes(g, "Gemm")
    return [E.SetInput(gemm.key, 1, g.constant(gemm, 1) * np.float32(1.5))]


def set_bias(g):
    return [E.SetInput(nodes(g, "Conv")[0].key, 2, np.arange(8, dtype=np.float32))]


def set_variance(g):
    return [E.SetInput(nodes(g, "BatchNormalization")[1].key, 4, np.linspace(0.1, 3, 8, dtype=np.float32))]


def add_bias(g):
    return [E.SetInput(nodes(g, "Conv")[1].key, 2, np.arange(8, dtype=np.float32))]


def drop_bias(g):
    return [E.SetInput(nodes(g, "Conv")[2].key, 2, None)]


def set_epsilon(g):
    return [E.SetAttribute(nodes(g, "BatchNormalization")[0].key, "epsilon", 0.3)]


def set_dilation(g):
    key = nodes(g, "Conv")[2].key
    return [E.SetAttribute(key, "dilations", (2, 2)), E.SetAttribute(key, "pads", (2, 2, 2, 2))]


def shift_pads(g):
    return [E.SetAttribute(nodes(g, "Conv")[2].key, "pads", (2, 2, 0, 0))]


def set_clip(g):
    return [E.SetInput(nodes(g, "Clip")[0].key, 2, np.array(1, np.float32))]


def insert_relu(g):
    conv = nodes(g, "BatchNormalization")[1].key
    return [E.InsertNode(conv, Node("Relu", (conv,), ("new",)))]


def append_softmax(g):
    return [E.InsertNode("output", Node("Softmax", ("output",), ("probabilities",), {"axis": -1}))]


def remove_clip(g):
    return [E.RemoveNode(nodes(g, "Clip")[0].key)]


def rewire_residual(g):
    return [E.Rewire(nodes(g, "Add")[0].key, 0, nodes(g, "Conv")[1].key)]


def substitute(g):
    return [E.SetOperator(nodes(g, "Relu")[0].key, "HardSwish")]


def replace_segment(g):
    clip = nodes(g, "Clip")[0]
    piece = g.between([clip.input(0)], [clip.key])
    leaky = Node("LeakyRelu", (clip.input(0),), ("leaky",), {"alpha": 0.3})
    last = Node("Elu", ("leaky",), piece.output_names, {"alpha": 0.5})
    return [E.ReplaceSegment(clip.key, replace(piece, nodes=(leaky, last), initializers={}))]


def several(g):
    return [*set_weight(g), *rewire_residual(g), *append_softmax(g), *set_epsilon(g)]


TENSORS = [set_weight, set_linear, set_bias, set_variance]
STRUCTURE = [
    add_bias,
    drop_bias,
    set_epsilon,
    set_dilation,
    shift_pads,
    set_clip,
    insert_relu,
    append_softmax,
    remove_clip,
    rewire_residual,
    substitute,
    replace_segment,
    several,
]


class Bench:
    """One file of a container, opened and lifted."""

    def __init__(self, container, folder, model=None):
        self.options = OpenOptions(threads=1, arch=ARCH)
        self.container, self.folder = container, folder
        self.path = save(container, folder, model)
        self.artifact = pytorch.open(self.path, container, self.options)
        self.name = self.artifact.info.inputs[0].name
        self.lifted = self.artifact.lift(folder, {self.name: X})
        self.graph = load_graph(self.lifted.path)
        self.before = self.artifact.run({self.name: X})["output"]

    def write(self, edits):
        out = self.folder / f"out{self.path.suffix}"
        written = self.artifact.write(edits, out, self.lifted.path)
        assert pytorch.recognise(out) == self.container
        return out, written.unsupported

    def run(self, path):
        return pytorch.open(path, self.container, self.options).run({self.name: X})["output"]

    def wanted(self, edits):
        after = E.apply(self.graph, edits)
        return Evaluator().run(after, {self.name: X}, after.output_names)[0]


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    return {c: Bench(c, tmp_path_factory.mktemp(c)) for c in CONTAINERS}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("make", TENSORS, ids=lambda f: f.__name__)
def test_tensors_are_written_natively(make, container, benches):
    bench = benches[container]
    edits, original = make(bench.graph), bench.path.read_bytes()
    out, unsupported = bench.write(edits)
    wanted = bench.wanted(edits)
    assert unsupported == () and np.abs(wanted - bench.before).max() > 1e-3
    np.testing.assert_allclose(bench.run(out), wanted, rtol=1e-5, atol=1e-5)
    assert bench.path.read_bytes() == original
    np.testing.assert_array_equal(bench.artifact.run({bench.name: X})["output"], bench.before)


# Exporting a changed program again takes seconds, so .pt2 is tested with one edit of each kind.
EXPORTED = {drop_bias, set_dilation, append_softmax, replace_segment, several}
PAIRS = [(c, f) for f in STRUCTURE for c in STRUCTURED if c != "torch-export" or f in EXPORTED]


@pytest.mark.parametrize(("container", "make"), PAIRS, ids=lambda v: getattr(v, "__name__", v))
def test_structure_is_written_natively(container, make, benches):
    bench = benches[container]
    edits = make(bench.graph)
    out, unsupported = bench.write(edits)
    wanted = bench.wanted(edits)
    assert unsupported == () and np.abs(wanted - bench.before).max() > 1e-5
    np.testing.assert_allclose(bench.run(out), wanted, rtol=1e-5, atol=1e-5)


def test_a_repaired_module_opens_with_plain_torch_load_and_changes_only_what_differs(benches):
    bench = benches["torch-module"]
    out, _ = bench.write(set_epsilon(bench.graph))
    repaired, original = (torch.load(p, weights_only=False).eval() for p in (out, bench.path))
    assert repaired.code == original.code
    assert [n for n, m in repaired.named_modules() if 0.3 in (vars(m).get("eps"), vars(m).get("epsilon"))]
    np.testing.assert_allclose(repaired(torch.from_numpy(X)).detach().numpy(), bench.run(out), atol=1e-6)
    out, _ = bench.write(set_dilation(bench.graph))
    changed = torch.load(out, weights_only=False).get_submodule("block/conv2/Conv")
    assert changed.dilation == (2, 2) and changed.padding == (2, 2)


def test_a_repaired_script_keeps_its_parameter_names(benches):
    bench = benches["torchscript"]
    out, _ = bench.write(append_softmax(bench.graph))
    assert torch.jit.load(out).state_dict().keys() == torch.jit.load(bench.path).state_dict().keys()


def test_a_repaired_exported_program_keeps_dynamic_sizes(benches):
    bench = benches["torch-export"]
    out, _ = bench.write(insert_relu(bench.graph))
    artifact = pytorch.open(out, "torch-export", bench.options)
    assert artifact.run({bench.name: np.ones((7, *SIZE), np.float32)})["output"].shape == (7, 10)


def test_a_state_dict_keeps_its_form_and_refuses_structure_with_a_reason(benches, tmp_path):
    bench = benches["torch-state-dict"]
    path, out = tmp_path / "wrapped.pt", tmp_path / "out.pt"
    parallel = OrderedDict(
        (f"module.{k}", v.half() if k == "fc.bias" else v) for k, v in small_cnn().state_dict().items()
    )
    torch.save({"epoch": 3, "state_dict": parallel}, path)
    artifact = pytorch.open(path, "torch-state-dict", bench.options)
    edits = [*set_epsilon(bench.graph), *set_weight(bench.graph), *set_dilation(bench.graph)]
    written = artifact.write(edits, out, bench.lifted.path)
    assert [i for i, _ in written.unsupported] == [0, 2, 3]
    assert all("code" in reason for _, reason in written.unsupported)
    saved = torch.load(out, weights_only=True)
    assert saved["epoch"] == 3 and list(saved["state_dict"]) == list(parallel)
    assert saved["state_dict"]["module.fc.bias"].dtype == torch.float16
    changed = [k for k in parallel if not torch.equal(parallel[k], saved["state_dict"][k])]
    assert changed == ["module.block.conv.weight"]


def test_unsupported_edits_are_named_and_the_rest_is_written(benches):
    bench = benches["torch-module"]
    nothing = Node("Bernoulli", ("output",), ("random",))
    edits = [*set_weight(bench.graph), E.InsertNode("output", nothing), *set_epsilon(bench.graph)]
    out, unsupported = bench.write([*edits, E.SetPreprocessing({"mean": 0})])
    assert [i for i, _ in unsupported] == [1] and "Bernoulli" in unsupported[0][1]
    np.testing.assert_allclose(bench.run(out), bench.wanted([edits[0], edits[2]]), rtol=1e-5, atol=1e-5)


def test_a_shared_layer_changes_only_where_it_is_edited(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(torch.relu(self.conv(x)))

    for container in ("torchscript", "torch-export", "torch-module"):
        folder = tmp_path / container
        folder.mkdir()
        torch.manual_seed(1)
        bench = Bench(container, folder, Twice().eval())
        last = nodes(bench.graph, "Conv")[1]
        edits = [E.SetInput(last.key, 1, bench.graph.constant(last, 1) * 2)]
        out, unsupported = bench.write(edits)
        assert unsupported == ()
        np.testing.assert_allclose(bench.run(out), bench.wanted(edits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["scripted", "frozen", "traced by fx"])
def test_other_ways_to_store_a_module(kind, tmp_path):
    model, path = small_cnn(), tmp_path / "model.pt"
    if kind == "traced by fx":
        torch.save(torch.fx.symbolic_trace(model), path)
    else:
        script = torch.jit.script(model)
        torch.jit.save(torch.jit.freeze(script) if kind == "frozen" else script, path)
    artifact = pytorch.open(path, pytorch.recognise(path), OpenOptions(threads=1))
    lifted = artifact.lift(tmp_path, {"x": X})
    graph = load_graph(lifted.path)
    assert lifted.notes == ()
    weight = E.SetInput(nodes(graph, "Conv")[1].key, 1, np.full((8, 8, 3, 3), 0.1, np.float32))
    edits = [weight, *set_dilation(graph), *append_softmax(graph)]
    out = tmp_path / "out.pt"
    assert artifact.write(edits, out, lifted.path).unsupported == ()
    after = E.apply(graph, edits)
    (wanted,) = Evaluator().run(after, {"x": X}, after.output_names)
    result = pytorch.open(out, pytorch.recognise(out), OpenOptions(threads=1)).run({"x": X})
    np.testing.assert_allclose(result["output"], wanted, rtol=1e-5, atol=1e-5)


def test_code_that_cannot_be_traced_takes_tensors_only(tmp_path):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = small_cnn()

        def forward(self, x):
            return -self.model(x) if x.sum() > 1e9 else self.model(x)

    import tests.formats.torch_zoo as zoo

    zoo.Branching = Branching
    path, out = tmp_path / "state.pt", tmp_path / "out.pt"
    torch.save(Branching().state_dict(), path)
    artifact = pytorch.open(path, "torch-state-dict", OpenOptions(threads=1, arch="tests.formats.torch_zoo:Branching"))
    lifted = artifact.lift(tmp_path, {"x": X})
    graph = load_graph(lifted.path)
    edits = [*set_weight(graph), *append_softmax(graph)]
    written = artifact.write(edits, out, lifted.path)
    assert [i for i, _ in written.unsupported] == [1] and "traced" in written.unsupported[0][1]
    changed = {k for k, v in torch.load(out).items() if not torch.equal(v, torch.load(path)[k])}
    assert changed == {"model.block.conv.weight"}


def test_an_unwritable_place_is_an_output_error(benches, tmp_path):
    bench = benches["torch-module"]
    with pytest.raises(OutputError, match="cannot be written"):
        bench.artifact.write(set_bias(bench.graph), tmp_path / "missing" / "out.pt", bench.lifted.path)
    before = sorted(p.name for p in bench.folder.iterdir())
    bench.write(set_bias(bench.graph))
    assert {p.name for p in bench.folder.iterdir()} - set(before) <= {"out.pt"}


def test_a_repaired_file_can_be_repaired_again(benches, tmp_path):
    bench = benches["torch-module"]
    out, _ = bench.write(replace_segment(bench.graph))
    artifact = pytorch.open(out, "torch-module", bench.options)
    lifted = artifact.lift(tmp_path, {bench.name: X})
    graph = load_graph(lifted.path)
    edits = [*set_bias(graph), E.SetAttribute(nodes(graph, "LeakyRelu")[0].key, "alpha", 0.1)]
    again = tmp_path / "again.pt"
    assert artifact.write(edits, again, lifted.path).unsupported == ()
    after = E.apply(graph, edits)
    np.testing.assert_allclose(
        bench.run(again), Evaluator().run(after, {bench.name: X}, ["output"])[0], rtol=1e-5, atol=1e-5
    )


def test_converted_twin_used_here_is_an_onnx2torch_module():
    module = converted(small_cnn(), torch.rand(2, *SIZE))
    assert any("onnx2torch" in type(m).__module__ for m in module.modules())


class Side(nn.Module):
    """Two branches of one width side by side."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, x):
        return self.fc(torch.cat([self.left(x), torch.relu(self.right(x))], 1).flatten(1))


@pytest.mark.parametrize("container", STRUCTURED)
def test_operands_change_places(container, tmp_path):
    torch.manual_seed(0)
    bench = Bench(container, tmp_path, Side().eval())
    (join,) = (n for n in nodes(bench.graph, "Concat") if n.inputs[0] in bench.graph.producers)
    edits = [E.Rewire(join.key, 0, join.inputs[1]), E.Rewire(join.key, 1, join.inputs[0])]
    out, unsupported = bench.write(edits)
    assert not unsupported
    assert np.allclose(bench.run(out), bench.wanted(edits), atol=1e-5)
    assert not np.allclose(bench.run(out), bench.before, atol=1e-2)
