"""Seeded faults put natively into real converted networks, and what a repair of them must show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from fetafix.api import Options, repair
from fetafix.edits import Edit, SetOutputs, apply
from fetafix.errors import FetafixError
from fetafix.faults import get
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph
from fetafix.options import RepairOptions
from fetafix.report import Report
from fetafix.session import Session
from fetafix.workbench import Workbench
from tests.assets.zoo import ASSETS, NETWORKS, Zoo

KINDS = ("onnx", "torch")
_TRIES = 12
_SHOWS = 1e-4
_INTERFACE = {"cg-extra-output", "id-baked-batch"}  # outputs of the first run stay as they were
_WHOLE = ("PP", "ID", "OP")  # faults of a model's inputs and outputs, at no layer


@dataclass(frozen=True)
class Seeded:
    """A faulty copy. layers: native names of the layers that the edits touch, and of their neighbours."""

    code: str
    path: Path
    edits: tuple[str, ...]
    layers: frozenset[str]

    def touches(self, *names: str | None) -> bool:
        """Whether one of these layers is one that the edits touch, or was written in the place of one."""
        mine = [f"{layer.strip('/')}/" for layer in self.layers]
        return any(f"{name.strip('/')}/".startswith(layer) for name in names if name for layer in mine)


class Seeder:
    """Puts faults into copies of a pair's target, in its own format. A context manager: both models stay open."""

    def __init__(self, source: Path, target: Path, options: Options, folder: Path) -> None:
        self.source, self.target, self.options, self.folder = source, target, options, folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.session = self._stack.enter_context(Session(self.source, self.target, self.options))
        lift = self.folder / "lift"
        lift.mkdir()
        self.bench = self._stack.enter_context(Workbench(self.session, lift))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def seed(self, code: str, seed: int = 0) -> Seeded:
        """One fault. Raises LookupError where the network has no place for it, or its format cannot express it."""
        graph = self.bench.interface.target
        out = self.folder / f"{code}-{seed}{self.target.suffix}"
        return self._written([(code, *self._draw(graph, code, seed))], out)

    def seed_several(self, faults: Sequence[tuple[str, int]]) -> Seeded:
        """Several faults in one copy, each in a graph that holds those before it."""
        graph, made = self.bench.interface.target, []
        for code, seed in faults:
            edits, layers = self._draw(graph, code, seed)
            made.append((code, edits, layers))
            graph = replace(apply(graph, edits), shapes=graph.shapes)
        return self._written(made, self.folder / f"{'+'.join(c for c, _ in faults)}{self.target.suffix}")

    def _draw(self, graph: Graph, code: str, seed: int) -> tuple[list[Edit], set[str]]:
        for attempt in range(_TRIES):
            edits = get(code).inject(graph, np.random.default_rng([seed, attempt]))
            if not edits:
                break
            if code in _INTERFACE or self._effect(graph, edits) > _SHOWS:
                return list(edits), self._layers(graph, edits)
        raise LookupError(f"{self.target.name} has no place for {code}")

    def _effect(self, graph: Graph, edits: Sequence[Edit]) -> float:
        """Largest relative L2 change of an output; 0 where the faulty graph does not run."""
        feeds, names = self.bench.target_feeds, graph.output_names
        try:
            before = self.bench.evaluator.run(graph, feeds, names)
            after = self.bench.evaluator.run(apply(graph, edits), feeds, names)
        except FetafixError:
            return 0.0
        return max(relative_error(a, b) if a.shape == b.shape else 0.0 for a, b in zip(after, before, strict=True))

    def _layers(self, graph: Graph, edits: Sequence[Edit]) -> set[str]:
        names = replace(self.bench.names[1], graph=graph)
        found: set[str] = set()
        for edit in edits:
            if isinstance(edit, SetOutputs):
                found |= {layer for t in edit.outputs if (layer := names.layer(t))}
            key = str(getattr(edit, "node", None) if isinstance(getattr(edit, "node", None), str)
                      else getattr(edit, "after", ""))  # fmt: skip
            if not isinstance(getattr(edit, "node", ""), str):
                found.add(edit.node.name)  # type: ignore[attr-defined]
            near = {key, *(n.key for n, _ in graph.consumers.get(key, ()))}
            maker = graph.producers.get(key)
            near |= {p.key for t in (maker.reads if maker else ()) if (p := graph.producers.get(t))}
            found |= {layer for k in near if (layer := names.layer(k))}
        return found

    def _written(self, made: Sequence[tuple[str, list[Edit], set[str]]], out: Path) -> Seeded:
        edits = [e for _, group, _ in made for e in group]
        written = self.session.target.write(edits, out, self.bench.target_lift.path)
        code = "+".join(c for c, _, _ in made)
        if written.unsupported:
            out.unlink(missing_ok=True)
            raise LookupError(f"{self.target.name} cannot express {code}: {written.unsupported[0][1]}")
        layers = frozenset(layer for _, _, found in made for layer in found)
        return Seeded(code, out, tuple(e.describe() for e in edits), layers)


