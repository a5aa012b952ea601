"""How long fetafix takes beside plain scripts that run the same inferences, on models of MobileNetV2's size.

Targets: check of two ONNX files, and of TFLite against ONNX, ≤ 1.5 × a plain script; ONNX against PyTorch ≤ 1.3 ×,
imports included; TensorFlow against PyTorch ≤ 1.4 × the plain script of the slower one alone, imports included (the
other has a process of its own beside it); localize ≤ 15 forward passes of both models over the samples that it uses,
start-up aside, in ≤ 2 × the memory of the plain script and 500 MB; repair of one weight fault ≤ 10 s.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fetafix.bench.measure import interleaved, peak_megabytes, ratio, run
from fetafix.bench.models import Files, make, make_tensorflow

_SAMPLES = 100
_START_UP = ("open", "inputs", "total", "write")

PLAIN_ONNX = """
import sys, time, numpy as np, onnxruntime as ort
samples = np.load(sys.argv[3])
models = [ort.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in sys.argv[1:3]]
start = time.perf_counter()
outputs = [[m.run(None, {m.get_inputs()[0].name: s[None]}) for s in samples] for m in models]
print(time.perf_counter() - start)
"""

PLAIN_TORCH = """
import sys, time, numpy as np, onnxruntime as ort, torch
samples = np.load(sys.argv[3])
if not hasattr(torch.ops.torchvision, "nms"):
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
source = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
target = torch.load(sys.argv[2], weights_only=False).eval()
start = time.perf_counter()
a = [source.run(None, {source.get_inputs()[0].name: s[None]}) for s in samples]
with torch.inference_mode():
    b = [target(torch.from_numpy(s[None])).numpy() for s in samples]
print(time.perf_counter() - start)
"""

PLAIN_TFLITE = """
import sys, time, numpy as np, onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter
samples = np.load(sys.argv[3])
source = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
target = Interpreter(sys.argv[2], num_threads=2)
target.allocate_tensors()
first, last = target.get_input_details()[0]["index"], target.get_output_details()[0]["index"]
a = [source.run(None, {source.get_inputs()[0].name: s[None]}) for s in samples]
b = []
for s in samples:
    target.set_tensor(first, s[None])
    target.invoke()
    b.append(target.get_tensor(last))
"""

ALONE_TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
samples = np.load(sys.argv[2])
run = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
name = list(run.structured_input_signature[1])[0]
a = [list(run(**{name: tf.constant(s[None])}).values())[0].numpy() for s in samples]
"""

ALONE_TORCH = """
import sys, numpy as np, torch
samples = np.load(sys.argv[2])
for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
model = torch.load(sys.argv[1], weights_only=False).eval()
with torch.inference_mode():
    a = [model(torch.from_numpy(s[None])).numpy() for s in samples]
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, its target, and the unit of both."""

    what: str
    figure: float
    target: float
    unit: str
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure keeps to its target."""
        return self.figure <= self.target


def speed(folder: Path | None = None, rounds: int = 3) -> Iterator[Row]:
    """Measure everything, row by row; the models are made in `folder`, or in one that goes again."""
    if folder is not None:
        yield from measure(make(folder), folder, rounds)
        return
    with tempfile.TemporaryDirectory(prefix="fetafix-bench-") as scratch:
        yield from measure(make(Path(scratch)), Path(scratch), rounds)


def measure(files: Files, folder: Path, rounds: int) -> Iterator[Row]:
    """All rows, for models that exist."""
    yield check(files, files.renamed, PLAIN_ONNX, 1.5, "check, ONNX and ONNX", rounds)
    yield check(files, files.converted, PLAIN_TORCH, 1.3, "check, ONNX and PyTorch", rounds)
    frameworks = make_tensorflow(folder)
    yield check(frameworks, frameworks.renamed, PLAIN_TFLITE, 1.5, "check, ONNX and TFLite", rounds)
    yield across(frameworks, folder / "saved_model", rounds)
    yield from localize(files, folder, rounds)
    yield repair(files, folder, rounds)


def check(files: Files, target: Path, plain: str, limit: float, what: str, rounds: int) -> Row:
    """The time of `fetafix check` to that of a plain script that loads both models and runs the same inferences."""
    models = [str(files.source), str(target)]
    runs = interleaved({"fetafix": _fetafix("check", *models, *_data(files)), "plain": _plain(plain, models, files)},
                       rounds, {"fetafix": (0, 1)})
    both = ", ".join(f"{name} {median(r.seconds for r in found):.2f} s" for name, found in runs.items())
    return Row(what, ratio(runs, "fetafix", "plain"), limit, "×", both)


def across(files: Files, source: Path, rounds: int) -> Row:
    """The time of `fetafix check` across TensorFlow and PyTorch to that of the slower one's plain script alone."""
    models = [str(source), str(files.converted)]
    runs = interleaved({
        "fetafix": _fetafix("check", *models, *_data(files)),
        "tensorflow": ["-c", ALONE_TENSORFLOW, models[0], str(files.samples)],
        "torch": ["-c", ALONE_TORCH, models[1], str(files.samples)],
    }, rounds, {"fetafix": (0, 1)})  # fmt: skip
    slower = min(ratio(runs, "fetafix", name) for name in ("tensorflow", "torch"))
    each = ", ".join(f"{name} {median(r.seconds for r in found):.2f} s" for name, found in runs.items())
    return Row("check, TensorFlow and PyTorch", slower, 1.4, "×", each)


