"""Run small graphs in ONNX Runtime with every tensor fed from outside: trials in milliseconds.

Float tensors go in as inputs, not as part of the model, and names are replaced by numbers, so a session is built from a
few hundred bytes and serves every node of the same kind. Integer tensors are embedded: operators want shapes, axes and
zero points as constants. Each session computes in the caller's thread: a thread pool of its own would cost it 10 ms
(measured), and one pool for all would change ONNX Runtime for everybody else in the process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnxruntime as ort

from fetafix.errors import RuntimeCrash
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Array, Attribute, Body, Graph, Node, Value

_EMBED_UP_TO = 4
_IR_VERSION = 10
_HALF, _FLOAT16 = np.dtype(np.float16), 10
_SEEDS: Mapping[str, int | float] = {"Dropout": 0, **dict.fromkeys(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), 0.0)}


class Evaluator:
    """Runs graphs with a cache of sessions; optimisations are off, so nothing depends on the rest of the graph."""

    def __init__(self, cached: int = 512) -> None:
        self._options = ort.SessionOptions()
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._options.log_severity_level = 4
        self._options.intra_op_num_threads = 1
        self._options.inter_op_num_threads = 1
        self._options.enable_cpu_mem_arena = False
        self._sessions: OrderedDict[bytes, ort.InferenceSession] = OrderedDict()
        self._cached = cached

    def run(self, graph: Graph, feeds: Mapping[str, Array], fetch: Sequence[str]) -> list[Array]:
        """The tensors `fetch` of a graph whose inputs are all in `feeds`; feeds may also override computed tensors.

        Raises RuntimeCrash with the runtime's message. Tensors to fetch may be feeds or initializers too.
        """
        known = {**graph.initializers, **feeds}
        wanted = [t for t in dict.fromkeys(fetch) if t not in known]
        made = dict(zip(wanted, self._run(graph, feeds, wanted), strict=True)) if wanted else {}
        return [made[t] if t in made else np.asarray(known[t]) for t in fetch]

    def _run(self, graph: Graph, feeds: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
        piece = graph.between(feeds, wanted)
        missing = [t for t in piece.input_names if t not in feeds]
        if missing or len(piece.nodes) == 0:
            raise RuntimeCrash(f"tensor {(missing or list(wanted))[0]!r} is neither fed nor computed by the graph")
        if len(piece.nodes) > 1 and _has_halves(piece, feeds):
            return self._stepwise(piece, feeds, wanted)
        embed, given = _split(piece, feeds)
        try:
            small, names = _numbered(piece, embed, given, wanted)
            session = self._session(small)
            # A BatchNormalization in training mode writes its new statistics into the buffers of the old ones.
            copy = True if any(n.op == "BatchNormalization" and len(n.outputs) > 1 for n in piece.nodes) else None
            feed = {names[k]: np.array(v, order="C", copy=copy) for k, v in given.items()}
            return [np.asarray(v) for v in session.run([names[t] for t in wanted], feed)]
        except (
            Exception
        ) as error:  # onnxruntime raises a class of its own per status code, all directly below Exception
            ops = ", ".join(dict.fromkeys(n.op for n in piece.nodes))
            raise RuntimeCrash(f"onnxruntime cannot run {ops}: {str(error).splitlines()[0][:300]}") from error

    def _stepwise(self, piece: Graph, feeds: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
        """Node by node: ONNX Runtime keeps float32 between float16 operators for which it has no kernel.

        Run as one graph they would neither round nor overflow, as they do where float16 is computed as such.
        """
        values = dict(feeds)
        for node in piece.nodes:
            outs = [o for o in node.outputs if o and o not in feeds]
            fixed = {t: piece.initializers[t] for t in node.reads if t in piece.initializers and t not in values}
            single = Graph((node,), fixed, (), (), piece.opset)
            live = {t: values[t] for t in node.reads if t in values}
            values.update(zip(outs, self._run(single, live, outs), strict=True))
        return [values[t] for t in wanted]

    def _session(self, graph: Graph) -> ort.InferenceSession:
        key = model_from_graph(graph, _IR_VERSION).SerializeToString(deterministic=True)
        session = self._sessions.get(key)
        if session is None:
            session = ort.InferenceSession(key, self._options, providers=["CPUExecutionProvider"])
            self._sessions[key] = session
            if len(self._sessions) > self._cached:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(key)
        return session


def _has_halves(piece: Graph, feeds: Mapping[str, Array]) -> bool:
    """Whether some tensor is float16."""
    tensors = (piece.initializers[t] for n in piece.nodes for t in n.inputs if t in piece.initializers)
    cast = any(n.attrs.get("to") == _FLOAT16 for n in piece.nodes)
    return cast or any(v.dtype == _HALF for v in (*feeds.values(), *tensors))


def _split(piece: Graph, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Which tensors become part of the model, and which are given at each run."""
    captured = {t for n in piece.nodes for t in n.reads if t not in n.inputs}
    sizes = {t for n in piece.nodes if n.op == "Resize" for t in n.inputs[1:]}  # ONNX Runtime infers shapes by them
    made = {o for n in piece.nodes for o in n.outputs}
    embed: dict[str, Array] = {}
    given: dict[str, Array] = {}
    for name in dict.fromkeys(t for n in piece.nodes for t in n.reads):
        if name in feeds and name not in made:
            (embed if name in sizes else given)[name] = feeds[name]
        elif name in piece.initializers:
            tensor = piece.initializers[name]
            fixed = name in captured or tensor.size <= _EMBED_UP_TO or not np.issubdtype(tensor.dtype, np.floating)
            (embed if fixed else given)[name] = tensor
    return embed, given


def _seeded(node: Node) -> Mapping[str, Attribute]:
    """A node's attributes with a seed where it draws random numbers without one: what is found must not vary."""
    seed = None if node.domain else _SEEDS.get(node.op)
    return node.attrs if seed is None else {"seed": seed, **node.attrs}


def _numbered(
    piece: Graph, embed: Mapping[str, Array], given: Mapping[str, Array], wanted: Sequence[str]
) -> tuple[Graph, Mapping[str, str]]:
    """The graph with numbers for names, so that equal work gives equal bytes; bodies keep theirs."""
    order = dict.fromkeys(t for n in piece.nodes for t in (*n.reads, *n.outputs) if t)
    bodies = any(isinstance(a, Body) for n in piece.nodes for a in n.attrs.values())
    names = {t: t if bodies else f"t{i}" for i, t in enumerate(order)}

    def renamed(node: Node) -> Node:
        return replace(
            node,
            name="",
            inputs=tuple(names.get(t, "") for t in node.inputs),
            outputs=tuple(names.get(t, "") for t in node.outputs),
            attrs=_seeded(node),
        )

    sized = any(n.domain for n in piece.nodes)  # ONNX Runtime's own operators want to know the sizes of their weights
    inputs = tuple(Value(names[k], v.dtype, v.shape if sized else (None,) * v.ndim) for k, v in given.items())
    outputs = tuple(Value(names[t], np.dtype(np.float32), None) for t in wanted)
    tensors = {names[k]: v for k, v in embed.items()}
    return Graph(tuple(map(renamed, piece.nodes)), tensors, inputs, outputs, piece.opset), names
