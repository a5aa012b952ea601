"""Converters that go wrong in the ways in which converters do; each is called in a child process, as real ones are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fetafix.convert import with_torch
from fetafix.convert.converters import Converter
from fetafix.convert.guard import Answer, Job


def lossy(job: Job) -> Answer:
    """onnx2torch; with the option `damage` the first convolution's kernels then arrive upside down."""
    answer = with_torch.from_onnx(job)
    if job.options.get("damage"):
        import torch

        module = torch.load(job.out, weights_only=False)
        conv = next(m for m in module.modules() if isinstance(m, torch.nn.Conv2d))
        conv.weight.copy_(conv.weight.flip(2))
        torch.save(module, job.out)
    return answer


def raises(job: Job) -> Answer:
    raise KeyError("operator Frobnicate is not known")


def aborts(job: Job) -> Answer:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'")
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
    """ONNX → PyTorch by a function of this module."""
    return Converter(name, ("onnx",), "torch", f"tests.convert.mishaps:{name}", variants or ({},), cost=cost)