def localize(files: Files, folder: Path, rounds: int) -> Iterator[Row]:
    """Forward passes that `fetafix localize` costs on a pair with two faults, and its memory beside the plain one's."""
    report = folder / "localize.json"
    models = [str(files.source), str(_broken(files.renamed, folder, "cg-act-missing", "wb-kernel-flip"))]
    command = _fetafix("localize", *models, *_data(files), "--json", str(report))
    passes = []
    for _ in range(rounds):
        run(command, (0, 1))
        one = float(run(_plain(PLAIN_ONNX, models, files)).stdout) / _SAMPLES
        found = json.loads(report.read_text())
        used = found["samples"]["search"] + found["samples"]["heldout"]
        work = sum(v for k, v in found["timings"].items() if k not in _START_UP)
        passes.append(work / (one * used))
    yield Row("localize", median(passes), 15, "passes", f"{used} samples")
    plain = peak_megabytes(_plain(PLAIN_ONNX, models, files))
    yield Row("localize, memory", peak_megabytes(command), 2 * plain + 500, "MB", f"plain {plain:.0f} MB")


def repair(files: Files, folder: Path, rounds: int) -> Row:
    """Seconds for repairing one weight fault, everything included."""
    broken, out = _broken(files.renamed, folder, "wb-kernel-flip"), folder / "repaired.onnx"
    seconds = []
    for _ in range(rounds):
        out.unlink(missing_ok=True)
        command = _fetafix("repair", str(files.source), str(broken), *_data(files), "--apply", "-o", str(out))
        seconds.append(run(command).seconds)
    return Row("repair of one weight fault", median(seconds), 10, "s")


def _broken(model: Path, folder: Path, *faults: str) -> Path:
    """A copy of a model with these faults, one after the other."""
    for number, fault in enumerate(faults):
        out = folder / f"broken-{number}-{fault}.onnx"
        out.unlink(missing_ok=True)
        run(_fetafix("inject", str(model), "--fault", fault, "-o", str(out)))
        model = out
    return model


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    lines = [f"{'what':<32}{'figure':>12}{'target':>12}   "]
    for r in rows:
        verdict = "met" if r.met else "missed"
        figures = (f"{value:.4g} {r.unit}" for value in (r.figure, r.target))
        lines.append(f"{r.what:<32}{''.join(f'{f:>12}' for f in figures)}   {verdict:<8}{r.detail}")
    return "\n".join(line.rstrip() for line in lines)


def _fetafix(*arguments: str) -> list[str]:
    return ["-m", "fetafix", *arguments]


def _plain(script: str, models: list[str], files: Files) -> list[str]:
    return ["-c", script, *models, str(files.samples)]


def _data(files: Files) -> list[str]:
    return ["--data", str(files.samples), "--samples", str(_SAMPLES), "-q"]
