from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fetafix.errors import OutputError
from fetafix.report import ModelInfo, TensorInfo
from fetafix.run_store import Run, RunStore, default_folder, prepared

KEY, OTHER = "ab" + "0" * 62, "cd" + "0" * 62
VALUES = {
    "scores": np.arange(12, dtype=np.float32).reshape(3, 4), "half": np.ones((3, 2), ml_dtypes.bfloat16),
    "codes": np.arange(3, dtype=np.int8), "none": np.empty((3, 0), np.float64), "one": np.array(2.5),
    "yes": np.array([True, False]),
}  # fmt: skip


def entry(store: RunStore, key: str = KEY) -> Path:
    return store.folder / key[:2] / key


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    info = ModelInfo(path="", format="onnx", outputs=[TensorInfo(name="y", dtype="float32", shape=["N", 10, None])])
    RunStore(tmp_path).put(KEY, Run(VALUES, info))
    known = RunStore(tmp_path).get(KEY)
    assert known is not None and known.info == info and list(known.outputs) == list(VALUES)
    for name, value in VALUES.items():
        assert known.outputs[name].dtype == value.dtype
        np.testing.assert_array_equal(known.outputs[name], value)
    assert RunStore(tmp_path).get(OTHER) is None


@pytest.mark.parametrize("damage", [
    lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:], lambda b: b"",
    lambda b: b"\0" + b, lambda b: b.replace(b'"version":1', b'"version":9'),
])
def test_a_damaged_entry_counts_as_missing_and_is_written_anew(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    store = RunStore(tmp_path)
    store.put(KEY, Run({"y": VALUES["scores"]}))
    path = entry(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(KEY) is None
    store.put(KEY, Run({"y": VALUES["scores"]}))
    assert store.get(KEY) is not None


def test_a_store_that_may_only_be_read_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    store = RunStore(tmp_path)
    store.put(KEY, Run({"y": VALUES["scores"]}))
    monkeypatch.setattr(os, "utime", refuse)
    assert store.get(KEY) is not None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = RunStore(tmp_path, most=5000)
    keys = [f"{n:02d}" + "0" * 62 for n in range(6)]
    for n, key in enumerate(keys):
        store.put(key, Run({"y": np.zeros(1000, np.uint8)}))
        os.utime(entry(store, key), (n, n))
    assert store.get(keys[0]) is not None  # which makes it the latest
    store.trim()
    assert [k for k in keys if store.get(k) is not None] == [keys[0], *keys[-3:]]
    assert sum(p.stat().st_size for p in store.folder.rglob("*") if p.is_file()) <= 5000


def test_what_is_too_large_or_no_number_is_not_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path, most=4000)
    store.put(KEY, Run({"y": np.zeros(2000, np.uint8)}))
    store.put(OTHER, Run({"y": np.array(["a", "b"], dtype=object)}))
    assert store.get(KEY) is None and store.get(OTHER) is None


def test_a_folder_that_cannot_be_written_fails_nothing_but_is_told_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    RunStore(tmp_path / "file").put(KEY, Run(VALUES))
    with pytest.raises(OutputError, match="--no-cache"):
        prepared(tmp_path / "file" / "inside")


def test_the_folder_is_marked_as_a_cache(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "new" / "cache")
    assert (folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert prepared(folder) == folder


def test_where_runs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("FETAFIX_CACHE", raising=False)
    assert default_folder() == Path("/somewhere/fetafix")
    monkeypatch.setenv("FETAFIX_CACHE", "/mine")
    assert default_folder() == Path("/mine")
