"""What fetafix makes of tensorflow_models: opened, looked into, refused, edited and reloaded by TensorFlow.

Written: results.json (facts) and results.npz (arrays), which the tests judge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix import faults, formats, inject
from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetOperator,
    SetOutputs,
    apply,
)
from fetafix.errors import EditError, FetafixError
from fetafix.formats.base import OpenOptions
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Array, Graph, Node
from tests.tfzoo import tensorflow_models

SIGNATURES = {"signatures": (None, "first", "second")}
SWEPT = ("keras", "two_outputs.pb", "first_resource", "lstm")


def make(folder: Path) -> None:
    """Write results.json and results.npz."""
    zoo = folder / "zoo"
    zoo.mkdir()
    tensorflow_models.make(zoo)
    facts: dict[str, Any] = {"opened": {}, "refused": {}, "written": {}, "swept": {}}
    arrays: dict[str, Array] = {}
    for path in sorted(zoo.iterdir()):
        for signature in SIGNATURES.get(path.name, (None,)):
            _look(path, signature, folder, facts, arrays)
    for name, cases in CASES.items():
        for case, edits in cases.items():
            _write(zoo / name, case, edits, folder, facts["written"], arrays)
    for name in SWEPT:
        _sweep(zoo / name, folder, facts["swept"])
    facts["evidence"] = (zoo / "evidence").exists()
    (folder / "results.json").write_text(json.dumps(facts))
    np.savez(folder / "results.npz", **arrays)


def feeds_of(info: Any, batch: int = 2) -> dict[str, Array]:
    """Seeded inputs for an interface."""
    rng = np.random.default_rng(0)
    shape = {i.name: [d if isinstance(d, int) else batch for d in i.shape] for i in info.inputs}
    return {i.name: rng.normal(size=shape[i.name]).astype(i.dtype) for i in info.inputs}


def _look(path: Path, signature: str | None, folder: Path, facts: dict[str, Any], arrays: dict[str, Array]) -> None:
    name = path.name + (f":{signature}" if signature else "")
    try:
        format_name = formats.recognise(path)
        model: Any = formats.open(path, OpenOptions(threads=1, signature=signature))
    except FetafixError as error:
        facts["refused"][name] = [type(error).__name__, str(error)]
        return
    feeds = feeds_of(model.info)
    made = model.run(feeds)
    with model.differently():
        other = model.run(feeds)
    taps = model.tap(feeds)
    view = folder / "views" / name
    view.mkdir(parents=True)
    lifted = model.lift(view, feeds)
    graph = load_graph(lifted.path)
    seen = Evaluator().run(graph, feeds, list(made))
    stock = _stock(path, signature, feeds)
    facts["opened"][name] = {
        "format": format_name, "outputs": list(made), "declared": [o.name for o in model.info.outputs],
        "details": model.info.details, "layers": [t.layer for t in taps.layers], "names": dict(lifted.names),
        "notes": list(lifted.notes), "ops": [n.op for n in graph.nodes], "stock": list(stock),
        "batch": [str(v.shape[0]) for v in graph.inputs if v.shape], "signatures": model.info.details.get("signatures"),
    }
    for i, output in enumerate(made):
        kinds = {"run": made[output], "differently": other[output], "lift": seen[i], "tap": taps.values[output]}
        if output in stock:
            kinds["stock"] = stock[output]
        arrays.update({f"{name}/{output}/{k}": v for k, v in kinds.items()})


def _stock(path: Path, signature: str | None, feeds: dict[str, Array]) -> dict[str, Array]:
    """What TensorFlow's own loader makes of it."""
    import tensorflow as tf

    if path.is_dir():
        loaded = tf.saved_model.load(str(path))
        if not loaded.signatures:
            return {k: v.numpy() for k, v in loaded(*map(tf.constant, feeds.values())).items()}
        function = loaded.signatures[signature or "serving_default"]
        return {k: v.numpy() for k, v in function(**{k: tf.constant(v) for k, v in feeds.items()}).items()}
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        read = {t.op.name for op in graph.get_operations() for t in op.inputs}
        ends = [op for op in graph.get_operations() if op.outputs and op.name not in read and op.inputs]
        return {op.name: session.run(op.outputs[0], {f"{k}:0": v for k, v in feeds.items()}) for op in ends}


