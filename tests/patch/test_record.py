"""The file of a patch: written whole, read strictly, refused where it is not what was written."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix.edit_data import ArrayStore
from fetafix.edits import InsertNode, SetInput, prune
from fetafix.errors import OutputError, UsageError
from fetafix.graph.structure import outline, unlike
from fetafix.ir import Node
from fetafix.patch.record import edits_of, load, outline_of, save
from fetafix.plan import entry
from tests.patch.conversions import broken, network, nodes, patched

Members = dict[str, bytes]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    patch, store = patched()
    save(patch, tmp_path / "fix.patch", store)
    return tmp_path / "fix.patch"


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def rewritten(path: Path, change: Callable[[Members], None]) -> Path:
    found = members(path)
    change(found)
    with zipfile.ZipFile(path, "w") as archive:
        for name, blob in found.items():
            archive.writestr(name, blob)
    return path


def set_json(found: Members, **changes: Any) -> None:
    """Change the record and its sum, as somebody does who knows the format."""
    found["patch.json"] = json.dumps({**json.loads(found["patch.json"]), **changes}).encode()
    found["sha256"] = hashlib.sha256(found["patch.json"]).hexdigest().encode()


def test_a_patch_comes_back(file: Path) -> None:
    graph = network()
    patch, store = load(file)
    assert [e.code for e in patch.entries] == ["fault-1", "fault-2", "fault-3", "fault-4"]
    assert (patch.seed, patch.approved_by, patch.format, patch.irrevocable) == (3, "Ada", "onnx", "")
    assert patch.target.path == "tgt.onnx"  # no folder of the machine that made it
    for side, whole in ((patch.before, broken(graph)), (patch.after, graph)):
        assert unlike(outline_of(side, store), outline(prune(whole))) == ""
    weight = next(e for p in patch.entries for e in edits_of(p.edits, store) if isinstance(e, SetInput))
    kernel = graph.constant(graph.node(nodes(graph, "Conv")[1]), 1)
    assert weight.value is not None and kernel is not None and weight.value.tobytes() == kernel.tobytes()


def test_weights_that_no_edit_touches_are_not_in_the_file(file: Path) -> None:
    sizes = {len(v) for k, v in members(file).items() if k.startswith("arrays/")}
    assert sizes == {8 * 8 * 3 * 3 * 4}
    assert len(members(file)) == 2 + 2  # the kernel as it was and as it should be


def test_the_same_patch_is_the_same_bytes(file: Path, tmp_path: Path) -> None:
    patch, store = patched()
    save(patch, tmp_path / "again.patch", store)
    assert (tmp_path / "again.patch").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: m.update({"patch.json": m["patch.json"].replace(b"fault-1", b"fault-9")}), "damaged or changed"),
    (lambda m: m.pop("sha256"), "lacks patch.json or its sum"),
    (lambda m: m.update({"evil.py": b"x"}), "holds 'evil.py'"),
    (lambda m: set_json(m, patch_version=2), "of version 2; this fetafix reads version 1"),
    (lambda m: set_json(m, entries=[{"code": "x"}]), "no patch of fetafix"),
    (lambda m: set_json(m, more=1), "no patch of fetafix"),
    (lambda m: set_json(m, before={"graph": {"nodes": 3}, "constants": []}), "no graph"),
    (lambda m: set_json(m, undo=[[{"kind": "run_program"}]]), "unknown kind of edit"),
    (lambda m: m.update({"patch.json": b"[1", "sha256": hashlib.sha256(b"[1").hexdigest().encode()}), "no patch"),
    (lambda m: m.update({n: b"\0" * 2304 for n in m if n.startswith("arrays/")}), "changed or damaged"),
    (lambda m: [m.pop(n) for n in list(m) if n.startswith("arrays/")], "is missing"),
])
def test_what_was_tampered_with_is_refused(file: Path, change: Callable[[Members], None], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(rewritten(file, change))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 truncated", pickle.dumps({"a": 1})])
def test_a_foreign_file_is_no_patch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(UsageError, match="no patch of fetafix"):
        load(tmp_path / "foreign")


def test_every_cut_and_every_flipped_byte_is_an_error_that_teaches(file: Path, tmp_path: Path) -> None:
    """Or nothing at all, where the byte belongs to the zip's own bookkeeping."""
    whole = file.read_bytes()
    bad = tmp_path / "bad.patch"
    rng = np.random.default_rng(0)
    for place in (*rng.integers(0, len(whole), 60), -1):
        damaged = bytearray(whole[: int(place)] if place % 2 else whole)
        if not place % 2:
            damaged[int(place)] ^= 0x55
        bad.write_bytes(bytes(damaged))
        try:
            patch, store = load(bad)
        except UsageError as error:
            assert str(bad) in str(error)
        else:
            assert (patch, store.blobs) == (load(file)[0], load(file)[1].blobs)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "nowhere.patch")


def test_only_a_patch_is_replaced(file: Path, tmp_path: Path) -> None:
    patch, store = patched()
    save(patch, file, store)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no patch"):
        save(patch, tmp_path / "notes.txt", store)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_cannot_be_taken_back_says_so() -> None:
    graph = network()
    relu = nodes(graph, "Relu")[0]
    unread = (InsertNode(relu, Node("Tanh", (relu,), ("t",)), consumers=()),)
    patch, _ = patched(graph, [(entry("odd", unread, ArrayStore()), unread)])
    assert patch.undo == [] and "read by nothing" in patch.irrevocable
