"""The established converters: what each reads and writes, with which options, and what it needs.

A converter's variants are sets of options in the order in which they are tried. `function` names what the child process
calls ("module:function", below `fetafix.convert` where the module's name has no dot) with a `guard.Job`, `needs` what
must be importable, `command` an external program.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

TORCH = ("torch", "torchscript", "pt2", "state_dict")
ONNX2TF = "FETAFIX_ONNX2TF"
_TORCH = ("torch",)
_TENSORFLOW = ("tensorflow", "keras")


@dataclass(frozen=True)
class Converter:
    """One way from some formats to another. cost: 0 for the usual way, more for one to be tried later.

    precisions: of the TFLite files that it can write. distributions: whose versions a report gives.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    function: str
    variants: tuple[Mapping[str, Any], ...] = ({},)
    needs: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    command: str = ""
    cost: float = 0.0
    precisions: tuple[str, ...] = ("",)

    def missing(self) -> str:
        """Why this converter cannot be used here, and how to get it; "" where it can."""
        if self.command and not executable():
            return (f"{self.command} is not installed: its pins fit no shared environment, so give it one of its own "
                    f"(python -m venv V; V/bin/pip install onnx2tf) and name its program in {ONNX2TF} or on the PATH")
        lacking = [n for n in self.needs if importlib.util.find_spec(n) is None]
        extra = "torch" if "torch" in self.needs else "tensorflow"
        return f"{', '.join(lacking)} is missing; install it with: pip install 'fetafix[{extra}]'" if lacking else ""


def executable() -> str | None:
    """The onnx2tf program: the one that FETAFIX_ONNX2TF names, else the one on the PATH."""
    named = os.environ.get(ONNX2TF)
    if named:
        return shutil.which(named) or (named if Path(named).is_file() and os.access(named, os.X_OK) else None)
    return shutil.which("onnx2tf")


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed versions of some distributions, without importing them; those that are missing are left out."""
    found = {}
    for name in distributions:
        for spelling in (name, f"{name}-cpu"):
            try:
                found[name] = metadata.version(spelling)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def _opsets(*opsets: int) -> tuple[Mapping[str, Any], ...]:
    return tuple({"opset": n} for n in opsets)


CONVERTERS: tuple[Converter, ...] = (
    Converter(
        "torch.onnx", TORCH, "onnx", "with_torch:to_onnx",
        ({"exporter": "torchscript", "opset": 17}, {"exporter": "dynamo", "opset": 18},
         {"exporter": "torchscript", "opset": 13}, {"exporter": "torchscript", "opset": 17, "batch": "fixed"}),
        needs=("torch", "onnxscript"), distributions=("torch", "onnxscript", "onnx")),
    Converter(
        "onnx2torch", ("onnx",), "torch", "with_torch:from_onnx", ({}, {"infer_shapes": True}),
        needs=("torch", "onnx2torch"), distributions=("onnx2torch", "torch")),
    Converter(
        "torch.jit", ("torch", "pt2", "state_dict"), "torchscript", "with_torch:to_torchscript",
        ({"method": "trace"}, {"method": "script"}), needs=_TORCH, distributions=_TORCH),
    Converter(
        "torch.export", ("torch", "state_dict"), "pt2", "with_torch:to_pt2",
        ({"strict": False}, {"strict": True}, {"strict": False, "batch": "fixed"}), needs=_TORCH, distributions=_TORCH),
    Converter(
        "tf2onnx", ("keras", "h5", "saved_model", "graphdef", "tflite"), "onnx", "with_tf2onnx:to_onnx",
        _opsets(17, 15, 13), needs=("tensorflow", "tf2onnx"), distributions=("tf2onnx", "tensorflow", "keras", "onnx")),
    Converter(
        "TFLite converter", ("keras", "h5"), "tflite", "with_tensorflow:to_tflite",
        ({"via": "keras"}, {"via": "saved_model"}, {"via": "concrete_function", "batch": "fixed"}),
        needs=_TENSORFLOW, distributions=_TENSORFLOW, precisions=("", "fp16", "dynamic", "int8")),
    Converter(
        "TFLite converter", ("saved_model", "graphdef"), "tflite", "with_tensorflow:to_tflite",
        ({"via": "saved_model"}, {"via": "concrete_function", "batch": "fixed"}),
        needs=_TENSORFLOW, distributions=_TENSORFLOW, precisions=("", "fp16", "dynamic", "int8")),
    Converter(
        "keras.export", ("keras", "h5"), "saved_model", "with_tensorflow:to_saved_model", needs=_TENSORFLOW,
        distributions=_TENSORFLOW),
    Converter(
        "tf.import_graph_def", ("graphdef",), "saved_model", "with_tensorflow:to_saved_model", needs=_TENSORFLOW,
        distributions=_TENSORFLOW),
    Converter("keras.save", ("h5",), "keras", "with_tensorflow:to_keras", needs=_TENSORFLOW, distributions=_TENSORFLOW),
    Converter("keras.save", ("keras",), "h5", "with_tensorflow:to_keras", needs=_TENSORFLOW, distributions=_TENSORFLOW),
    Converter(
        "tf.freeze", ("saved_model",), "graphdef", "with_tensorflow:to_graphdef", needs=_TENSORFLOW,
        distributions=_TENSORFLOW),
    *(Converter(
        "onnx2tf", ("onnx",), target, "with_onnx2tf:convert",
        ({"simplify": False}, {"simplify": True}, {"simplify": False, "batch": "fixed"}),
        command="onnx2tf", cost=0.1, precisions=precisions)
      for target, precisions in (
          ("saved_model", ("",)), ("tflite", ("", "fp16", "dynamic")), ("keras", ("",)), ("h5", ("",)))),
)