def _write(
    path: Path, case: str, edits: Callable[[Graph], Sequence[Edit]], folder: Path, facts: dict[str, Any],
    arrays: dict[str, Array],
) -> None:
    name = f"{path.name}/{case}"
    before = formats.sha256(path)
    model: Any = formats.open(path, OpenOptions(threads=1))
    feeds = feeds_of(model.info)
    view = folder / "views" / name.replace("/", "+")
    view.mkdir(parents=True)
    lifted = model.lift(view, feeds)
    graph = load_graph(lifted.path)
    after = apply(graph, edits(graph))
    out = folder / "written" / (name.replace("/", "+") + path.suffix)
    out.parent.mkdir(exist_ok=True)
    written = model.write(edits(graph), out, lifted.path)
    names = list(after.output_names)
    have = _stock(out, None, feeds) if edits(graph) else model.run(feeds)
    facts[name] = {
        "unsupported": list(written.unsupported), "untouched": formats.sha256(path) == before, "outputs": names,
        "found": sorted(have), "left": [p.name for p in out.parent.iterdir() if p.name.startswith(".")],
        "same": _same_files(path, out),
    }
    for output, want in zip(names, Evaluator().run(after, feeds, names), strict=True):
        arrays[f"{name}/{output}/want"] = want
        arrays[f"{name}/{output}/have"] = have.get(output, np.zeros(0))
        arrays[f"{name}/{output}/was"] = model.run(feeds)[output]


def _same_files(old: Path, new: Path) -> list[str]:
    """Files of a folder that are byte for byte the same in its copy."""
    if not old.is_dir():
        return []
    both = [p.relative_to(old) for p in old.rglob("*") if p.is_file() and (new / p.relative_to(old)).is_file()]
    return sorted(str(p) for p in both if (old / p).read_bytes() == (new / p).read_bytes())


