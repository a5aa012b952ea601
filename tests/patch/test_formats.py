"""Patches on what real converters make: another exporter's file, onnx2torch modules, TensorFlow Lite files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import env as torch_env
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Array, Graph
from fetafix.parallel import ModelProcess
from fetafix.patch import apply as use
from fetafix.patch import revert, save
from fetafix.patch.make import Facts, make
from fetafix.patch.outcome import Wish
from fetafix.plan import entry
from tests.formats.torch_zoo import SIZE, converted, small_cnn
from tests.patch.conversions import nodes, renamed, saved

EXAMPLE = {"image": np.random.default_rng(0).standard_normal((2, *SIZE)).astype(np.float32)}


def faulty() -> nn.Module:
    """The small network with a flipped kernel and a stem that is not padded as it should be."""
    model = small_cnn()
    model.block.conv2.weight.data = model.block.conv2.weight.data.flip((2, 3)).contiguous()
    model.stem.padding, model.stem.dilation = (2, 2), (2, 2)
    return model


def exported(model: nn.Module, path: Path, dynamo: bool) -> Path:
    """An ONNX file by one of torch's two exporters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            arguments = {"dynamo": True, "verbose": False} if dynamo else {
                "dynamo": False, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE,
                "opset_version": 17}
            torch.onnx.export(model, (torch.rand(2, *SIZE),), path, **arguments)  # type: ignore[arg-type]
        finally:
            logging.disable(logging.NOTSET)
    return path


def view(path: Path, folder: Path, feeds: dict[str, Array] | None = None) -> Graph:
    """The canonical graph of a model file."""
    folder.mkdir(exist_ok=True)
    with ModelProcess(path, OpenOptions()) as process:
        name = process.info().inputs[0].name
        example = EXAMPLE["image"] if feeds is None else next(iter(feeds.values()))
        return canonical(load_graph(process.lift(folder, {name: example}).path), Evaluator())


def mending(graph: Graph) -> list[Edit]:
    """What undoes the faults of `faulty` in a graph."""
    convs = [graph.node(k) for k in nodes(graph, "Conv")]
    last = convs[-1]
    kernel = graph.constant(last, 1)
    assert kernel is not None and len(convs) == 3
    return [
        SetAttribute(convs[0].key, "dilations", (1, 1)), SetAttribute(convs[0].key, "pads", (1, 1, 1, 1)),
        SetInput(last.key, 1, np.ascontiguousarray(kernel[:, :, ::-1, ::-1])),
    ]


def written(path: Path, out: Path, edits: Callable[[Graph], Sequence[Edit]], folder: Path) -> Path:
    """A patch of edits of a model, with the undo tried on the graph of the copy as it was written."""
    folder.mkdir()
    with ModelProcess(path, OpenOptions()) as process:
        info = process.info()
        lifted = process.lift(folder, {info.inputs[0].name: EXAMPLE["image"]})
        graph = canonical(load_graph(lifted.path), Evaluator())
        chosen = tuple(edits(graph))
        copy = folder / f"copy{path.suffix}"
        assert not process.write(chosen, copy, lifted.path).unsupported
    after = view(copy, folder / "after")
    facts = Facts(info, info, 0, inputs=((1, *EXAMPLE["image"].shape[1:]),))
    patch, store = make(graph, [(entry("two", chosen, ArrayStore()), chosen)], facts, after)
    assert patch.irrevocable == ""
    save(patch, out, store)
    return out


def answers(path: Path) -> Array:
    with ModelProcess(path, OpenOptions(threads=1)) as process:
        return next(iter(process.run({process.info().inputs[0].name: EXAMPLE["image"]}, 2).values()))


def right() -> Array:
    with torch.inference_mode():
        return small_cnn()(torch.from_numpy(EXAMPLE["image"])).numpy()


def test_a_re_export_by_another_exporter(tmp_path: Path) -> None:
    """The old exporter keeps BatchNormalization and names by module, the new one folds and writes other operators."""
    first, second = (exported(faulty(), tmp_path / f"{n}.onnx", n == "new") for n in ("old", "new"))
    ops = [sorted(n.op_type for n in onnx.load(p).graph.node) for p in (first, second)]
    assert ops[0] != ops[1]
    patch = written(first, tmp_path / "fix.patch", lambda g: mending(g)[:2], tmp_path / "work")
    done = use(patch, second)
    assert done.status == "written", done.reason
    model = faulty()  # the flipped kernel stays: only the stem was mended
    model.stem.padding, model.stem.dilation = (1, 1), (1, 1)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(EXAMPLE["image"])).numpy()
    np.testing.assert_allclose(answers(tmp_path / "new.patched.onnx"), wanted, rtol=1e-3, atol=1e-4)


def test_an_onnx2torch_module_of_a_renamed_file(tmp_path: Path) -> None:
    torch_env.prepare()
    import onnx2torch

    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    torch.save(converted(faulty(), torch.rand(2, *SIZE)), first)
    other = saved(renamed(load_graph(exported(faulty(), tmp_path / "old.onnx", False))), tmp_path / "renamed.onnx")
    torch.save(onnx2torch.convert(onnx.load(other)).eval(), second)
    patch = written(first, tmp_path / "fix.patch", mending, tmp_path / "work")
    done = use(patch, second)
    assert done.status == "written", done.reason
    out = tmp_path / "second.patched.pt"
    np.testing.assert_allclose(answers(out), right(), rtol=1e-4, atol=1e-5)
    assert revert(patch, out, Wish(out=tmp_path / "back.pt")).status == "written"
    states = [torch.load(p, weights_only=False).state_dict() for p in (second, tmp_path / "back.pt")]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert answers(second).tobytes() == answers(tmp_path / "back.pt").tobytes()


def test_an_int8_tflite_file(tfzoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel and a slope of a converted file are changed in a copy, and put back code by code."""
    path = tfzoo("tflite_edit_models") / "int8.tflite"
    monkeypatch.setitem(EXAMPLE, "image", np.load(path.with_name("samples.npz"))["images"][:1])
    patch = written(path, tmp_path / "fix.patch", _changes, tmp_path / "work")
    done = use(patch, path, Wish(out=tmp_path / "changed.tflite"))
    assert done.status == "written", done.reason
    assert answers(tmp_path / "changed.tflite").tobytes() != answers(path).tobytes()
    back = revert(patch, tmp_path / "changed.tflite", Wish(out=tmp_path / "back.tflite"))
    assert back.status == "written", back.reason
    assert answers(tmp_path / "back.tflite").tobytes() == answers(path).tobytes()


def _changes(graph: Graph) -> list[Edit]:
    """Another kernel in the first convolution, another slope in the LeakyRelu."""
    conv = graph.node(nodes(graph, "Conv")[0])
    kernel = graph.constant(conv, 1)
    assert kernel is not None
    slope = [SetAttribute(k, "alpha", 0.3) for k in nodes(graph, "LeakyRelu")]
    return [SetInput(conv.key, 1, np.ascontiguousarray(kernel[:, :, ::-1])), *slope]
