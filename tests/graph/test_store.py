"""Activations are held within the budget and come back as they were."""

from __future__ import annotations

import numpy as np

from fetafix.graph.store import ActivationStore


def test_what_exceeds_the_budget_is_spilled_and_unchanged() -> None:
    rng = np.random.default_rng(0)
    values = {str(i): rng.standard_normal((64, 1024)).astype(np.float32) for i in range(5)}
    with ActivationStore(budget=600_000) as store:
        for name, value in values.items():
            store.put(name, value)
        spilled = [n for n in values if isinstance(store[n], np.memmap)]
        assert len(spilled) == 3
        assert all(np.array_equal(store[n], v) for n, v in values.items())
        assert "0" in store
        assert store.get("none") is None
        store.drop("0")
        assert "0" not in store


def test_small_tensors_stay_in_memory_and_shapes_and_types_survive() -> None:
    with ActivationStore(budget=0) as store:
        store.put("scalar", np.float32(3.0).reshape(()))
        store.put("ids", np.arange(40000, dtype=np.int64).reshape(2, -1))
        assert store["scalar"].shape == ()
        assert store["ids"].dtype == np.int64
        assert np.array_equal(store["ids"].ravel(), np.arange(40000))
