"""Converters that go wrong in the ways in which converters do; each is called in a child process, as real ones are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fetafix.convert.converters import Converter
from fetafix.convert.guard import Answer, Job


def lossy(job: Job) -> Answer:
    """A quick converter that writes ONNX under the other format's name: models are recognised by their content.

    With the option `damage` the first convolution's kernels arrive upside down.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(job.source)
    if job.options.get("damage"):
        name = next(n.input[1] for n in model.graph.node if n.op_type == "Conv")
        kernels = next(t for t in model.graph.initializer if t.name == name)
        upside_down = numpy_helper.to_array(kernels)[:, :, ::-1].copy()
        kernels.CopyFrom(numpy_helper.from_array(upside_down, name))
    onnx.save(model, job.out)
    return Answer()


def raises(job: Job) -> Answer:
    raise KeyError("operator Frobnicate is not known")


def aborts(job: Job) -> Answer:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'")  # as C++ does: not buffered
    os.abort()


def exits(job: Job) -> Answer:
    sys.exit(7)


def hangs(job: Job) -> Answer:
    """With a program of its own, whose process id it leaves beside the output."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(job.out).with_suffix(".pid").write_text(str(child.pid))
    signal.pause()
    return Answer()


def writes_nothing(job: Job) -> Answer:
    return Answer()


def writes_rubbish(job: Job) -> Answer:
    Path(job.out).write_bytes(b"no model at all")
    return Answer()


def converter(name: str, *variants: dict[str, object], cost: float = 0.0) -> Converter:
    """ONNX → PyTorch (in name) by a function of this module."""
    return Converter(name, ("onnx",), "torch", f"tests.convert.mishaps:{name}", variants or ({},), cost=cost)
