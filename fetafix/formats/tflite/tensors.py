"""Which tensor of the ONNX view is which TFLite tensor, and in which layout: found by their values on an example.

Converters rename, fold and turn tensors; names are never trusted. An ONNX tensor that only turns, quantises or
dequantises a tensor that is known stands for the same native tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from fetafix.formats.tflite import schema as schemas
from fetafix.formats.tflite.program import Program
from fetafix.ir import Array, Graph, Node

_EXACT, _CODES = 1e-3, 0.1
ALIASES = {"Transpose", "Identity", "DequantizeLinear", "QuantizeLinear", "Dropout"}
MOVERS = {"Pad", "Slice", "Reshape", "Expand", "Tile"}  # aliases where they move nothing


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A native tensor as an ONNX graph sees it: onnx = native.transpose(perm)."""

    tensor: int
    perm: tuple[int, ...]


def tap(data: bytes, feeds: Sequence[Array]) -> dict[int, Array]:
    """Run a TFLite model on stored values: tensor index → what it holds. Raises RuntimeError, ValueError.

    feeds: one array an input, in the subgraph's order and the inputs' own dtypes; inputs are resized to fit.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    inputs = interpreter.get_input_details()
    for detail, feed in zip(inputs, feeds, strict=True):
        if tuple(detail["shape"]) != feed.shape:
            interpreter.resize_tensor_input(detail["index"], feed.shape)
    interpreter.allocate_tensors()
    for detail, feed in zip(inputs, feeds, strict=True):
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(feed, detail["dtype"]))
    interpreter.invoke()
    values: dict[int, Array] = {}
    for detail in interpreter.get_tensor_details():
        try:
            values[int(detail["index"])] = np.array(interpreter.get_tensor(detail["index"]))
        except ValueError:  # tensors that no operator uses hold nothing
            continue
    return values


def encode(feed: Array, tensor: Any) -> Array:
    """Real numbers as an input tensor stores them: rounded to its codes where it is quantised, saturating."""
    dtype = schemas.dtype_of(tensor) or feed.dtype
    quantised = schemas.quantisation(tensor)
    if quantised is None or dtype.kind not in "iu" or feed.dtype.kind != "f":
        return feed.astype(dtype)
    return requantised(feed, quantised, dtype)


def requantised(values: Array, quantised: tuple[Array, Array, int], dtype: np.dtype[Any]) -> Array:
    """Real numbers as codes of a grid: round half away from zero as TFLite does, saturating."""
    scale, zero, axis = quantised
    steps = values.astype(np.float64) / schemas.along(scale, values.ndim, axis)
    steps = np.sign(steps) * np.floor(np.abs(steps) + 0.5) + schemas.along(zero, values.ndim, axis)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype)


def layouts(rank: int) -> Iterator[tuple[int, ...]]:
    """Permutations native → ONNX, the usual ones first."""
    usual = [tuple(range(rank)), (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)] if rank > 2 else []
    yield from usual
    if rank <= 5:
        yield from (p for p in permutations(range(rank)) if p not in usual)
    elif not usual:
        yield tuple(range(rank))


def match(program: Program, graph: Graph, native: Mapping[int, Array], lifted: Mapping[str, Array]) -> dict[str, Value]:
    """ONNX tensor → native value. native: taps; lifted: all activations of the ONNX graph on the same example."""
    return _Matcher(program, graph, native, lifted).run()


class _Matcher:
    def __init__(
        self, program: Program, graph: Graph, native: Mapping[int, Array], lifted: Mapping[str, Array]
    ) -> None:
        self._program, self._graph, self._native, self._lifted = program, graph, native, lifted
        self._order = {o: i for i, n in enumerate(graph.nodes) for o in n.outputs if o}
        self._order |= dict.fromkeys(graph.input_names, -1)
        self._by_size: dict[int, list[str]] = {}
        for name in sorted((t for t in lifted if t in self._order), key=lambda t: -self._order[t]):
            self._by_size.setdefault(lifted[name].size, []).append(name)
        self._found: dict[str, Value] = {}
        self._known: dict[int, tuple[float, float]] = {}
        self._held: list[Array] = []  # ids stay taken while the arrays are held
        self._limit = _CODES if _in_codes(program) else _EXACT

    def run(self) -> dict[str, Value]:
        for name, tensor in zip(self._graph.input_names, self._program.entries, strict=True):
            self._found[name] = Value(int(tensor), tuple(range(self._lifted[name].ndim)))
            self._spread(name)
        for name, tensor in zip(self._graph.output_names, self._program.exits, strict=True):
            if name not in self._found and tensor in self._native:
                self._claim(tensor, [name])
        taken = {v.tensor for v in self._found.values()}
        made = [int(t) for o in self._program.graph.operators for t in o.outputs]
        for tensor in reversed(made):
            if tensor not in taken:
                self._claim(tensor, self._by_size.get(self._native[tensor].size, []) if tensor in self._native else [])
        return self._found

    def _claim(self, tensor: int, names: Sequence[str]) -> None:
        """The first of these ONNX tensors that holds what a native tensor does stands for it."""
        value = self._native.get(tensor)
        if value is None or (value.dtype.kind not in "f" and self._program.quantisation(tensor) is None):
            return
        real = schemas.real(value, self._program.quantisation(tensor))
        for name in names:
            if name not in self._found and (perm := self._layout(name, value, real)) is not None:
                self._found[name] = Value(tensor, perm)
                self._spread(name)
                return

    def _layout(self, name: str, stored: Array, real: Array) -> tuple[int, ...] | None:
        lifted = self._lifted[name]
        codes = lifted.dtype.kind in "iu"
        if codes and lifted.dtype != stored.dtype:
            return None
        mine = stored if codes else real
        if sorted(mine.shape) != sorted(lifted.shape) or not self._similar(mine, lifted):
            return None
        fits = (p for p in layouts(mine.ndim) if mine.transpose(p).shape == lifted.shape)
        return next((p for p in fits if _alike(mine.transpose(p), lifted, self._limit)), None)

    def _similar(self, a: Array, b: Array) -> bool:
        """Whether two tensors may hold the same values in some order, by their mean and spread."""
        (mean, norm), (other, size) = self._moments(a), self._moments(b)
        return abs(norm - size) <= 2 * self._limit * max(norm, size, 1e-9) and (
            abs(mean - other) <= 2 * self._limit * max(norm, size, 1e-9) / np.sqrt(max(a.size, 1)) + 1e-9
        )

    def _moments(self, array: Array) -> tuple[float, float]:
        found = self._known.get(id(array))
        if found is None:
            plain = array.astype(np.float64)
            found = float(plain.mean()) if plain.size else 0.0, float(np.sqrt(np.square(plain).sum()))
            self._known[id(array)] = found
            self._held.append(array)
        return found

    def _spread(self, name: str) -> None:
        """What only turns or (de)quantises a known tensor is known too; so is what a known tensor was turned from."""
        stack = [name]
        while stack:
            known = stack.pop()
            producer = self._graph.producers.get(known)
            around = [n for n, slot in self._graph.consumers.get(known, ()) if slot == 0]
            if producer is not None and producer.op != "QuantizeLinear":
                around.append(producer)
            for node in around:
                if (node.op in ALIASES or self._idle(node)) and not node.domain:
                    stack += self._step(node, self._found[known])

    def _step(self, node: Node, value: Value) -> list[str]:
        source, target = node.input(0), node.outputs[0]
        turn: Any = node.attrs.get("perm") if node.op == "Transpose" else tuple(range(len(value.perm)))
        turn = tuple(turn) if turn is not None else tuple(range(len(value.perm)))[::-1]
        new = []
        if source in self._found and target not in self._found:
            if node.op != "QuantizeLinear" or self._same_codes(target, value.tensor):
                self._found[target] = Value(value.tensor, tuple(self._found[source].perm[i] for i in turn))
                new.append(target)
        elif target in self._found and source not in self._found and source in self._order:
            back = np.argsort(turn)
            self._found[source] = Value(value.tensor, tuple(self._found[target].perm[i] for i in back))
            new.append(source)
        return new

    def _idle(self, node: Node) -> bool:
        """Whether a node that might move values about leaves them where they are."""
        a, b = self._lifted.get(node.input(0)), self._lifted.get(node.outputs[0])
        return node.op in MOVERS and a is not None and b is not None and np.array_equal(a, b)

    def _same_codes(self, name: str, tensor: int) -> bool:
        """Whether a QuantizeLinear puts a tensor on the very grid that it has natively."""
        stored, codes = self._native.get(tensor), self._lifted.get(name)
        if stored is None or codes is None or stored.dtype != codes.dtype:
            return False
        return self._layout(name, stored, schemas.real(stored, self._program.quantisation(tensor))) is not None


def _in_codes(program: Program) -> bool:
    """Whether anything is computed in codes, so that values agree within their steps only."""
    read = {int(t) for o in program.graph.operators for t in o.inputs if t >= 0 and program.opcode(o) != "DEQUANTIZE"}
    return any(program.quantisation(t) is not None for t in read)


def _alike(a: Array, b: Array, limit: float) -> bool:
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = _norm(b - b.mean()) if b.size > 1 else float(np.abs(b).max(initial=0))
    scale = max(scale, 1e-3 * _norm(b), 1e-9)
    return _norm(a - b) <= limit * scale and bool(np.isfinite(scale))


def _norm(array: Array) -> float:
    return float(np.sqrt(np.square(array).sum()))
