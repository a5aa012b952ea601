"""ONNX Runtime's messages in words that say what was expected, what was found and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from fetafix.errors import ModelError, RuntimeCrash, UnreadableModel
from fetafix.formats.onnx.scan import Facts

_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : (.*)", re.DOTALL)
_NODE = re.compile(r"while running (\S+) node\. Name:'([^']*)' Status Message: (.*)", re.DOTALL)
_SOURCE = re.compile(r"^/\S+:\d+ .*?\) ", re.DOTALL)
_UNKNOWN_OP = re.compile(r"(?:error: |Op registered for )([\w.:]+?)(?:\(-?\d+\))?(?: is not a registered| with domain)")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'")
_OPSET = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", re.DOTALL)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_MEMORY = re.compile(r"bad_alloc|Failed to allocate memory|BFCArena|Out of memory|MemoryError", re.IGNORECASE)
_LIMIT = 600


def _text(error: BaseException) -> str:
    match = _STATUS.match(str(error))
    return (match.group(2) if match else f"{type(error).__name__}: {error}").strip()


def _short(text: str) -> str:
    text = " ".join(_SOURCE.sub("", text).split())
    return text if len(text) <= _LIMIT else text[:_LIMIT] + " …"


def explain_run(path: Path, error: BaseException) -> str:
    """One sentence about a run that failed: the node where it is known, and the runtime's words."""
    text = _text(error)
    memory = "; likely out of memory: try a smaller batch" if _MEMORY.search(str(error)) else ""
    node = _NODE.search(text)
    if node:
        op, name, status = node.groups()
        where = f"node {name!r} ({op})" if name else f"a {op} node without a name"
        return f"{path}: onnxruntime failed at {where}: {_short(status)}{memory}"
    return f"{path}: onnxruntime failed: {_short(text)}{memory}"


def explain_open(path: Path, error: BaseException, facts: Facts | None) -> tuple[type[ModelError], str]:
    """Class and text of the error for a session that could not be made."""
    text = _text(error)
    for explain in (_custom_operator, _no_kernel, _newer_opset, _newer_ir):
        reason = explain(text, facts)
        if reason:
            return RuntimeCrash, f"{path}: {reason}"
    if "Protobuf parsing failed" in text:
        return UnreadableModel, f"{path}: this is an ONNX file, but its content is damaged; copy or download it again"
    if _MEMORY.search(str(error)):
        return RuntimeCrash, f"{path}: onnxruntime could not load the model, likely out of memory: {_short(text)}"
    opset = facts.opsets.get("", 7) if facts else 7
    old = f" (opset {opset}; onnxruntime promises support from opset 7 on)" if opset < 7 else ""
    return RuntimeCrash, f"{path}: onnxruntime cannot load the model{old}: {_short(text)}"


def _custom_operator(text: str, facts: Facts | None) -> str | None:
    match = _UNKNOWN_OP.search(text)
    if not match:
        return None
    domain, _, op = match.group(1).rpartition(":")
    if not domain and facts:
        domain = next((d for d, o in sorted(facts.ops) if o == op), "")
    where = f"of domain {domain!r}" if domain else "in ONNX's own domain"
    return (
        f"operator {op!r} {where} is neither known to onnxruntime nor defined by a function in the file. "
        "It needs a custom operator library, which fetafix does not load; export the model with standard operators"
    )


def _no_kernel(text: str, facts: Facts | None) -> str | None:
    match = _NO_KERNEL.search(text)
    if not match:
        return None
    op, version, name = match.groups()
    opset = facts.opsets.get("", 7) if facts else 7
    hint = f"; its opset {opset} is older than onnxruntime supports (7): convert it with onnx.version_converter"
    return (
        f"onnxruntime has no CPU kernel for operator {op} (version {version}, node {name!r}) "
        f"with the dtypes that this model uses{hint if opset < 7 else '; convert the model to float32 or float16'}"
    )


def _newer_opset(text: str, facts: Facts | None) -> str | None:
    match = _OPSET.search(text)
    if not match:
        return None
    found, domain, newest = match.groups()
    return (
        f"the model uses opset {found} of {domain}, the installed onnxruntime supports it up to {newest}; "
        "update onnxruntime or export with an older opset"
    )


def _newer_ir(text: str, facts: Facts | None) -> str | None:
    match = _IR.search(text)
    if not match:
        return None
    return (
        f"the model has IR version {match.group(1)}, the installed onnxruntime reads up to {match.group(2)}; "
        "update onnxruntime or save it with an older IR version"
    )
