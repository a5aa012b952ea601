"""Run small graphs in ONNX Runtime with every tensor fed from outside: trials in milliseconds.

Float tensors go in as inputs, not as part of the model, so a session is built from a few hundred bytes and is reused for
every node of the same kind. Tensors that an operator wants to see as constants (shapes, axes, zero points) are embedded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from fetafix.errors import RuntimeCrash
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Array, Graph, Value

_EMBED_BELOW = 64
_IR_VERSION = 10


class Evaluator:
    """Runs graphs with a cache of sessions, optimisations off, deterministic. Not shared between threads."""

    def __init__(self, threads: int = 0, cached: int = 256) -> None:
        self._options = ort.SessionOptions()
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._options.log_severity_level = 4
        self._options.intra_op_num_threads = threads
        self._options.enable_cpu_mem_arena = False
        self._sessions: OrderedDict[bytes, ort.InferenceSession] = OrderedDict()
        self._cached = cached

    def run(self, graph: Graph, feeds: Mapping[str, Array], fetch: Sequence[str]) -> list[Array]:
        """The tensors `fetch` of a graph whose inputs are all in `feeds`. Raises RuntimeCrash with the runtime's message.

        Tensors to fetch may be graph inputs or initializers too.
        """
        wanted = [t for t in dict.fromkeys(fetch) if t not in feeds and t not in graph.initializers]
        made: dict[str, Array] = {}
        if wanted:
            made = dict(zip(wanted, self._run(graph, feeds, wanted), strict=True))
        return [made[t] if t in made else feeds.get(t, graph.initializers.get(t)) for t in fetch]  # type: ignore[misc]

    def _run(self, graph: Graph, feeds: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
        reads = {t for n in graph.nodes for t in n.reads}
        captured = {t for n in graph.nodes for t in n.reads if t not in n.inputs}
        embed, given = {}, {t: v for t, v in feeds.items() if t in reads}
        for name in reads - given.keys():
            tensor = graph.initializers.get(name)
            if tensor is None:
                continue
            floating = np.issubdtype(tensor.dtype, np.floating)
            if name in captured or tensor.size < _EMBED_BELOW or not floating:
                embed[name] = tensor
            else:
                given[name] = tensor
        inputs = tuple(Value(k, v.dtype, (None,) * v.ndim) for k, v in sorted(given.items()))
        outputs = tuple(Value(t, np.dtype(np.float32), None) for t in wanted)
        small = Graph(graph.nodes, embed, inputs, outputs, graph.opset)
        try:
            session = self._session(small, embed)
            feed = {k: np.ascontiguousarray(v) for k, v in given.items()}
            return [np.asarray(v) for v in session.run(list(wanted), feed)]
        except Exception as error:  # onnxruntime raises a class of its own per status code, all directly below Exception
            ops = ", ".join(dict.fromkeys(n.op for n in graph.nodes))
            raise RuntimeCrash(f"onnxruntime cannot run {ops}: {str(error).splitlines()[0][:300]}") from error

    def _session(self, graph: Graph, embed: Mapping[str, Array]) -> ort.InferenceSession:
        key = model_from_graph(graph, _IR_VERSION, embed).SerializeToString(deterministic=True)
        session = self._sessions.get(key)
        if session is None:
            session = ort.InferenceSession(key, self._options, providers=["CPUExecutionProvider"])
            self._sessions[key] = session
            if len(self._sessions) > self._cached:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(key)
        return session

