"""A network of the zoo, opened for many mutants: its forms, its samples, its noise floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.bench import zoo
from fetafix.bench.faults.settings import Settings
from fetafix.bench.zoo import Form, Made
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.graph.segment import relative_error
from fetafix.inject import measured
from fetafix.ir import Array, Graph

Outputs = Mapping[str, Array]
_PROBE = 3
_ROUNDING = 1e-6


@dataclass
class Nursery:
    """One network. folder: of its files; made when it is first opened. threads: of each runtime in a repair."""

    settings: Settings
    name: str
    folder: Path
    threads: int = 1
    evaluator: Evaluator = field(default_factory=Evaluator)
    _graphs: dict[Form, Graph] = field(default_factory=dict)
    _answers: dict[Form, Outputs] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make all files, which takes longest."""
        for hidden in (False, True):
            self.data(hidden)

    @cached_property
    def made(self) -> Made:
        """Files of the zoo."""
        s = self.settings
        return zoo.make(self.name, self.folder, s.scale, s.zoo_seed, s.forms)

    @cached_property
    def samples(self) -> dict[str, Array]:
        """Those that the repair gets, then the hidden ones, by input."""
        loaded = np.load(self.made.samples)
        count = self.settings.samples + self.settings.hidden
        arrays = {self.made.inputs[0]: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        return {k: v[:count] for k, v in arrays.items()}

    def data(self, hidden: bool = False) -> Path:
        """A file of the samples that the repair gets, or of those that it does not."""
        path = self.made.model.with_suffix(f".{'hidden' if hidden else 'given'}.npz")
        if not path.exists():
            chosen = slice(self.settings.samples, None) if hidden else slice(self.settings.samples)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, allow_pickle=False, **{k: v[chosen] for k, v in self.samples.items()})
            partial.replace(path)
        return path

    def path(self, form: Form) -> Path:
        """The file of a form."""
        return self.made.forms[form]

    def graph(self, form: Form) -> Graph:
        """The canonical graph of a form, with shapes."""
        if form not in self._graphs:
            self._graphs[form] = measured(self.read(self.path(form)), self.probe, self.evaluator)
        return self._graphs[form]

    def read(self, path: Path) -> Graph:
        """The canonical graph of any file."""
        return canonical(load_graph(path), self.evaluator)

    @cached_property
    def probe(self) -> dict[str, Array]:
        """A few samples, on which places are tried."""
        return {k: v[:_PROBE] for k, v in self.samples.items()}

    def answers(self, form: Form) -> Outputs:
        """What a form answers to all samples, natively."""
        if form not in self._answers:
            found = self.run(self.path(form))
            assert found is not None, f"{self.path(form)} does not run"
            self._answers[form] = found
        return self._answers[form]

    def run(self, path: Path, samples: Outputs | None = None, optimise: bool = True) -> Outputs | None:
        """A model's answers to samples, by default to all, by output; None where it does not take them, or fails."""
        try:
            session = _session(path, optimise)
            names = [o.name for o in session.get_outputs()]
            return dict(zip(names, map(np.asarray, session.run(names, samples or self.samples)), strict=True))
        except Exception:  # onnxruntime raises a class of its own per status code, all directly below Exception
            return None

    def runs(self, path: Path) -> bool:
        """Whether a model answers a single sample in the shape that it declares itself."""
        try:
            session = _session(path)
            given = {i.name: self.samples.get(i.name) for i in session.get_inputs()}
            feeds = {i.name: np.zeros(_declared(i.shape, given[i.name]), _dtype(i.type)) for i in session.get_inputs()}
            session.run(None, feeds)
        except Exception:  # as above
            return False
        return True

    @cached_property
    def limit(self) -> float:
        """How far a repaired model may be off, relative L2: the noise floor times a factor.

        The noise floor is what harmless changes make: another of the forms that are paired, no optimisation by the
        runtime, inputs off by a unit in the last place.
        """
        floor = [error(self.answers(b), self.answers(a)) for a, b in self.settings.pairs]
        first = self.settings.pairs[0][0]
        nudged = {k: np.nextafter(v, np.inf, dtype=v.dtype) if v.dtype.kind == "f" else v
                  for k, v in self.samples.items()}
        others = self.run(self.path(first), optimise=False), self.run(self.path(first), nudged)
        return self.settings.noise * max(_ROUNDING, *floor, *(error(o, self.answers(first)) for o in others))

    def hidden(self, answers: Outputs) -> Outputs:
        """The answers to the samples that the repair does not get."""
        return {k: v[self.settings.samples:] for k, v in answers.items()}

    def differing(self, answers: Outputs | None, expected: Outputs) -> float | None:
        """The share of labels that differ, ties within the noise left out; None where there are none to compare."""
        if self.made.task == "regression":
            return None
        axis, right = self.made.label_axis, expected[self.made.scores]
        value = None if answers is None else answers.get(self.made.scores)
        if value is None or value.shape != right.shape:
            return None
        ordered = np.sort(right, axis=axis)
        first, second = (np.take(ordered, [i], axis=axis).squeeze(axis) for i in (-1, -2))
        clear = first - second > 2 * self.limit * np.abs(right).max()
        return float(np.mean((value.argmax(axis) != right.argmax(axis)) & clear))


def _session(path: Path, optimise: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _declared(shape: Sequence[Any], given: Array | None) -> list[int]:
    """A declared shape, a batch of one; other free axes as the samples have them."""
    known = [1] * len(shape) if given is None or given.ndim != len(shape) else [1, *given.shape[1:]]
    return [d if isinstance(d, int) else k for d, k in zip(shape, known, strict=True)]


def _dtype(name: str) -> np.dtype[Any]:
    """The dtype of a runtime's type such as tensor(float)."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


def error(answers: Outputs | None, expected: Outputs, names: Sequence[str] | None = None) -> float:
    """Largest relative L2 error of an output; inf where one is missing, has another shape or is not finite."""
    worst = 0.0
    for name in names or expected:
        value = None if answers is None else answers.get(name)
        if value is None or value.shape != expected[name].shape or not np.isfinite(value).all():
            return float("inf")
        worst = max(worst, relative_error(value, expected[name]))
    return worst
