"""Write edits into a copy of a SavedModel folder or a frozen GraphDef.

Values go into the checkpoint, under the keys of the variables that held the old ones; everything else into the
function that the signature calls (in place, so that all who call it see it) or into the main graph. Files that need no
change are copied byte for byte. The copy is opened and run before it gets its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetInputShape, apply
from fetafix.errors import OutputError
from fetafix.formats.attempts import View, attempt_all, compare
from fetafix.formats.base import OpenOptions, Unsupported, Written
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.staging import staging
from fetafix.formats.tensorflow import graph as tf_graph
from fetafix.formats.tensorflow import variables as tf_variables
from fetafix.formats.tensorflow.container import drop_outputs, put
from fetafix.formats.tensorflow.host import TfHost
from fetafix.formats.tensorflow.program import Flat, Program
from fetafix.formats.tensorflow.recognise import FILE, SAVED_MODEL, folder_of
from fetafix.formats.tensorflow.session import Running, config
from fetafix.formats.tensorflow.tap import frozen, variable_values
from fetafix.formats.transfer import transfer
from fetafix.ir import Array, Graph

_HANDLES = ("resource", "variant")  # of things that are no numbers

_NO_SHAPES = "the shapes of a TensorFlow model's inputs are part of its traced functions"


def write(
    path: Path, format: str, options: OpenOptions, edits: Sequence[Edit], out: Path, lifted: Path
) -> Written:
    """Write `path` with the edits to `out`. Raises OutputError where that cannot be written."""
    if out.exists() and (format == SAVED_MODEL or out.is_dir()):
        raise OutputError(f"{out}: expected a name that is free, found a {'folder' if out.is_dir() else 'file'}; "
                          "originals and earlier results are never overwritten")
    with staging(out) as room:
        attempt = _Attempt(path, format, options, lifted, room / "made")
        unsupported = attempt_all(attempt, edits, _NO_SHAPES)
        os.replace(room / "made", out)
    return Written(out, unsupported)


class _Attempt:
    """Writes the model with some edits, from a fresh copy of the original each time."""

    def __init__(self, path: Path, format: str, options: OpenOptions, lifted: Path, out: Path) -> None:
        self._path, self._format, self._options, self._out = path, format, options, out
        self._view = View(lifted)
        self._taps = onnx_view.load_taps(lifted)
        self._values = variable_values(self._load(path))

    def _load(self, path: Path) -> Program:
        from fetafix.formats.tensorflow.model import load

        return load(path, self._format, self._options)

    def __call__(self, edits: Sequence[Edit]) -> None:
        """Raises Unsupported or EditError with the reason; what is written is then of no use."""
        assert not any(isinstance(e, SetInputShape) for e in edits)
        after = apply(self._view.before, edits)
        program = self._load(self._path)
        flat = program.flat
        if self._out.is_dir():
            shutil.rmtree(self._out)
        host = self._host(program)
        try:
            if edits:
                transfer(self._view.before, after, host, lambda names: self._view.samples(after, names))
            self._save(program, flat, host)
        except (ValueError, TypeError) as error:  # TensorFlow's words for a graph that it does not accept
            raise Unsupported(f"TensorFlow does not accept the edited graph: {error}") from error
        if edits:
            self._verify(after)

    def _host(self, program: Program) -> TfHost:
        flat = program.flat
        graph_def = frozen(program, self._values)
        running: list[Running] = []

        def constants(tensors: Sequence[str]) -> list[Array]:
            if not running:
                bare = Program(graph_def, flat.inputs, flat.outputs)
                running.append(Running(graph_def, bare, "cpu", config(1, False)))
            held = [t for t in tensors if running[0].tensor(t).dtype.base_dtype.name not in _HANDLES]
            values = dict(zip(held, running[0].run({}, held), strict=True)) if held else {}
            return [np.asarray(values.get(t, ())) for t in tensors]

        own = type(flat.graph_def)()
        own.CopyFrom(flat.graph_def)
        return TfHost(own, self._taps, flat.inputs, flat.outputs, constants)

    def _save(self, program: Program, flat: Flat, host: TfHost) -> None:
        if self._format != SAVED_MODEL:
            if host.structural:
                self._out.write_bytes(_graph(program.graph_def, flat, host).SerializeToString(deterministic=True))
            else:
                shutil.copyfile(self._path, self._out)
            return
        shutil.copytree(folder_of(self._path), self._out)
        if host.structural:
            self._save_graph(program, flat, host)
        if host.changed:
            self._save_values(program, flat, host.changed)

    def _save_graph(self, program: Program, flat: Flat, host: TfHost) -> None:
        from fetafix.formats.tensorflow.saved_model import load, meta_graph

        saved = load(self._path)
        meta = meta_graph(self._path, saved)
        if flat.function:
            if set(host.outputs) != set(flat.outputs):
                drop_outputs(meta, program.signature, list(host.outputs))
            put(meta.graph_def, flat, list(host.nodes.values()), host.outputs)
        else:
            rest = {n.name: n for n in meta.graph_def.node}
            _set_nodes(meta.graph_def, [*{**rest, **host.nodes}.values()])
            signature = meta.signature_def[program.signature]
            for name in list(signature.outputs):
                if name not in host.outputs:
                    del signature.outputs[name]
                else:
                    node, index = tf_graph.split(host.outputs[name])
                    signature.outputs[name].name = f"{node}:{index}"
        (self._out / FILE).write_bytes(saved.SerializeToString(deterministic=True))
        (self._out / "fingerprint.pb").unlink(missing_ok=True)  # of the graph as it was; TensorFlow does without

    def _save_values(self, program: Program, flat: Flat, changed: Mapping[str, Array]) -> None:
        assert program.saver is not None
        from fetafix.formats.tensorflow.saved_model import load, meta_graph

        keys = tf_variables.keys(program.graph_def, program.saver.restore)
        meta = meta_graph(self._path, load(self._path))
        bound = tf_variables.captured_keys(meta, flat.function, str(program.saver.prefix))
        entries: dict[str, Array] = {}
        for variable, value in changed.items():
            found = {keys.get(flat.variables[variable], ""), *bound.get(flat.args.get(variable, ""), [])} - {""}
            if not found:
                raise Unsupported(f"the checkpoint has no entry for variable {flat.variables[variable]}")
            entries.update(dict.fromkeys(found, value))
        folder = self._out / "variables"
        for file in folder.glob("variables.*"):
            file.unlink()
        tf_variables.rewrite(program.saver.prefix, folder / "variables", entries)

    def _verify(self, after: Graph) -> None:
        """The written model, opened anew, must answer as the edited graph does on the example."""
        if self._view.example is None:
            return
        names, wanted = after.output_names, self._view.wanted(after) or []
        from fetafix.formats.tensorflow.model import TensorFlowModel

        model = TensorFlowModel(self._out, self._format, self._options, self._load(self._out))
        made = model.run(self._view.example)
        model.close()
        if wanted and len(made) != len(names):
            raise Unsupported(f"the written model has {len(made)} outputs, {len(names)} expected")
        found = made if set(names) == set(made) else dict(zip(names, made.values(), strict=False))
        for name, want in zip(names, wanted, strict=False):
            compare(name, want, found[name])


def _graph(graph_def: Any, flat: Flat, host: TfHost) -> Any:
    """The frozen graph with the host's nodes in place of what computed the outputs; its other nodes stay.

    What nobody needs any more must go, for a node that nobody reads is an output.
    """
    _keep_names(flat, host)
    before = tf_graph.upstream({n.name: n for n in graph_def.node}, flat.outputs.values())
    needed = tf_graph.upstream(host.nodes, [*host.outputs.values(), *flat.inputs.values()])
    rest = {n.name: n for n in graph_def.node if n.name not in host.nodes and n.name not in before}
    while lost := [k for k, n in rest.items() if any(tf_graph.split(i)[0] not in rest | host.nodes for i in n.input)]:
        for name in lost:
            del rest[name]
    needed |= tf_graph.upstream({**host.nodes, **rest}, rest)
    nodes = {k: n for k, n in {**host.nodes, **rest}.items() if k in needed}
    ends = [tf_graph.split(t)[0] for t in host.outputs.values()]
    others = [n for k, n in nodes.items() if k not in ends]
    return _set_nodes(graph_def, [*others, *(nodes[e] for e in dict.fromkeys(ends))])


def _set_nodes(graph_def: Any, nodes: Sequence[Any]) -> Any:
    copies = [type(n).FromString(n.SerializeToString()) for n in tf_graph.sort(list(nodes))]
    del graph_def.node[:]
    graph_def.node.extend(copies)
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)
    return graph_def


def _keep_names(flat: Flat, host: TfHost) -> None:
    """Outputs of a frozen graph are known by their nodes' names: a new one takes the old one's, which steps aside."""
    for name, tensor in list(host.outputs.items()):
        old = tf_graph.join(*tf_graph.split(flat.outputs[name]))
        if tensor == old or ":" in old:
            continue
        host.rename(old, f"{old}/fetafix_old")
        host.outputs[name] = host.add_identity(old, host.renamed(tensor))
