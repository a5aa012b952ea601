"""fetafix.yaml is read strictly, and what is wrong in it is said with its line."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from fetafix.config import Config, Model, load
from fetafix.errors import ConfigError

FULL = """\
pairs:
  - name: mobilenet
    source: {model: a.onnx, preprocess: torchvision}
    target:
      model: sub/b.pt
      preprocess: {scale: 255, mean: [0.5, 0.5, 0.5]}
      arch: nets:make
    trust: true
    data: images/
    samples: 50
    seed: 4
    gate: numeric
    tolerance: {probs: {max_abs: 1e-3}}
    accept:
      - {code: lh-dilation, target_layer: Conv_3, reason: known, until: 2027-01-01}
  - name: small
    source: c.onnx
    target: d.onnx
    data: loaders:digits
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fetafix.yaml"
    path.write_text(text)
    return path


def read(tmp_path: Path, text: str) -> Config:
    return load(write(tmp_path, text))


def test_every_key(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    pair = config.pair("mobilenet")
    source, target = pair.models()
    assert source == Model(model=str(tmp_path / "a.onnx"), preprocess="torchvision")
    assert target.model == str(tmp_path / "sub/b.pt") and target.arch == "nets:make" and pair.trust
    assert target.preprocess == {"scale": 255, "mean": [0.5, 0.5, 0.5]}
    assert (pair.samples, pair.seed, pair.gate, pair.data) == (50, 4, "numeric", str(tmp_path / "images"))
    assert pair.tolerance["probs"].max_abs == 1e-3
    assert pair.accept[0].until == datetime.date(2027, 1, 1)


def test_bare_paths_and_loaders(tmp_path: Path) -> None:
    pair = read(tmp_path, FULL).pair("small")
    source, _ = pair.models()
    assert source.model == str(tmp_path / "c.onnx") and pair.data == "loaders:digits"


def test_one_pair_at_the_top(tmp_path: Path) -> None:
    pair = read(tmp_path, "source: a.onnx\ntarget: /abs/b.pt\npreprocess: raw\n").pair()
    source, target = pair.models()
    assert target.model == "/abs/b.pt" and source.preprocess == target.preprocess == "raw"


def test_several_pairs_want_a_name(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    with pytest.raises(ConfigError, match=r"2 pairs \(mobilenet, small\).*--pair"):
        config.pair()
    with pytest.raises(ConfigError, match="no pair 'big'; it has mobilenet, small"):
        config.pair("big")


@pytest.mark.parametrize(("text", "message"), [
    ("source: a\ntarget: b\nsmaples: 3\n", r"yaml, line 3: smaples: unknown key 'smaples'; did you mean 'samples'\?"),
    ("source: a\ntarget: b\nzzzzzz: 3\n", "known are pairs, source, target"),
    ("pairs:\n- source: a\n  target: {model: b, preproces: raw}\n", r"line 3: pairs\[0\]\.target\.preproces: .*'pre"),
    ("pairs:\n- source: a\n", r"line 2: pairs\[0\]: the key 'target' is missing"),
    ("source: a\ntarget: b\nsamples: many\n", "line 3: samples: expected `int.*`, got `str`"),
    ("source: a\ntarget: b\nsamples: 0\n", "line 3: samples: expected `int` >= 1"),
    ("source: a\ntarget: b\ngate: label\n", "line 3: gate: invalid enum value 'label'"),
    ("source: a\ntarget: b\nconfidence: 95\n", "line 3: confidence: expected `float` <= 1"),
    ("source: a\ntarget: b\nseed: 1\nseed: 2\n", "line 4: the key 'seed' was given already on line 3"),
    ("source: a\ntarget: [b\n", "line 3, column 1: expected ',' or ']'"),
    ("source: a\ntarget: b\naccept: [{code: x}]\n", r"accept\[0\]: the key 'reason' is missing"),
    ("source: a\ntarget: b\ntolerance: {y: {max_abz: 1}}\n", "did you mean 'max_abs'"),
    ("pairs: []\n", "line 1: pairs: expected `array` of length >= 1"),
    ("pairs: [{source: a, target: b, name: x}, {source: a, target: b, name: x}]\n", "2 pairs are called 'x'"),
    ("- a\n- b\n", "expected a mapping with source and target, or pairs; found a list"),
    ("", "found nothing"),
    ("source: !!python/object/apply:os.system ['echo x']\ntarget: b\n", "line 1.*could not determine a constructor"),
])
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_a_missing_file_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load(tmp_path / "nowhere.yaml")
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)