def _sweep(path: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Every fault that the catalogue can put into the model, written natively and judged on the reloaded file."""
    model: Any = formats.open(path, OpenOptions(threads=1))
    feeds = feeds_of(model.info, 1)
    view = folder / "views" / f"sweep-{path.name}"
    view.mkdir(parents=True)
    lifted = model.lift(view, feeds)
    evaluator = Evaluator()
    graph = inject.measured(canonical(load_graph(lifted.path), evaluator), feeds, evaluator)
    for fault in faults.catalogue().values():
        try:
            edits, error = inject._find(fault, graph, feeds, 0, evaluator)
        except EditError:
            continue
        out = folder / "swept"
        written = model.write(edits, out, lifted.path)
        gap = None
        if error is not None and not written.unsupported:
            after = apply(graph, edits)
            made = formats.open(out, OpenOptions(threads=1, optimise=False)).run(feeds)  # or it hides overflows
            wanted = evaluator.run(after, feeds, after.output_names)
            with np.errstate(all="ignore"):
                gap = max(_gap(w, made[n]) for n, w in zip(after.output_names, wanted, strict=True))
        facts[f"{path.name}/{fault.code}"] = [list(written.unsupported), gap]
        shutil.rmtree(out) if out.is_dir() else out.unlink()


def _gap(want: Array, have: Array) -> float:
    """Largest difference relative to the largest value; of what overflows, only that both do (NaN has many ways)."""
    if want.shape != have.shape or np.isfinite(want).all() != np.isfinite(have).all():
        return float("inf")
    if not np.isfinite(want).all():
        return 0.0
    scale = max(float(np.max(np.abs(want))), 1e-6)
    return float(np.max(np.abs(want * 1.0 - have * 1.0))) / scale


def _first(graph: Graph, op: str, position: int = 0) -> Node:
    return [n for n in graph.nodes if n.op == op][position]


def _constant(graph: Graph, node: Node, slot: int) -> Array:
    value = graph.constant(node, slot)
    assert value is not None
    return value


def _joining(graph: Graph, op: str) -> Node:
    """The first node of an operator that reads no constant."""
    return next(n for n in graph.nodes if n.op == op and not any(t in graph.initializers for t in n.inputs))


def _kernel(graph: Graph) -> list[Edit]:
    node = _first(graph, "Conv")
    return [SetInput(node.key, 1, _constant(graph, node, 1)[..., ::-1].copy())]


def _bias(graph: Graph) -> list[Edit]:
    node = _first(graph, "Conv", -1)
    return [SetInput(node.key, 2, np.linspace(-1, 1, _constant(graph, node, 1).shape[0], dtype=np.float32))]


def _drop_bias(graph: Graph) -> list[Edit]:
    return [SetInput(_first(graph, "Conv", -1).key, 2, None)]


def _pads(graph: Graph) -> list[Edit]:
    node = _first(graph, "Conv")
    pads: Any = node.attrs["pads"]
    return [SetAttribute(node.key, "pads", (*pads[2:], *pads[:2]))]


def _dilation(graph: Graph) -> list[Edit]:
    node = next(n for n in graph.nodes if n.op == "Conv" and n.attrs.get("pads") == (1, 1, 1, 1))
    return [SetAttribute(node.key, "dilations", (2, 2)), SetAttribute(node.key, "pads", (2, 2, 2, 2))]


def _limit(graph: Graph) -> list[Edit]:
    return [SetInput(_first(graph, "Clip").key, 2, np.float32(0.7))]


def _alpha(graph: Graph) -> list[Edit]:
    return [SetAttribute(_first(graph, "LeakyRelu").key, "alpha", 0.6)]


def _swap(graph: Graph) -> list[Edit]:
    node = _joining(graph, "Concat")
    return [Rewire(node.key, 0, node.inputs[1]), Rewire(node.key, 1, node.inputs[0])]


def _residual(graph: Graph) -> list[Edit]:
    node = _joining(graph, "Add")
    return [Rewire(node.key, 1, node.inputs[0])]


def _remove(graph: Graph) -> list[Edit]:
    return [RemoveNode(_first(graph, "Relu").key)]


def _remove_last(graph: Graph) -> list[Edit]:
    return [RemoveNode(_first(graph, "Softmax").key)]


def _append(graph: Graph) -> list[Edit]:
    end = graph.output_names[-1]
    return [InsertNode(end, Node("Softmax", (end,), ("again",), {"axis": -1}))]


def _insert(graph: Graph) -> list[Edit]:
    key = _first(graph, "Conv").key
    return [InsertNode(key, Node("Mul", (key, "factor"), ("scaled",)), {"factor": np.float32(0.25)})]


def _operator(graph: Graph) -> list[Edit]:
    return [SetOperator(_first(graph, "Relu").key, "HardSwish")]


def _segment(graph: Graph) -> list[Edit]:
    node = _first(graph, "Relu")
    piece = graph.between([node.input(0)], [node.key])
    nodes = (Node("Elu", (node.input(0),), ("elu",), {"alpha": 0.5}), Node("Neg", ("elu",), (node.key,)))
    return [ReplaceSegment(node.key, Graph(nodes, {}, piece.inputs, piece.outputs, graph.opset))]


def _epsilon(graph: Graph) -> list[Edit]:
    return [SetAttribute(_first(graph, "BatchNormalization").key, "epsilon", 0.5)]


def _statistics(graph: Graph) -> list[Edit]:
    node = _first(graph, "BatchNormalization")
    return [SetInput(node.key, 1, _constant(graph, node, 2)), SetInput(node.key, 2, _constant(graph, node, 1))]


def _training(graph: Graph) -> list[Edit]:
    return [SetAttribute(_first(graph, "BatchNormalization").key, "training_mode", 1)]


def _pool(graph: Graph) -> list[Edit]:
    node = next(n for n in graph.nodes if n.op in ("MaxPool", "AveragePool"))
    return [SetOperator(node.key, "AveragePool" if node.op == "MaxPool" else "MaxPool", node.attrs)]


def _drop_output(graph: Graph) -> list[Edit]:
    return [SetOutputs(graph.output_names[:1])]


def _dense(graph: Graph) -> list[Edit]:
    node = next(n for n in graph.nodes if n.op in ("MatMul", "Gemm"))
    return [SetInput(node.key, 1, np.flip(_constant(graph, node, 1), 0).copy())]


_CNN = {
    "kernel": _kernel, "bias": _bias, "drop-bias": _drop_bias, "pads": _pads, "dilation": _dilation, "limit": _limit,
    "alpha": _alpha, "swap": _swap, "residual": _residual, "remove": _remove, "remove-softmax": _remove_last,
    "append": _append, "insert": _insert, "operator": _operator, "segment": _segment, "pool": _pool, "dense": _dense,
    "several": lambda g: [*_kernel(g), *_alpha(g), *_residual(g), *_append(g)],
}  # fmt: skip
CASES: dict[str, dict[str, Callable[[Graph], Sequence[Edit]]]] = {
    "keras": _CNN,
    "frozen.pb": _CNN,
    "two_outputs.pb": {"kernel": _kernel, "epsilon": _epsilon, "statistics": _statistics, "training": _training,
                       "limit": _limit, "pool": _pool, "insert": _insert, "drop-output": _drop_output, "dense": _dense},
    "first_generation": {"kernel": _kernel, "bias": _bias, "remove": _remove, "insert": _insert,
                         "drop-output": _drop_output},
    "first_resource": {"kernel": _kernel, "bias": _bias, "remove": _remove},
    "nested": {"kernel": _kernel, "insert": _insert, "remove": _remove, "drop-output": _drop_output},
    "no_signature": {"dense": _dense, "remove-softmax": _remove_last},
    "lstm": {"dense": _dense, "append": _append},
}
