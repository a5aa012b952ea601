"""ONNX Runtime's execution providers: the one that somebody asked for by name, or that of a device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fetafix.errors import RuntimeCrash, UsageError
from fetafix.formats.base import OpenOptions

CPU = "CPUExecutionProvider"
_SUFFIX = "ExecutionProvider"
_CUDA = re.compile(r"(?:cuda|gpu)(?::(\d+))?")

Provider = str | tuple[str, dict[str, Any]]


def choose(path: Path, options: OpenOptions) -> list[Provider]:
    """The providers of a session, the wanted one first; the CPU's takes the operators that it has no kernel for.

    Names count without "ExecutionProvider" and in any case. Raises UsageError where the name or the device is none that
    this onnxruntime has; it lists those that it has.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    device, name = options.device.strip().lower(), options.provider.strip()
    cuda = _CUDA.fullmatch(device)
    if device != "cpu" and cuda is None:
        raise UsageError(f"{path}: onnxruntime has no device {options.device!r}; expected cpu, cuda or cuda:N")
    wanted = name or ("CUDA" if cuda else "CPU")
    known = {p.removesuffix(_SUFFIX).lower(): p for p in available}
    found = known.get(wanted.lower().removesuffix(_SUFFIX.lower()))
    if found is None:
        what = f"execution provider {name!r}" if name else f"execution provider for device {options.device!r}"
        raise UsageError(
            f"{path}: this onnxruntime has no {what}; it has {', '.join(available)}. "
            "Other providers come with other builds, say onnxruntime-gpu"
        )
    if found == CPU:
        return [CPU]
    first: Provider = (found, {"device_id": int(cuda[1])}) if cuda and cuda[1] else found
    return [first, CPU]


def check(path: Path, session: Any, wanted: list[Provider]) -> None:
    """Raise RuntimeCrash where onnxruntime fell back to the CPU: it only warns of a provider that does not start."""
    first = wanted[0] if isinstance(wanted[0], str) else wanted[0][0]
    used = session.get_providers()
    if first not in used:
        raise RuntimeCrash(
            f"{path}: onnxruntime has the execution provider {first}, but could not start it, and would have run the "
            f"model on {', '.join(used)}; are its libraries and its device there?"
        )
