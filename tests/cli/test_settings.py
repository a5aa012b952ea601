"""Command line and fetafix.yaml become one request; the command line wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from fetafix.cli.settings import request
from fetafix.errors import ConfigError

YAML = """\
source: {model: a.onnx, preprocess: torchvision}
target: {model: b.pt, arch: nets:make}
data: images
samples: 50
seed: 4
gate: numeric
tolerance: {probs: {max_abs: 0.5}}
accept: [{code: lh-dilation, reason: known}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(**some: Any) -> dict[str, Any]:
    names = ("source", "target", "config", "pair", "trust", "arch", "source_arch", "target_arch", "data", "samples",
             "seed", "rounds", "batch", "threads", "preprocess", "source_preprocess", "target_preprocess", "gate",
             "max_mismatch", "confidence")
    return {**dict.fromkeys(names), **some}


def test_only_what_was_given_is_passed_on() -> None:
    wanted = request(given(source="a", target="b"))
    assert (wanted.source, wanted.target, wanted.options) == ("a", "b", {})


def test_both_sides_and_one() -> None:
    options = request(given(source="a", target="b", preprocess="raw", target_preprocess="unit", arch="m:f", trust=True,
                            seed=0)).options
    assert options == {"source_preprocess": "raw", "target_preprocess": "unit", "source_arch": "m:f",
                       "target_arch": "m:f", "trust": True, "seed": 0}


def test_the_file_here_serves_where_no_models_are_given(folder: Path) -> None:
    (folder / "fetafix.yaml").write_text(YAML)
    wanted = request(given())
    assert (wanted.source, wanted.target) == ("a.onnx", "b.pt")
    assert wanted.options["source_preprocess"] == "torchvision" and wanted.options["target_arch"] == "nets:make"
    assert (wanted.options["samples"], wanted.options["seed"], wanted.options["gate"]) == (50, 4, "numeric")
    assert wanted.options["tolerance"]["probs"].max_abs == 0.5 and wanted.options["accept"][0].code == "lh-dilation"


def test_the_command_line_wins(folder: Path) -> None:
    (folder / "other.yaml").write_text(YAML)
    wanted = request(given(source="x", target="y", config="other.yaml", samples=7, source_preprocess="raw"))
    assert (wanted.source, wanted.target) == ("x", "y")
    assert (wanted.options["samples"], wanted.options["seed"]) == (7, 4)
    assert wanted.options["source_preprocess"] == "raw"


def test_a_file_that_is_not_asked_for_is_not_read(folder: Path) -> None:
    (folder / "fetafix.yaml").write_text("nonsense: [")
    assert request(given(source="x", target="y")).options == {}


def test_one_model_is_too_few(folder: Path) -> None:
    with pytest.raises(click.UsageError, match="a source and a target"):
        request(given(source="x"))
    with pytest.raises(click.UsageError, match=r"there is no fetafix\.yaml here"):
        request(given())


def test_a_pair_that_does_not_exist(folder: Path) -> None:
    (folder / "fetafix.yaml").write_text(YAML)
    with pytest.raises(ConfigError, match="no pair 'x'"):
        request(given(pair="x"))
