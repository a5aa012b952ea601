"""Put a seeded fault of the catalogue into a copy of a model: for tests, benchmarks, and to see what a fault does.

A fault counts only if it changes something: places that are drawn are tried on samples until one alters the outputs.
"""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fetafix.edits import Edit, SetPreprocessing, apply
from fetafix.errors import EditError, FetafixError, OutputError
from fetafix.faults import FaultType, get
from fetafix.formats.base import OpenOptions
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.graph.segment import relative_error
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.ir import Array, Graph
from fetafix.outputs import inside, writable
from fetafix.parallel import ModelProcess

_TRIES = 24
_COUNTS_FROM = 1e-4


@dataclass(frozen=True, slots=True)
class Injected:
    """What was done. error: relative L2 error of the outputs on a synthetic sample, None for another interface."""

    code: str
    seed: int
    path: Path
    changes: tuple[str, ...]
    error: float | None


def inject(model: str | Path, code: str, seed: int, out: str | Path, options: OpenOptions | None = None) -> Injected:
    """Write a copy of `model` with the fault `code` to `out`, a new file in the model's own format.

    Raises UsageError for an unknown code, EditError where the model has no place for the fault or its format cannot
    express it, OutputError where `out` exists or cannot be written, ModelError where the model cannot be opened.
    """
    out, fault = Path(out), get(code)
    _check(Path(model), out)
    with ModelProcess(model, options) as process, tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        info = process.info()
        feeds = SyntheticSource(seed, info.details.get("vocabulary", {})).feeds(range(1), info.inputs).feed(0)
        lifted = process.lift(Path(folder), feeds)
        evaluator = Evaluator()
        graph = measured(canonical(load_graph(lifted.path), evaluator), feeds, evaluator)
        edits, error = _find(fault, graph, feeds, seed, evaluator)
        _write(process, fault, edits, out, lifted.path)
    return Injected(fault.code, seed, out, tuple(e.describe() for e in edits), error)


def _check(model: Path, out: Path) -> None:
    """Raise OutputError where the copy could not be written, or would be written over or into anything."""
    if out.exists() or out.is_symlink():
        raise OutputError(f"{out} exists already; inject writes new files only")
    if inside(out, model):
        raise OutputError(f"{out} lies in the model {model}, which is never changed; name a place outside")
    writable(out)


def measured(graph: Graph, feeds: Mapping[str, Array], evaluator: Evaluator) -> Graph:
    """The graph with every tensor's shape, from a run on one sample."""
    made = [o for n in graph.nodes for o in n.outputs if o]
    values = evaluator.run(graph, feeds, made)
    shapes = {k: v.shape for k, v in (*zip(made, values, strict=True), *graph.initializers.items(), *feeds.items())}
    return replace(graph, shapes=shapes)


def placements(
    fault: FaultType, graph: Graph, feeds: Mapping[str, Array], seed: int, evaluator: Evaluator
) -> Iterator[tuple[Sequence[Edit], float | None]]:
    """Edits drawn by the seed, and the largest relative L2 error of an output after them (None: another interface).

    Ends where the graph has no place for the fault, and after a bounded number of draws. graph: with its shapes
    (`measured`) on the same feeds.
    """
    rng = np.random.default_rng([seed, zlib.crc32(fault.code.encode())])
    expected = evaluator.run(graph, feeds, graph.output_names)
    for _ in range(_TRIES):
        edits = fault.inject(graph, rng)
        if edits is None:
            return
        yield edits, _effect(apply(graph, edits), feeds, expected, evaluator)


def counts(error: float | None) -> bool:
    """Whether a fault alters anything: another interface, or outputs beyond what rounding does."""
    return error is None or error > _COUNTS_FROM


def _find(
    fault: FaultType, graph: Graph, feeds: Mapping[str, Array], seed: int, evaluator: Evaluator
) -> tuple[Sequence[Edit], float | None]:
    """The first drawn edits that change the outputs, and by how much."""
    drawn = 0
    for edits, error in placements(fault, graph, feeds, seed, evaluator):
        drawn += 1
        if all(isinstance(e, SetPreprocessing) for e in edits):
            changes = ",".join(f"{k}={v}" for e in edits for k, v in e.changes.items())  # type: ignore[union-attr]
            raise EditError(
                f"the fault {fault.code} ({fault.name}) lies in how images are prepared and not in the model: compare "
                f'with --target-preprocess "PRESET,{changes}"'
            )
        if counts(error):
            return edits, error
    why = "every place tried leaves its outputs as they were" if drawn else "it has no place for it"
    raise EditError(f"the fault {fault.code} ({fault.name}) cannot be put into this model: {why}")


def _effect(graph: Graph, feeds: Mapping[str, Array], expected: Sequence[Array], evaluator: Evaluator) -> float | None:
    """Largest relative error of an output; None where the faulty model has another interface."""
    try:
        values = evaluator.run(graph, feeds, graph.output_names)
    except FetafixError:
        return None
    if [v.shape for v in values] != [e.shape for e in expected]:
        return None
    return max(relative_error(v, e) for v, e in zip(values, expected, strict=True))


def _write(process: ModelProcess, fault: FaultType, edits: Sequence[Edit], out: Path, lifted: Path) -> None:
    """Write natively; nothing is left where that does not work."""
    written = process.write(edits, out, lifted)
    if written.unsupported:
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
        raise EditError(f"the format cannot express the fault {fault.code}: {written.unsupported[0][1]}")
