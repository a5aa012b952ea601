"""The formats that conversions lead from and to."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from fetafix.errors import UsageError
from fetafix.formats import recognise

PRECISIONS = ("fp16", "dynamic", "int8")
SUFFIXES = {
    "onnx": ".onnx", "torch": ".pt", "torchscript": ".pt", "pt2": ".pt2", "keras": ".keras", "h5": ".h5",
    "saved_model": "", "graphdef": ".pb", "tflite": ".tflite",
}
NAMES = (*SUFFIXES, *(f"tflite-{p}" for p in PRECISIONS))
_BY_SUFFIX = {
    ".onnx": "onnx", ".pt": "torch", ".pth": "torch", ".ts": "torchscript", ".torchscript": "torchscript",
    ".pt2": "pt2", ".keras": "keras", ".h5": "h5", ".hdf5": "h5", "": "saved_model", ".pb": "graphdef",
    ".tflite": "tflite",
}
_BY_FORMAT = {
    "onnx": "onnx", "torchscript": "torchscript", "torch-export": "pt2", "torch-module": "torch",
    "torch-state-dict": "state_dict", "safetensors": "state_dict", "keras": "keras", "keras-h5": "h5",
    "saved_model": "saved_model", "graphdef": "graphdef", "tflite": "tflite",
}


@dataclass(frozen=True)
class Target:
    """What to convert to. precision: "" for float32, else one of PRECISIONS (TFLite alone has them)."""

    kind: str
    precision: str = ""

    @property
    def name(self) -> str:
        """As `--to` names it."""
        return f"{self.kind}-{self.precision}" if self.precision else self.kind


def target_of(out: str | Path, to: str | None = None, quantise: str | None = None) -> Target:
    """The format that the options name, or the output's suffix. Raises UsageError where that is unclear or wrong."""
    if to is None:
        suffix = Path(out).suffix.lower()
        if suffix not in _BY_SUFFIX:
            raise UsageError(f"{out}: the suffix {suffix!r} names no format that models are converted to; "
                             f"say --to FORMAT, one of {', '.join(NAMES)}")
        to = _BY_SUFFIX[suffix]
    if to not in NAMES:
        near = difflib.get_close_matches(to, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMES)}"
        raise UsageError(f"unknown format {to!r}; {hint}")
    kind, _, precision = to.partition("-")
    if quantise is not None:
        _check_precision(kind, precision, quantise)
        precision = quantise
    return Target(kind, precision)


def _check_precision(kind: str, precision: str, quantise: str) -> None:
    if quantise not in PRECISIONS:
        raise UsageError(f"expected a precision of {', '.join(PRECISIONS)}, found {quantise!r}")
    if kind != "tflite":
        raise UsageError(f"only TFLite files are quantised here, not {kind}")
    if precision and precision != quantise:
        raise UsageError(f"--to tflite-{precision} and --quantise {quantise} contradict each other")


def kind_of(source: str | Path) -> str:
    """The kind of a model file, by its content. Raises UnreadableModel; UsageError where no converter reads it."""
    return kind_of_format(source, recognise(source))


def kind_of_format(source: str | Path, name: str) -> str:
    """The kind of a model whose format is known. Raises UsageError where no converter reads it."""
    if name not in _BY_FORMAT:
        raise UsageError(f"{source}: no converter reads the format {name!r}; known: {', '.join(_BY_FORMAT)}")
    return _BY_FORMAT[name]