class Network:
    """A network as an ONNX target of its PyTorch checkpoint ("onnx") and as onnx2torch's module of that ("torch")."""

    def __init__(self, zoo: Zoo, name: str, form: str, folder: Path) -> None:
        self._zoo, self._network, self._form, self._folder = zoo, NETWORKS[name], form, folder
        self._stack = ExitStack()
        self._seeders: dict[str, Seeder] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def seeder(self, kind: str) -> Seeder:
        """Opened at the first demand."""
        if kind not in self._seeders:
            network, name = self._network, self._network.name
            onnx = self._zoo(name, f"{self._form}.onnx")
            if kind == "onnx":
                pair, options = (ASSETS / network.checkpoint, onnx), network.options(source_arch=network.arch)
            else:
                prefix = "" if self._form == "legacy" else f"{self._form}-"
                pair, options = (onnx, self._zoo(name, f"{prefix}onnx2torch.pt")), network.options()
            folder = self._folder / kind
            folder.mkdir()
            self._seeders[kind] = self._stack.enter_context(Seeder(*pair, options, folder))
        return self._seeders[kind]


def check_repaired(seeder: Seeder, seeded: Seeded, expected: Sequence[str], out: Path, **more: Any) -> None:
    """Repair and assert everything: verdict, labels, codes, layers, and the file itself in its plain runtime."""
    report = mend(seeder, seeded, out, **more)
    wrong = list(problems(report, seeded, expected))
    assert not wrong, (seeded.edits, wrong, report.notes)
    assert out.is_file()
    if not any(e["kind"] == "set_preprocessing" for r in report.repairs if r.status == "kept" for e in r.edits):
        mended, healthy = plain_answers(out), plain_answers(seeder.target)
        assert mended == pytest.approx(healthy, abs=2e-3 * float(np.abs(healthy).max()))


def plain_answers(path: Path) -> Array:
    """The first output on two random images, by a plain script."""
    size = 224 if "squeezenet" in str(path) else 32
    x = np.random.default_rng(1).normal(size=(2, 3, size, size)).astype(np.float32)
    if path.suffix == ".onnx":
        import onnxruntime as ort

        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
    import torch

    from fetafix.formats.torch.env import prepare

    prepare()
    with torch.no_grad():
        return np.asarray(torch.load(path, weights_only=False)(torch.from_numpy(x)))


def mend(seeder: Seeder, seeded: Seeded, out: Path, **more: Any) -> Report:
    """Repair a faulty copy into `out`."""
    return repair(seeder.source, seeded.path, seeder.options, RepairOptions(apply=True, output=out, **more))


def problems(report: Report, seeded: Seeded, expected: Sequence[str]) -> Iterator[str]:
    """What a report on a repaired copy lacks; codes in `expected` may be alternatives: "wb-bias|wb-weights"."""
    if (report.verdict, report.exit_code) != ("repaired", 0):
        yield f"verdict {report.verdict}, exit {report.exit_code}: {report.reason}"
    if report.after is None or report.after.top1 != 1.0:
        yield f"held-out labels: {report.after and report.after.top1}"
    for choice in expected:
        found = [f for f in report.findings if f.code in choice.split("|")]
        if not found:
            yield f"no finding {choice}, but {[(f.code, f.target_layer) for f in report.findings]}"
        elif not any(f.category in _WHOLE or seeded.touches(f.target_layer, f.source_layer) for f in found):
            yield f"{choice} at {[(f.target_layer, f.source_layer) for f in found]}, not at {sorted(seeded.layers)}"
    if len(report.findings) > len(expected):
        yield f"too many findings: {[(f.code, f.target_layer) for f in report.findings]}"
