"""Write an edited TFLite file: buffers, options and quantisation in place, operators only where the graph changes.

The edits' meaning is that of `fetafix.edits.apply` on the ONNX view; `transfer` carries it over to the subgraph. What
was written is loaded and run by the interpreter, and must answer as the edited view does, before it gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.errors import EditError, OutputError, RuntimeCrash
from fetafix.formats.attempts import attempt_all
from fetafix.formats.base import OpenOptions, Unsupported, Written
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.staging import staging
from fetafix.formats.tflite import file as tflite_file
from fetafix.formats.tflite import ports as tflite_ports
from fetafix.formats.tflite import schema as tflite_schema
from fetafix.formats.tflite.host import TfliteHost
from fetafix.formats.tflite.patch import patched
from fetafix.formats.tflite.program import Program
from fetafix.formats.tflite.tensors import Value, encode, match, tap
from fetafix.formats.transfer import transfer
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.ir import Array, Graph

_TOLERANCE, _IN_HALVES, _IN_CODES = 1e-4, 2e-3, 0.2


def write(path: Path, edits: Sequence[Edit], out: Path, lifted: Path, options: OpenOptions) -> Written:
    """Write the model at `path` with `edits`, which are in terms of the view `lifted`, to `out`.

    Raises OutputError where `out` cannot be written, EditError where the result does not load.
    """
    if out.is_dir():
        raise OutputError(f"{out}: expected a file to write to, found a folder; name a file in it")
    if out.exists() and out.samefile(path):
        raise OutputError(f"{out}: this is the original model, which is never changed; choose another output")
    attempt = _Attempt(path, lifted, options)
    refused = attempt_all(attempt, edits, _NO_SHAPES)
    with staging(out) as folder:
        file = folder / out.name
        file.write_bytes(attempt.made)
        os.replace(file, out)
    return Written(out, refused)


_NO_SHAPES = "the shapes inside the file follow from its input's, which cannot be declared otherwise"


class _Attempt:
    """Makes the file's bytes with some edits, from the original each time."""

    def __init__(self, path: Path, lifted: Path, options: OpenOptions) -> None:
        self._path, self._original = path, path.read_bytes()
        self.made = self._original
        self._tensors: dict[str, Value] | None = None
        self._before, self._evaluator = load_graph(lifted), Evaluator()
        self._ports = tflite_ports.ports(tflite_file.read(path), options.signature)
        self._example = self._examples(onnx_view.load_example(lifted))

    def __call__(self, edits: Sequence[Edit]) -> None:
        """Keep the edited file in `made`. Raises Unsupported or EditError with the reason."""
        if not edits:
            self.made = self._original
            return
        if self._ports.graph.index:
            raise Unsupported(f"edits reach the main subgraph only, not subgraph {self._ports.graph.index}")
        after = apply(self._before, edits)
        program = self._program()
        tensors = self._matched(program)
        host = TfliteHost(program, self._before, tensors)
        transfer(self._before, after, host, lambda names: self._samples(after, names))
        data = patched(self._original, host.finish())
        self._verify(data, after, program.exits)
        self.made = data

    def _program(self) -> Program:
        program = Program(tflite_schema.parse(self._original))
        entries, exits = ({p.name: p.tensor.index for p in side} for side in (self._ports.inputs, self._ports.outputs))
        try:
            program.entries = [entries[n] for n in self._before.input_names]
            program.exits = [exits[n] for n in self._before.output_names]
        except KeyError as name:
            raise Unsupported(f"the file has no input or output {name}: the view was made of another file") from None
        return program

    def _matched(self, program: Program) -> dict[str, Value]:
        """What each ONNX tensor is natively; found once, from a run of both on the example."""
        if self._tensors is None:
            native = self._tapped(self._original)
            activations = [o for n in self._before.nodes for o in n.outputs if o]
            values = self._evaluator.run(self._before, self._example, activations)
            lifted = {**self._example, **dict(zip(activations, values, strict=True))}
            self._shapes = {i: v.shape for i, v in native.items() if i < program.original}  # no scratch tensors
            self._limit = _limit(native)
            for name, tensor in zip(self._before.output_names, program.exits, strict=True):
                have = _as(native[tensor], lifted[name], program.quantisation(tensor))
                self._limit = max(self._limit, 3 * _error(have, lifted[name]))
            self._tensors = match(program, self._before, native, lifted)
        program.actual = self._shapes
        return self._tensors

    def _examples(self, given: Mapping[str, Array] | None) -> dict[str, Array]:
        """One sample for every input by name: the first of the batch that the view was made with, or seeded noise."""
        rng = np.random.default_rng(0)
        examples: dict[str, Array] = {}
        ports = {p.name: p for p in self._ports.inputs}
        for value in self._before.inputs:
            shape = ports[value.name].tensor.shape if value.name in ports else ()
            array = None if given is None else given.get(value.name)
            if array is not None and array.ndim == len(shape):
                examples[value.name] = array[: shape[0]] if shape else array
            elif value.dtype.kind == "f":
                examples[value.name] = np.asarray(rng.normal(size=shape), value.dtype)
            else:
                examples[value.name] = np.asarray(rng.integers(0, 2, shape), value.dtype)
        return examples

    def _tapped(self, data: bytes) -> dict[int, Array]:
        """Every tensor of the main subgraph on the example."""
        graph = tflite_schema.parse(data).subgraphs[0]
        index = {p.tensor.index: p.name for p in self._ports.inputs}
        feeds = [encode(self._example[index[int(i)]], graph.tensors[i]) for i in graph.inputs]
        return tap(data, feeds)

    def _samples(self, after: Graph, names: Sequence[str]) -> Mapping[str, Array]:
        values = self._evaluator.run(after, self._example, names)
        return dict(zip(names, values, strict=True))

    def _verify(self, data: bytes, after: Graph, exits: Sequence[int]) -> None:
        """The written model must run and answer as the edited view does, on the example."""
        try:
            values = self._tapped(data)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EditError(f"{self._path}: the edited model does not load, so it is not written: {reason}") from error
        try:
            wanted = self._evaluator.run(after, self._example, after.output_names)
        except RuntimeCrash:
            return
        tensors = tflite_schema.parse(data).subgraphs[0].tensors
        limit = self._limit if self._limit < _IN_CODES else max(self._limit, min(4 * self._shaken(after, wanted), 0.9))
        for name, want, tensor in zip(after.output_names, wanted, exits, strict=True):
            have = _as(values[tensor], want, tflite_schema.quantisation(tensors[tensor]))
            if want.shape != have.shape:
                raise Unsupported(
                    f"written natively, output {name} has shape {list(have.shape)}, {list(want.shape)} expected"
                )
            off = _error(have, want)
            if not off <= limit:
                raise Unsupported(
                    f"written natively, output {name} answers differently from the edited graph (relative {off:.2g})"
                )


    def _shaken(self, after: Graph, wanted: Sequence[Array]) -> float:
        """How far the answers of the edited view itself move when its inputs move by a step of their codes."""
        rng = np.random.default_rng(1)
        shaken = dict(self._example)
        for port in self._ports.inputs:
            if port.quantisation is not None and shaken[port.name].dtype.kind == "f":
                step = float(np.max(port.quantisation.scale))
                shaken[port.name] = shaken[port.name] + np.float32(step) * rng.choice([-1, 1], shaken[port.name].shape)
        feeds = {k: v.astype(self._example[k].dtype) for k, v in shaken.items()}
        moved = self._evaluator.run(after, feeds, after.output_names)
        return max((_error(m, w) for m, w in zip(moved, wanted, strict=True)), default=0.0)


