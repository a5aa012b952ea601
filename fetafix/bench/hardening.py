"""What hardening costs: size, load and inference of hardened ONNX files beside the original, in onnxruntime.

The median over several rounds, taken in turns of random order, of the ratio to the original's time in the same round:
load with onnxruntime as it comes; inference as processor time on one thread, so that neither a busy machine nor other
sessions' threads count. Targets: inference 1.00 but for noise, since constant folding leaves the same operators; load
at most 3 times as long.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.harden import Wish, harden

WISHES = (Wish(scheme="scale", granularity="tensor"), Wish(scheme="scale"), Wish(scheme="guard", granularity="tensor"),
          Wish(scheme="guard"), Wish(scheme="ceiling"), Wish(scheme="scale", dtype="int8"))


@dataclass(frozen=True, slots=True)
class Row:
    """A hardened file beside the original. same: whether its optimised graph has the same operators."""

    what: str
    size: float
    load: float
    inference: float
    same: bool


def hardening(model: Path, wishes: Sequence[Wish] = WISHES, rounds: int = 15) -> list[Row]:
    """Measure each way to harden an ONNX file. Raises as `harden` does."""
    with tempfile.TemporaryDirectory(prefix="fetafix-") as name:
        folder, files = Path(name), [model]
        for i, wish in enumerate(wishes):
            (folder / str(i)).mkdir()
            files.append(Path(harden(model, folder / str(i) / model.name, wish).out))
        sessions = [_open(file, threads=1) for file in files]
        feeds = _feeds(sessions[0])
        load: list[list[float]] = [[] for _ in files]
        run: list[list[float]] = [[] for _ in files]
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for i in rng.permutation(len(files)):
                load[i].append(_timed(lambda i=i: _open(files[i])))  # type: ignore[misc]
            for i in rng.permutation(len(files)):
                run[i].append(_timed(lambda i=i: sessions[i].run(None, feeds), time.process_time))  # type: ignore[misc]
        plain = _operators(model, folder)
        return [Row(f"{w.scheme}, {w.dtype}, a {w.granularity}", _size(f) / _size(model), _ratio(a, load[0]),
                    _ratio(b, run[0]), _operators(f, folder) == plain)
                for w, f, a, b in zip(wishes, files[1:], load[1:], run[1:], strict=True)]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| hardened by | size | load | inference | operators at run time |", "|---|---|---|---|---|"]
    same = {True: "the same", False: "others"}
    lines += [f"| {r.what} | {r.size:.3f} × | {r.load:.2f} × | {r.inference:.3f} × | {same[r.same]} |"
              for r in rows]
    return "\n".join(lines) + "\n"


def _open(file: Path, optimised: Path | None = None, threads: int = 0) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _feeds(session: Any) -> dict[str, Any]:
    """Ones for every input, 1 where a dimension is open."""
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
             "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_}
    return {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape], kinds[i.type])
            for i in session.get_inputs()}


def _operators(file: Path, folder: Path) -> Counter[str]:
    import onnx

    _open(file, folder / "optimised.onnx")
    model = onnx.load(str(folder / "optimised.onnx"), load_external_data=False)
    return Counter(n.op_type for n in model.graph.node)


def _size(file: Path) -> int:
    return sum(f.stat().st_size for f in file.parent.glob(file.name + "*"))


def _ratio(these: Sequence[float], those: Sequence[float]) -> float:
    return float(np.median(np.array(these) / np.array(those)))


def _timed(what: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    what()
    return clock() - start
