"""Copies of a TFLite file with another arrangement and the same computation, for tools that need one.

Made with the schema's own classes from a file whose structure `file` has checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import Any

from fetafix.errors import LiftError
from fetafix.formats.tflite.names import schema
from fetafix.formats.tflite.ports import Ports
from fetafix.formats.tflite.records import SubGraph, TfliteFile

_CALLS = ("thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex", "subgraph",
          "initSubgraphIndex", "entrySubgraphIndex")  # fmt: skip


def liftable(file: TfliteFile, ports: Ports) -> bytes | None:
    """A copy with the subgraph in first place and unique names in it; None where the file is fine as it is."""
    if ports.graph.index == 0 and not renamed(ports.graph):
        return None
    model = unpack(file)
    if ports.graph.index:
        _move_first(model, ports.graph.index)
    for index, name in renamed(ports.graph).items():
        model.subgraphs[0].tensors[index].name = name
    return pack(model)


def with_outputs(file: TfliteFile, graph: int, outputs: Sequence[int], forced: Sequence[int] = ()) -> bytes:
    """A copy whose first subgraph is `graph` and ends in these of its tensors; signatures are left out.

    forced: tensors of it that are fed: behind its own inputs it gets one more for each of them, in this order, which is
    read in their place.
    """
    model = unpack(file)
    if graph:
        _move_first(model, graph)
    model.signatureDefs = []
    main = model.subgraphs[0]
    main.outputs = list(outputs)
    main.operators = _needed(main, outputs)
    for tensor in forced:
        _force(main, tensor)
    return pack(model)


def _force(graph: Any, index: int) -> None:
    """Let everything that reads a tensor read a new input of its kind, of any shape."""
    fed = copy(graph.tensors[index])
    fed.name = f"{index} forced"
    fed.shapeSignature = [-1] * len(fed.shape)
    graph.tensors.append(fed)
    new = len(graph.tensors) - 1
    for operator in graph.operators:
        operator.inputs = [new if i == index else int(i) for i in operator.inputs]
    graph.inputs = [*(int(i) for i in graph.inputs), new]


def renamed(graph: SubGraph) -> dict[int, str]:
    """Tensors whose name is empty or not unique → a name that is."""
    counts = Counter(t.name for t in graph.tensors)
    return {
        t.index: f"{t.name or 'tensor'}_{t.index}" for t in graph.tensors if not t.name or counts[t.name] > 1
    }  # fmt: skip


def unpack(file: TfliteFile) -> Any:
    """The file as a ModelT. Raises LiftError where weights stand behind the flatbuffer (files beyond 2 GB)."""
    if any(b.apart for b in file.buffers):
        raise LiftError(f"{file.path}: its weights stand behind the flatbuffer, and such files cannot be copied yet")
    return schema().ModelT.InitFromPackedBuf(bytearray(file.data), 0)


def pack(model: Any) -> bytes:
    """The file's bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _move_first(model: Any, index: int) -> None:
    """Exchange a subgraph with the first, wherever their numbers are used."""
    graphs = model.subgraphs
    graphs[0], graphs[index] = graphs[index], graphs[0]
    other = {0: index, index: 0}
    for signature in model.signatureDefs or ():
        signature.subgraphIndex = other.get(signature.subgraphIndex, signature.subgraphIndex)
    for graph in graphs:
        for operator in graph.operators or ():
            for options in (operator.builtinOptions, operator.builtinOptions2):
                for name in _CALLS:
                    if hasattr(options, name):
                        setattr(options, name, other.get(getattr(options, name), getattr(options, name)))


def _needed(graph: Any, outputs: Sequence[int]) -> list[Any]:
    """The operators that the outputs need; those that write variables stay."""
    wanted, kept = set(outputs), []
    for operator in reversed(graph.operators):
        made = operator.outputs if operator.outputs is not None else []
        if not len(made) or wanted & {int(i) for i in made}:
            kept.append(operator)
            wanted |= {int(i) for i in operator.inputs}
    return kept[::-1]
