"""Where and how a PyTorch model runs: device and optimisation, checked before anything is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetafix.errors import UsageError
from fetafix.formats.base import OpenOptions


def choose(path: Path, options: OpenOptions) -> Any:
    """The torch.device asked for. Raises UsageError where there is none such, or where an option says nothing here."""
    import torch

    if options.signature:
        raise UsageError(f"{path}: a PyTorch model has no signatures; found signature {options.signature!r} asked for")
    if options.provider:
        raise UsageError(
            f"{path}: PyTorch has no execution providers (found {options.provider!r}); it takes a device. Where the "
            "other model is an ONNX file, give --source-provider or --target-provider"
        )
    try:
        device = torch.device(options.device.strip().lower())
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        found = f"found {options.device!r}: {reason}"
        raise UsageError(f"{path}: expected a device such as cpu or cuda:0, {found}") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        there = f"{count} CUDA device{'s' if count != 1 else ''}" if count else "no CUDA device"
        built = "" if torch.version.cuda else "; it is a build for the CPU"
        raise UsageError(f"{path}: device {options.device!r} was asked for, but this PyTorch sees {there}{built}")
    if device.type not in ("cpu", "cuda") and not _computes(device):
        raise UsageError(f"{path}: device {options.device!r} was asked for, but this PyTorch cannot compute there")
    return device


def _computes(device: Any) -> bool:
    import torch

    try:
        return bool((torch.ones(2, device=device) + 1).cpu().sum() == 4)
    except Exception:  # whatever a device that is not there raises
        return False


@contextlib.contextmanager
def settings(optimise: bool) -> Iterator[None]:
    """Without optimisation neither oneDNN's kernels nor TorchScript's fusions are used."""
    import torch
    from torch.jit import optimized_execution  # type: ignore[attr-defined]

    if optimise:
        yield
        return
    with torch.backends.mkldnn.flags(enabled=False), optimized_execution(False):
        yield
