"""The interface of a TFLite model: which tensors are fed and fetched, under which names, in real numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fetafix.errors import UnreadableModel, UsageError
from fetafix.formats.tflite import codes as tflite_codes
from fetafix.formats.tflite.records import Quantisation, Signature, SubGraph, Tensor, TfliteFile
from fetafix.report import TensorInfo

_NO_NUMBERS = ("string", "resource", "variant")


@dataclass(frozen=True, eq=False, slots=True)
class Port:
    """An input or output: its interface name, its tensor, and its codes' quantisation where it holds codes."""

    name: str
    tensor: Tensor
    quantisation: Quantisation | None

    @property
    def dtype(self) -> str:
        """As declared: codes that stand for real numbers are float32."""
        return self.tensor.dtype if self.quantisation is None else "float32"

    @property
    def shape(self) -> list[int | str | None]:
        """As declared: the leading dimension is "batch" where it may vary, others None."""
        dims: list[int | str | None] = [None if d < 0 else d for d in self.tensor.signature]
        return ["batch", *dims[1:]] if dims and dims[0] is None else dims

    def info(self, shape: Sequence[int | str | None] | None = None) -> TensorInfo:
        """The record for `ModelInfo`."""
        return TensorInfo(name=self.name, dtype=self.dtype, shape=list(self.shape if shape is None else shape))


@dataclass(frozen=True, eq=False, slots=True)
class Ports:
    """What is fed and fetched, and in which subgraph."""

    graph: SubGraph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    signature: Signature | None = None


def ports(file: TfliteFile, signature: str | None) -> Ports:
    """The main subgraph's tensors by their own names, or a signature's by its names where one is asked for.

    Raises UsageError where there is no such signature, UnreadableModel where nothing can be fed or fetched.
    """
    if signature is None:
        graph = file.main
        inputs, outputs = (_named(graph, ids) for ids in (graph.inputs, graph.outputs))
        return Ports(graph, _ports(file, inputs, "input"), _ports(file, outputs, "output"))
    chosen = next((s for s in file.signatures if s.key == signature), None)
    if chosen is None:
        known = ", ".join(s.key for s in file.signatures) or "none: leave --signature out"
        raise UsageError(f"{file.path}: there is no signature {signature!r}; the file has {known}")
    graph = file.subgraphs[chosen.subgraph]
    sides = ({n: graph.tensors[i] for n, i in side.items()} for side in (chosen.inputs, chosen.outputs))
    inputs, outputs = sides
    return Ports(graph, _ports(file, inputs, "input"), _ports(file, outputs, "output"), chosen)


def _named(graph: SubGraph, indices: Sequence[int]) -> dict[str, Tensor]:
    """Tensors by name, in order; a name that is empty or taken gets the tensor's number."""
    found: dict[str, Tensor] = {}
    for index in dict.fromkeys(indices):
        tensor = graph.tensors[index]
        name = tensor.name if tensor.name and tensor.name not in found else f"{tensor.name or 'tensor'}_{index}"
        found[name] = tensor
    return found


def _ports(file: TfliteFile, tensors: Mapping[str, Tensor], kind: str) -> tuple[Port, ...]:
    if not tensors:
        raise UnreadableModel(f"{file.path}: expected at least one {kind}, found none")
    wrong = next((n for n, t in tensors.items() if t.dtype in _NO_NUMBERS or t.dtype.startswith("unknown")), None)
    if wrong is not None:
        raise UnreadableModel(
            f"{file.path}: expected {kind}s that hold numbers, found {wrong!r} of dtype {tensors[wrong].dtype}"
        )
    return tuple(Port(n, t, tflite_codes.interface(t)) for n, t in tensors.items())
