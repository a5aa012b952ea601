"""What a TFLite file holds, as records: subgraphs, tensors, operators, where the buffers lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.tflite import names
from fetafix.ir import Array


@dataclass(frozen=True, eq=False, slots=True)
class Quantisation:
    """real = (code − zero_point) · scale, per tensor (one scale) or along `axis`. scale float32, zero_point int64."""

    scale: Array
    zero_point: Array
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return self.scale.size == 1


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A tensor of a subgraph. signature: the shape with −1 where it may vary (the shape itself where none may)."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    buffer: int
    quantisation: Quantisation | None = None
    variable: bool = False
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator. op: "CONV_2D", or a custom operator's own name. inputs may hold −1 for those left out.

    at: position of its table in the file. subgraphs: those it calls.
    """

    index: int
    op: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options: str = "NONE"
    at: int = 0

    @property
    def flex(self) -> bool:
        """Whether it is an operator of TensorFlow that TFLite only passes on."""
        return self.custom and self.op.startswith("Flex")


@dataclass(frozen=True, eq=False, slots=True)
class SubGraph:
    """Tensors and the operators on them in the order in which they run."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a buffer's bytes lie in the file. apart: they stand behind the flatbuffer (files beyond 2 GB)."""

    offset: int
    size: int
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """A named way to call a subgraph; argument and result names → tensor indices."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """The file's structure; `data` is mapped, `array` reads a constant."""

    path: Path
    data: memoryview
    description: str
    subgraphs: tuple[SubGraph, ...]
    buffers: tuple[Span, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, int] = field(default_factory=dict)

    @property
    def main(self) -> SubGraph:
        """The subgraph that runs where no signature is chosen."""
        return self.subgraphs[0]

    def raw(self, tensor: Tensor) -> bytes | memoryview:
        """A constant tensor's bytes as stored; empty for one that is computed."""
        span = self.buffers[tensor.buffer]
        return self.data[span.offset : span.offset + span.size]

    def array(self, tensor: Tensor) -> Array | None:
        """A constant tensor's stored values (codes where it is quantised), 4 bit ones unpacked; None where computed.

        Raises UnreadableModel where the buffer has another size than the shape asks for.
        """
        span = self.buffers[tensor.buffer]
        if not span.size or tensor.sparse or tensor.dtype not in names.NUMPY:
            return None
        count = math.prod(tensor.shape)
        dtype = np.dtype(names.NUMPY[tensor.dtype])
        need = (count + 1) // 2 if tensor.dtype == "int4" else count * dtype.itemsize
        if span.size != need:
            raise UnreadableModel(
                f"{self.path}: tensor {tensor.name!r} is {tensor.dtype}{list(tensor.shape)}, {need:,} bytes, but its "
                f"buffer holds {span.size:,}; the file is damaged, copy or convert it again"
            )
        if tensor.dtype == "int4":
            return _unpacked(np.frombuffer(self.raw(tensor), np.int8), count).reshape(tensor.shape)
        return np.frombuffer(self.raw(tensor), dtype).reshape(tensor.shape)

    def check_constants(self) -> None:
        """Raise UnreadableModel where a buffer has another size than its tensor's shape asks for."""
        for graph in self.subgraphs:
            for tensor in graph.tensors:
                self.array(tensor)

    @cached_property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, all subgraphs together."""
        return Counter(o.op for g in self.subgraphs for o in g.operators)

    @cached_property
    def dtypes(self) -> Counter[str]:
        """How many constant tensors there are of each dtype."""
        found = (t.dtype for g in self.subgraphs for t in g.tensors if self.buffers[t.buffer].size)
        return Counter(found)

    @cached_property
    def quantised(self) -> bool:
        """Whether weights or activations are integer codes of real numbers."""
        kinds = {"int8", "uint8", "int16", "int4"}
        return any(t.quantisation is not None and t.dtype in kinds for g in self.subgraphs for t in g.tensors)

    @property
    def custom(self) -> tuple[str, ...]:
        """Names of the custom operators, Flex ones included."""
        return tuple(dict.fromkeys(o.op for g in self.subgraphs for o in g.operators if o.custom))


def _unpacked(packed: Array, count: int) -> Array:
    """Two 4 bit codes a byte, the low half first, with their signs."""
    low, high = (packed << 4) >> 4, packed >> 4
    return np.stack([low, high], axis=-1).reshape(-1)[:count]
