"""Every kind of edit written into Keras files, reloaded by Keras itself; answers of both sides for tests to compare."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np

from fetafix import edits as E
from fetafix import formats
from fetafix.errors import EditError, RuntimeCrash
from fetafix.faults import catalogue
from fetafix.formats.base import OpenOptions
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.inject import _find, measured
from fetafix.ir import Graph, Node
from tests.tfzoo import keras_models

F = np.float32


def nodes(graph: Graph, op: str) -> list[Node]:
    return [n for n in graph.nodes if n.op == op]


def _weight(op: str, index: int, change: Callable[[Any], Any], slot: int = 1) -> Callable[[Graph], list[Any]]:
    def edits(g: Graph) -> list[Any]:
        node = nodes(g, op)[index]
        return [E.SetInput(node.key, slot, np.ascontiguousarray(change(g.constant(node, slot))))]

    return edits


def _attribute(op: str, index: int, **values: Any) -> Callable[[Graph], list[Any]]:
    return lambda g: [E.SetAttribute(nodes(g, op)[index].key, k, v) for k, v in values.items()]


def _after(op: str, index: int, new: str, constant: Any = None, **attrs: Any) -> Callable[[Graph], list[Any]]:
    def edits(g: Graph) -> list[Any]:
        key = nodes(g, op)[index].key
        inputs = (key,) if constant is None else (key, "fresh_constant")
        constants = {} if constant is None else {"fresh_constant": constant}
        return [E.InsertNode(key, Node(new, inputs, ("fresh",), attrs), constants)]

    return edits


def _removed(op: str, index: int) -> Callable[[Graph], list[Any]]:
    return lambda g: [E.RemoveNode(nodes(g, op)[index].key)]


def _swapped(g: Graph) -> list[Any]:
    node = nodes(g, "Concat")[0]
    return [E.Rewire(node.key, 0, node.inputs[1]), E.Rewire(node.key, 1, node.inputs[0])]


def _segment(g: Graph) -> list[Any]:
    clip = nodes(g, "Clip")[0]
    piece = g.between([clip.input(0)], [clip.key])
    leaky = Node("LeakyRelu", (clip.input(0),), ("leaky",), {"alpha": 0.3})
    elu = Node("Elu", ("leaky",), piece.output_names, {"alpha": 0.5})
    return [E.ReplaceSegment(clip.key, replace(piece, nodes=(leaky, elu), initializers={}))]


def _turned(g: Graph) -> list[Any]:
    """A Transpose that is undone behind a ReLU: both stay lazy."""
    key = nodes(g, "MaxPool")[0].key
    swap = {"perm": (0, 1, 3, 2)}
    first, last = Node("Transpose", (key,), ("t1",), swap), Node("Transpose", ("t2",), ("t3",), swap)
    return [E.InsertNode(key, first), E.InsertNode("t1", Node("Tanh", ("t1",), ("t2",))), E.InsertNode("t2", last)]


CNN: dict[str, Callable[[Graph], list[Any]]] = {
    "kernel": _weight("Conv", 2, lambda w: w[:, :, ::-1, ::-1]),
    "depthwise": _weight("Conv", 1, lambda w: w * F(2)),
    "dense": _weight("MatMul", 0, lambda w: w * F(1.5)),
    "bias": _weight("Conv", 2, lambda b: b + F(1), slot=2),
    "variance": _weight("BatchNormalization", 1, lambda v: v * F(3), slot=4),
    "mean": _weight("BatchNormalization", 0, lambda v: v + F(1), slot=3),
    "add-bias": lambda g: [E.SetInput(nodes(g, "Conv")[0].key, 2, np.arange(8, dtype=F))],
    "drop-bias": lambda g: [E.SetInput(nodes(g, "Conv")[2].key, 2, None)],
    "epsilon": _attribute("BatchNormalization", 0, epsilon=0.3),
    "dilation": _attribute("Conv", 2, dilations=(1, 1), pads=(1, 1, 1, 1)),
    "pads": _attribute("Conv", 2, pads=(4, 4, 0, 0)),
    "stride-pads": _attribute("Conv", 0, pads=(1, 1, 0, 0)),
    "relu-limit": lambda g: [E.SetInput(nodes(g, "Clip")[0].key, 2, np.array(1, F))],
    "relu-floor": lambda g: [E.SetInput(nodes(g, "Clip")[0].key, 1, np.array(-0.5, F))],
    "alpha": _attribute("LeakyRelu", 0, alpha=0.7),
    "softmax-axis": _attribute("Softmax", 0, axis=0),
    "insert": _after("Conv", 1, "Relu"),
    "append": _after("Softmax", 0, "Softmax", axis=-1),
    "scale": _after("Conv", 1, "Mul", np.linspace(0.5, 2, 8, dtype=F).reshape(1, 8, 1, 1)),
    "factor": _after("Conv", 1, "Mul", np.array(2.5, F)),
    "remove": _removed("Clip", 0),
    "remove-inner-relu": _removed("Relu", 1),
    "remove-softmax": _removed("Softmax", 0),
    "rewire": lambda g: [E.Rewire(nodes(g, "Add")[0].key, 1, nodes(g, "Relu")[0].key)],
    "operator": lambda g: [E.SetOperator(nodes(g, "Relu")[0].key, "HardSwish")],
    "pool": lambda g: [E.SetOperator(nodes(g, "MaxPool")[0].key, "AveragePool", dict(nodes(g, "MaxPool")[0].attrs))],
    "concat": _swapped,
    "segment": _segment,
    "transpose": _turned,
}
CNN["several"] = lambda g: [*CNN["kernel"](g), *CNN["rewire"](g), *CNN["epsilon"](g), *CNN["alpha"](g)]
CNN["no-change"] = lambda g: []
MLP = {
    "factor": _weight("Mul", 0, lambda v: v * F(2)),
    "shift": _weight("Add", 1, lambda v: v + F(0.5)),
    "both": lambda g: [*_weight("Mul", 0, lambda v: v * F(2))(g), *_weight("Add", 1, lambda v: v + F(0.5))(g)],
    "dense": _weight("MatMul", 1, lambda w: w[::-1]),
}
NESTED = {
    "kernel": _weight("Conv", 0, lambda w: w[::-1]),
    "epsilon": _attribute("BatchNormalization", 0, epsilon=0.5),
    "insert": _after("Conv", 0, "Sigmoid"),
}
CHAIN = {"pads": _attribute("Conv", 0, pads=(0, 0, 0, 0)), "append": _after("Add", -1, "Relu"),
         "epsilon": _attribute("BatchNormalization", 0, epsilon=0.2)}  # fmt: skip
SEVERAL = {"shared": _weight("MatMul", 0, lambda w: w * F(2)), "head": _weight("MatMul", -1, lambda w: w * F(2))}
CASES = {
    "cnn.keras": CNN, "cnn-keras2.h5": CNN, "mlp.keras": MLP, "nested.h5": NESTED, "chain.keras": CHAIN,
    "several.h5": SEVERAL,
}  # fmt: skip

NAMED = ("cnn.keras/append", "cnn.keras/remove-softmax", "several.h5/head", "chain.keras/append")


def make(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    for name in ("cnn", "mlp", "nested", "chain", "several"):
        model = getattr(keras_models, name)()
        keras_models._enliven(model)
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
    keras_models.keras2(folder / "cnn.h5", folder / "cnn-keras2.h5")
    results: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for file, cases in CASES.items():
        bench = Bench(folder, file)
        for name, edits in cases.items():
            bench.note(f"{file}/{name}", edits(bench.graph), results, arrays)
        if file == "cnn.keras":
            _faults(bench, results, arrays)
    (folder / "results.json").write_text(json.dumps(results))
    np.savez(folder / "results.npz", **arrays)


def _faults(bench: Bench, results: dict[str, Any], arrays: dict[str, Any]) -> None:
    """One seeded fault of every type that has a place in the model."""
    evaluator = Evaluator()
    graph = measured(canonical(bench.graph, evaluator), bench.feeds, evaluator)
    for code, fault in catalogue().items():
        try:
            edits, _ = _find(fault, graph, bench.feeds, 0, evaluator)
        except EditError:
            continue
        bench.note(f"fault/{code}", edits, results, arrays)


class Bench:
    """One file, opened and lifted."""

    def __init__(self, folder: Path, file: str) -> None:
        self.folder, self.path = folder, folder / file
        self.artifact = formats.open(self.path, OpenOptions(threads=1))
        self.feeds = {
            i.name: np.random.default_rng(3).normal(0, 1, (2, *i.shape[1:])).astype(i.dtype)
            for i in self.artifact.info.inputs
        }  # fmt: skip
        work = folder / f"lift-{file}"
        work.mkdir()
        self.lifted = self.artifact.lift(work, self.feeds)
        self.graph = load_graph(self.lifted.path)
        self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def note(self, case: str, edits: Sequence[Any], results: dict[str, Any], arrays: dict[str, Any]) -> None:
        out = self.folder / f"out{self.path.suffix}"
        written = self.artifact.write(edits, out, self.lifted.path)
        after = E.apply(self.graph, edits)
        try:
            wanted = Evaluator().run(after, self.feeds, after.output_names)
        except RuntimeCrash:  # a batch size that the edit fixes to another one
            wanted = []
        result: dict[str, Any] = {"unsupported": [r for _, r in written.unsupported], "outputs": len(wanted)}
        try:  # the stock loader, except for files that it refuses in the first place
            model = keras.saving.load_model(out, compile=False, safe_mode=True)
            result["stock"] = True
        except (ValueError, TypeError):
            model = formats.open(out, OpenOptions())._model
            result["stock"] = False
        result["layers"] = [type(x).__name__ for x in model.layers]
        result["kind"] = type(model).__name__
        fed = list(self.feeds.values())
        made = keras.tree.flatten(model(fed if len(fed) > 1 else fed[0], training=False))
        before = self.artifact.run(self.feeds)
        for i, (want, have, was) in enumerate(zip(wanted, made, before.values(), strict=False)):
            arrays.update({f"{case}/{i}/want": want, f"{case}/{i}/have": np.asarray(have), f"{case}/{i}/was": was})
        result["untouched"] = hashlib.sha256(self.path.read_bytes()).hexdigest() == self.digest
        if case in NAMED:
            result["names"] = [x.name for x in formats.open(out, OpenOptions()).info.outputs]
        results[case] = result
