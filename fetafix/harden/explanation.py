"""What protects a file, against what, and whether it still does: told from the file itself."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fetafix import formats
from fetafix.errors import FetafixError
from fetafix.formats import stored as stored_tensors
from fetafix.harden import words
from fetafix.harden.files import beside
from fetafix.harden.report import Explained
from fetafix.storage import index, secded, sidecar
from fetafix.storage.holding import Held

TORCH = ("torch-state-dict", "safetensors")
_PLAIN = "its weights are read as they are stored, and no sidecar lies beside it"


def explain(path: str | Path) -> Explained:
    """The protection of a file. Raises UnreadableModel where it or its sidecar cannot be read."""
    path = Path(path)
    if beside(path, sidecar.SUFFIX).exists():
        return _checks(path)
    if beside(path, index.SUFFIX).exists():
        return _words(path)
    name = formats.recognise(path)
    if name == "onnx":
        return _graph(path)
    if name in TORCH:
        return _state(path, name)
    if name == "tflite":
        from fetafix.formats.tflite.protect import readings

        found = readings(path)
        if found:
            kinds = Counter("scale, stored as int8, a scale a channel, read by DEQUANTIZE" for _ in found)
            return Explained(path=str(path), format=name, state="protected", schemes=list(kinds.items()),
                             reason=f"{len(found)} weights are stored as int8 with a scale a channel",
                             threats=[words.AT_REST, words.TFLITE, words.GRAPH, words.BETTER])
    return Explained(path=str(path), format=name, state="plain", reason=_PLAIN)


def _graph(path: Path) -> Explained:
    import onnx

    from fetafix.formats.onnx.protected import Reading, mark, recognise, voted

    model = onnx.load(str(path), load_external_data=False)
    found, noted = recognise(model, path.parent), mark(model)

    def kind(r: Reading) -> str:
        each = "tensor" if r.form.axis is None else "channel"
        voted = "three copies of each constant" if r.voted else "constants stored once: one flip can ruin a channel"
        return f"{r.scheme}, stored as {r.dtype.name}, a constant a {each}, {voted}"

    constants = voted(model, path.parent)
    state, reason = _state_of(len(found), noted, path)
    schemes = list(Counter(kind(r) for r in found).items())
    if constants:
        schemes.append(("constants of the model (biases, scales) in three copies", len(constants)))
        if not found and not _wanted(noted):
            state, reason = "protected", f"{len(constants)} constants of the model are read by majority"
    notes = [f"marked as {noted}"] if noted else []
    threats = [words.AT_REST, words.FOLDED, words.SAVED, words.GRAPH, words.BETTER] if schemes else []
    return Explained(path=str(path), format="onnx", state=state, reason=reason, threats=threats, notes=notes,
                     schemes=schemes)


def _state_of(found: int, noted: str, path: Path) -> tuple[str, str]:
    wanted = _wanted(noted)
    if found and found >= wanted:
        return "protected", f"{found} weights are read through a protection"
    if found:
        return "partly", f"{found} weights are read through a protection, {wanted} were when it was hardened: an " \
                         "optimiser has folded the others; harden the original again"
    if noted:
        return "stripped", (f"{path.name} was hardened once, as its metadata say, but its weights are plain again: an "
                            "optimiser has folded the protection away; ship the hardened file itself, or harden this")
    return "plain", f"{_PLAIN}; nor do its metadata say that it was hardened once"


def _wanted(noted: str) -> int:
    try:
        return int(json.loads(noted).get("tensors", 0)) if noted else 0
    except (ValueError, AttributeError, TypeError):
        return 0


def _state(path: Path, name: str) -> Explained:
    from fetafix.formats.torch import protect as torch_protect

    found, marked = torch_protect.recognise(path), torch_protect.marked(path)
    kinds: Counter[str] = Counter()
    for r in found:
        kind = " and ".join(k for k, c in (("scale", r.form.factor), ("guard", r.form.bound)) if c is not None)
        each = "tensor" if r.form.axis is None else "channel"
        kinds[f"{kind}, stored as {r.dtype.name}, a constant a {each}, three copies of each constant"] += 1
    if not found:
        state, reason = ("stripped", "marked as hardened, but no weight has constants beside it") if marked else (
            "plain", _PLAIN)
        return Explained(path=str(path), format=name, state=state, reason=reason)
    return Explained(path=str(path), format=name, state="protected", schemes=list(kinds.items()),
                     reason=f"{len(found)} weights are stored protected",
                     threats=[words.AT_REST, words.LOADED, words.GRAPH, words.BETTER],
                     loader=torch_protect.LOADER.replace("FILE", path.name))


def _words(path: Path) -> Explained:
    entries, corrected, detected = index.read(beside(path, index.SUFFIX)), 0, 0
    for entry in entries:
        file = path.parent / entry["file"] if "file" in entry else path
        pieces: Any = tuple((int(a), int(b)) for a, b in entry["pieces"])
        held = Held(entry["name"], "weight", np.dtype("<f4"), tuple(entry["shape"]), file, pieces)
        found = secded.decode(stored_tensors.read(held).view(np.uint32))
        corrected, detected = corrected + found.corrected, detected + found.detected
    struck = f"now {corrected} words have one flip, {detected} have two" if corrected + detected else "none is struck"
    return Explained(
        path=str(path), format=_named(path), state="protected", schemes=[("secded in place", len(entries))],
        reason=f"{len(entries)} weights hold a SECDED(32, 26) code in each float32 word; {struck}",
        threats=[words.CODED, words.UNREAD, words.GRAPH, words.BETTER], loader=words.secded_loader(path))


def _checks(path: Path) -> Explained:
    known = sidecar.header(beside(path, sidecar.SUFFIX))
    whole = hashlib.sha256(path.read_bytes()).digest() == known.sha256
    return Explained(
        path=str(path), format=_named(path), state="protected",
        schemes=[(f"Reed-Solomon RS(255, {255 - known.checks}), the whole file", 1)],
        reason=f"{beside(path, sidecar.SUFFIX).name} restores the file bit by bit, up to {known.checks // 2} wrong "
               f"bytes of 255; {'the file is as it was' if whole else 'the file is struck now: restore it'}",
        threats=[words.RESTORED, words.UNREAD], loader=words.rs_loader(path))


def _named(path: Path) -> str:
    try:
        return formats.recognise(path)
    except FetafixError:
        return "unknown"
