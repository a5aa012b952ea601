"""What else than a model and its inputs may change its numbers: versions, hardware, settings; in words, for keys."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from fetafix import __version__

_RUNTIMES = (
    "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "torchvision", "onnx2torch", "tensorflow", "tensorflow-cpu",
    "tensorflow-intel", "keras", "ai-edge-litert",
)  # fmt: skip
_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "NVIDIA_TF32_OVERRIDE", "KERAS_BACKEND")


@cache
def surroundings() -> str:
    """Versions, hardware and settings: what else may change a model's numbers."""
    system = " ".join((platform.system(), platform.machine(), *platform.libc_ver()))  # libm comes with the latter
    found = [f"fetafix {__version__}", f"python {sys.version}", system, _processor(), *_cards()]
    found += [f"{name}={os.environ[name]}" for name in _SETTINGS if name in os.environ]
    for name in _RUNTIMES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return "; ".join(found)


def _processor() -> str:
    """The model of the processor, whose instructions decide how a runtime sums up."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _cards() -> list[str]:
    """The models of graphics cards, where the system tells."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [line for f in files for line in f.read_text("utf-8", "replace").splitlines() if line.startswith("Model")]