def _limit(native: Mapping[int, Array]) -> float:
    """How far the answers may be off, relative: what the file's own encoding costs.

    Steps of 8 bits add up over the layers of a network; what is found here is a gross mistake, not the last digit.
    """
    dtypes = {v.dtype for v in native.values()}
    coarse = any(d.kind in "iu" and d.itemsize == 1 for d in dtypes)
    return _IN_CODES if coarse else _IN_HALVES if np.dtype(np.float16) in dtypes else _TOLERANCE


def _as(codes: Array, like: Array, grid: tuple[Array, Array, int] | None) -> Array:
    """A native output as the view puts it out: in real numbers, or in codes."""
    return tflite_schema.real(codes, grid) if like.dtype.kind == "f" and codes.dtype.kind in "iu" else codes


def _error(have: Array, want: Array) -> float:
    """Relative L2 distance; 0 where both hold the same, numbers that are not finite included."""
    if have.shape != want.shape:
        return float("inf")
    if np.array_equal(have, want, equal_nan=have.dtype.kind == "f" and want.dtype.kind == "f"):
        return 0.0
    a, b = have.astype(np.float64), want.astype(np.float64)
    if not np.isfinite(b).all():
        same = np.isfinite(a) == np.isfinite(b)
        return 0.0 if same.all() else float("inf")
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-9))
