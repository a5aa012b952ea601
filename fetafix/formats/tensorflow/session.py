"""A TensorFlow graph at work in a session: variables restored once, outputs computed by name.

The session of TensorFlow 1 runs every kind of graph, those that TensorFlow 2 saves included; it is what servers use. It
imports the part of the graph that is needed and nothing else, and its options hold for it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fetafix.formats.tensorflow import env as tf_env
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow.program import Program
from fetafix.ir import Array


def config(threads: int, optimise: bool) -> Any:
    """A session's options. Threads within an operator are the process's affair and fixed with its first session."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    options = config_pb2.ConfigProto(allow_soft_placement=True)
    if threads:
        options.intra_op_parallelism_threads = threads
        options.inter_op_parallelism_threads = min(threads, 2)
    options.gpu_options.allow_growth = True
    if not optimise:
        rewrites = options.graph_options.rewrite_options
        rewrites.disable_meta_optimizer = True
        rewrites.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
        options.graph_options.optimizer_options.opt_level = config_pb2.OptimizerOptions.L0
    return options


class Running:
    """A graph in a session of its own."""

    def __init__(self, graph_def: Any, program: Program, device: str, options: Any) -> None:
        """Imports `graph_def`, which holds what the program's saver and initialisation need, and prepares it."""
        import tensorflow as tf

        self.graph = tf.Graph()
        with self.graph.as_default(), tf.device(None if device == "cpu" else tf_env.scope(device)):
            tf.import_graph_def(graph_def, name="")
        self.session = tf.compat.v1.Session(graph=self.graph, config=options)
        self._calls: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._prepare(program)

    def _prepare(self, program: Program) -> None:
        if program.saver is not None:
            feeds = {program.saver.filename: str(program.saver.prefix)}
            self.session.run(self.graph.get_operation_by_name(tf_graph.split(program.saver.restore)[0]), feeds)
        if program.init:
            self.session.run(self.graph.get_operation_by_name(program.init), dict(program.assets))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Values of tensors ("x:0") in order."""
        key = tuple(feeds), tuple(fetches)
        if key not in self._calls:
            tensors = [self.tensor(n) for n in fetches]
            self._calls[key] = self.session.make_callable(tensors, [self.tensor(n) for n in feeds])
        return list(self._calls[key](*feeds.values()))

    def tensor(self, name: str) -> Any:
        """The graph's tensor of a name."""
        node, index = tf_graph.split(name)
        return self.graph.get_tensor_by_name(f"{node}:{index}")

    def close(self) -> None:
        """Give its memory back."""
        self.session.close()
