"""What a caller may ask of `convert`, beyond what `check` knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fetafix.errors import UsageError

EXPORTERS = ("torchscript", "dynamo")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How to convert. Raises UsageError where a value makes no sense.

    to: the format (None: by the output's suffix), see `fetafix.convert.kinds`. quantise: "fp16", "dynamic" or "int8",
      for TFLite. opset: ONNX operator set of every step that writes ONNX. exporter: "torchscript" or "dynamo", for
      torch.onnx.
    routes: how many routes to try at most, unavailable ones not counted. compare: try them all, though one passes.
    timeout: seconds a step may take. calibration: samples that int8 ranges are measured on.
    repair: repair the best route's model where none passes. keep_rejected: leave it beside, `.rejected` in its name.
    force: replace an output that exists. journal: append everything tried to this file.
    """

    to: str | None = None
    quantise: str | None = None
    opset: int | None = None
    exporter: str | None = None
    routes: int = 4
    compare: bool = False
    timeout: float = 900.0
    calibration: int = 50
    repair: bool = False
    keep_rejected: bool = False
    force: bool = False
    journal: str | Path | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is opened."""
        for name in ("routes", "calibration"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} ≥ 1, found {getattr(self, name)}")
        if not self.timeout > 0:
            raise UsageError(f"expected a timeout above 0 seconds, found {self.timeout}")
        if self.opset is not None and not 7 <= self.opset <= 25:
            raise UsageError(f"expected an ONNX opset from 7 to 25, found {self.opset}")
        if self.exporter not in (None, *EXPORTERS):
            raise UsageError(f"the exporter is {' or '.join(EXPORTERS)}, found {self.exporter!r}")
