"""What stands beside a reproduction: a bug report that only lacks its addressee."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from fetafix.faults import HEADINGS, catalogue, document
from fetafix.journal import versions
from fetafix.report import Finding, ModelInfo
from fetafix.repro.case import Case

_GITHUB = {
    "pytorch": "pytorch/pytorch", "onnx": "onnx/onnx", "onnxruntime": "microsoft/onnxruntime",
    "ort": "microsoft/onnxruntime",
    "tensorflow-onnx": "onnx/tensorflow-onnx", "tensorflow": "tensorflow/tensorflow", "onnx2tf": "PINTO0309/onnx2tf",
    "ncnn": "Tencent/ncnn", "mmdnn": "microsoft/MMdnn", "onnxscript": "microsoft/onnxscript", "tvm": "apache/tvm",
    "coremltools": "apple/coremltools", "keras-onnx": "onnx/keras-onnx", "keras": "keras-team/keras",
    "onnxmltools": "onnx/onnxmltools", "tensorrt": "NVIDIA/TensorRT", "onnx2torch": "ENOT-AutoDL/onnx2torch",
    "executorch": "pytorch/executorch", "optimizer": "onnx/optimizer", "vision": "pytorch/vision",
}  # fmt: skip
_ALONE = " The expected values are those of an input of the segment, so there is no source.onnx."
_ISSUE = re.compile(r"([A-Za-z][\w.-]*)?(?: PR)?#(\d+)")
_BETWEEN = re.compile(r";\s+|,\s+(?=[\w./-]*(?: PR)?#\d)")


def case(finding: Finding, shown: Case, source: ModelInfo, target: ModelInfo) -> str:
    """The README of one reproduction, in Markdown."""
    known = document(finding.code) if finding.code in catalogue() else {}
    what = "the whole models" if shown.whole else "the segment that makes the difference, cut out of both models"
    parts = [
        f"# {finding.title} ({finding.code})", finding.explanation,
        _table({
            "source layer": finding.source_layer, "target layer": finding.target_layer,
            "error": _error(shown),
        }),
        f"`python show.py` runs {what}, on inputs taken from the source (`inputs.npz`), prints the difference and "
        "exits with 1. It needs numpy and onnxruntime, nothing else. `outputs.npz` holds what is expected and what came"
        f" out.{_ALONE if shown.source is None else ''}",
        f"## What goes wrong\n{known[HEADINGS[0]]}" if HEADINGS[0] in known else "",
        f"## Known issues of this kind\n{issues(known[HEADINGS[4]])}" if HEADINGS[4] in known else "",
        f"## Models\n{_models(source, target)}", f"## Versions\n{_table(versions())}",
    ]  # fmt: skip
    return "\n\n".join(p for p in parts if p) + "\n"


def _error(shown: Case) -> str:
    if shown.actual is None:
        return f"the target cannot run: {shown.failure}"
    if shown.actual.shape != shown.expected.shape:
        return f"shape {list(shown.actual.shape)}, expected {list(shown.expected.shape)}"
    if shown.error == float("inf"):
        return "values where the expected ones are zero, or not finite where they are"
    return f"{shown.error:.3g} relative to the expected values; rounding explains {shown.tolerance:.2g}"


def index(entries: Sequence[tuple[str, Finding, str]], source: ModelInfo, target: ModelInfo) -> str:
    """The README of all reproductions. entries: (folder, finding, why there is none)."""
    lines = []
    for number, (folder, finding, why) in enumerate(entries, 1):
        where = f" at `{finding.target_layer}`" if finding.target_layer else ""
        tail = f"`python {folder}/show.py`" if folder else f"no reproduction: {why}"
        lines.append(f"{number}. {finding.title} ({finding.code}){where}: {tail}")
    title = f"# {len(entries)} difference{'s' if len(entries) != 1 else ''} of a conversion"
    return "\n\n".join([title, _models(source, target), "\n".join(lines)]) + "\n"


def issues(seen: str) -> str:
    """The issues of "Seen in" as a list, with addresses where the repository is known."""
    items, name = [], ""
    for entry in _BETWEEN.split(" ".join(seen.split()).rstrip(".")):
        match = _ISSUE.search(entry)
        name = (match[1] or name).lower() if match else ""  # "#2" belongs to the repository named before
        repository = _GITHUB.get(name)
        link = f": https://github.com/{repository}/issues/{match[2]}" if match and repository else ""
        items.append(f"- {entry}{link}")
    return "\n".join(items)


def _models(source: ModelInfo, target: ModelInfo) -> str:
    rows = {}
    for side, info in (("source", source), ("target", target)):
        told = {k: info.details[k] for k in ("opset", "producer") if info.details.get(k)}
        facts = "".join(f", {k} {v}" for k, v in told.items())
        seen = "" if info.format == "onnx" else "; seen here through its ONNX view"
        rows[side] = f"{PurePath(info.path).name} ({info.format}{facts}{seen}), SHA-256 {info.sha256}"
    return _table(rows)


def _table(rows: Mapping[str, str | None]) -> str:
    return "\n".join(f"- {k}: {v}" for k, v in rows.items() if v)
