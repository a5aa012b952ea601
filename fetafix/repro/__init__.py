"""Minimal reproductions of findings: ready for a converter's bug report, and runnable without fetafix.

    DIR/README.md                     an index of the findings
    DIR/1-lh-dilation/source.onnx     the segment of the source between the tensors where both models still agree …
                      target.onnx     … and what the converter made of it
                      inputs.npz      what both get ("source/NAME", "target/NAME")
                      outputs.npz     "expected": what the source's segment makes of it, "actual": the target's
                      show.py         runs both, prints the difference; numpy and onnxruntime alone; exit code 1
                      README.md       what is wrong, where, known issues of that kind, versions

A folder appears whole or not at all, and nothing that exists is replaced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from fetafix.errors import OutputError
from fetafix.report import Finding, ModelInfo
from fetafix.repro import script, words
from fetafix.repro.case import Case

__all__ = ["Case", "Reproduction", "free", "write"]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One finding with what shows it; `case` is None where it cannot be cut out, and `why` says why."""

    finding: Finding
    case: Case | None
    why: str = ""


def free(folder: str | Path) -> Path:
    """The folder, if reproductions can be written there. Raises OutputError where it holds anything, or cannot be."""
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"the reproductions cannot be written to {folder}: expected an empty folder or none, found "
                          "files in it; name another folder, or remove it first")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the reproductions cannot be written to {folder}: expected a folder, found a file")
    parent = folder.absolute().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"the reproductions cannot be written to {folder}: {parent} is no folder that can be written")
    return folder


def write(
    folder: str | Path, reproductions: Sequence[Reproduction], source: ModelInfo, target: ModelInfo
) -> list[str]:
    """Write all reproductions; returns a folder a finding, "" where there is none. Raises OutputError."""
    folder = free(folder)
    temporary = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.tmp")
    names = [f"{i}-{r.finding.code.lower()}" if r.case is not None else "" for i, r in enumerate(reproductions, 1)]
    try:
        temporary.mkdir()
        for name, item in zip(names, reproductions, strict=True):
            if item.case is not None:
                _one(temporary / name, item.finding, item.case, source, target)
        index = words.index(reproductions_text(reproductions, names), source, target)
        (temporary / "README.md").write_text(index, "utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        raise OutputError(f"the reproductions cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [str(folder / name) if name else "" for name in names]


def reproductions_text(reproductions: Sequence[Reproduction], names: Sequence[str]) -> list[tuple[str, Finding, str]]:
    """(folder, finding, why there is none) for the index."""
    return [(n, r.finding, r.why) for n, r in zip(names, reproductions, strict=True)]


def _one(folder: Path, finding: Finding, case: Case, source: ModelInfo, target: ModelInfo) -> None:
    folder.mkdir()
    for side, model in (("source", case.source), ("target", case.target)):
        if model is not None:
            onnx.save(model, str(folder / f"{side}.onnx"))
    np.savez(folder / "inputs.npz", **case.inputs)  # type: ignore[arg-type]
    outputs = {"expected": case.expected} | ({} if case.actual is None else {"actual": case.actual})
    np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]
    (folder / "show.py").write_text(script.text(finding, case), "utf-8")
    (folder / "README.md").write_text(words.case(finding, case, source, target), "utf-8")
