"""Guarded conversion: established converters, each in a process of its own, and a verdict before anything is kept.

    from fetafix.convert import ConvertOptions, convert
    report = convert("model.keras", "model.tflite", api.Options(data="images/"), ConvertOptions())

A conversion takes a *route*: a chain of converters through formats (PyTorch → ONNX → TFLite), each with its options.
`routes` plans them, shortest and most usual first, from the table in `converters`; `guard` runs one step in a child
process (`python -m fetafix.convert.run`), where a converter may raise, crash or hang without harm; `conversion` tries
route after route, checks what comes out against the source, and gives only a model that passes its own name. What
touches frameworks (`with_torch`, `with_tensorflow`, `with_tf2onnx`, `with_onnx2tf`) runs in child processes alone, so
that torch and tensorflow never meet in one.
"""

from __future__ import annotations

from fetafix.convert.conversion import convert
from fetafix.convert.options import ConvertOptions
from fetafix.convert.report import ConversionReport

__all__ = ["ConversionReport", "ConvertOptions", "convert"]
