"""Imports without what is merely looked for: hidden while it lasts, there again afterwards."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys

import pytest

from fetafix.formats.importing import quickly


def test_packages_seem_missing_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with quickly(without=("colorsys", "json")):
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
        assert importlib.import_module("json") is sys.modules["json"], "somebody has it already"
        assert not gc.isenabled()
    assert gc.isenabled() and "colorsys" not in sys.modules
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_an_import_that_fails_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    gc.disable()
    try:
        with pytest.raises(KeyError), quickly(without=("colorsys",)):
            raise KeyError
        assert not gc.isenabled() and "colorsys" not in sys.modules
    finally:
        gc.enable()


def test_tensorflow_comes_alone_and_keras_works_without_them() -> None:
    """In a process of its own, with the packages of plots and of the demonstration installed."""
    script = """
import sys
from fetafix.formats.tensorflow import env
env.prepare(threads=1)
assert "keras" in sys.modules and not {"sklearn", "matplotlib"} & set(sys.modules), "imported, or still hidden"
import keras, matplotlib, sklearn
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
assert model(keras.ops.ones((1, 3))).shape == (1, 2)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
