"""Labels of class folders and files, top-1 answers, and the words for what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import InputDataError, UsageError
from fetafix.stress.answers import NONE, head, top1
from fetafix.stress.labels import of_file, of_folders
from fetafix.stress.options import Storing, StressOptions, share, storing

NAMES = ["cat/1.png", "cat/2.png", "dog/1.png", "emu/9.png"]


def test_class_folders() -> None:
    found = of_folders(NAMES, 3, "data")
    assert found is not None and found.values.tolist() == [0, 0, 1, 2] and "3 class folders" in found.origin
    assert of_folders(NAMES, 10, "data") is None, "which three of ten they are is not known"
    numbers = of_folders(["7/a.png", "03/b.png"], 10, "data")
    assert numbers is not None and numbers.values.tolist() == [7, 3]
    assert of_folders(["7/a.png", "03/b.png"], 5, "data") is None
    assert of_folders(["a.png", "b.png"], 1, "data") is None and of_folders(["x/a.png", "x/b.png"], 1, "data") is None


def test_label_files(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([[1], [2], [0], [2]], np.uint8))
    (tmp_path / "l.txt").write_text("1\n2\n0\n2\n")
    (tmp_path / "l.csv").write_text("name,label\ndog/1.png,0\ncat/1.png,1\ncat/2.png,2\n9.png,2\n")
    for name in ("l.npy", "l.txt"):
        assert of_file(tmp_path / name, None, 4).values.tolist() == [1, 2, 0, 2]
    assert of_file(tmp_path / "l.csv", NAMES, 4).values.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize(("content", "words"), [
    ("1\n2\n", "expected 4 lines.*found 2"), ("cat/1.png,1\n", "no label for 3 of 4"),
    ("1.png,1\n2.png,0\n9.png,0\n", "'cat/1.png' and 'dog/1.png'"), ("a,b\nc,d\n", "expected lines"),
    ("-1\n0\n0\n0\n", "found -1"), ("cat/1.png,1\ndog\n", "found 'dog'"), ("", "expected lines"),
])
def test_what_is_wrong_with_labels(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(InputDataError, match=words):
        of_file(tmp_path / "l.csv", NAMES, 4)


def test_other_files_are_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros(4, np.float32))
    (tmp_path / "l.bin").write_bytes(b"\xff\xfe\x00")
    for name, words in (("l.npy", "whole numbers"), ("l.bin", r"\.npy, \.txt"), ("none", "no such file")):
        with pytest.raises(InputDataError, match=words):
            of_file(tmp_path / name, NAMES, 4)
    (tmp_path / "l.csv").write_text("a,1\n")
    with pytest.raises(InputDataError, match="the data has none"):
        of_file(tmp_path / "l.csv", None, 4)


def test_answers() -> None:
    scores = np.array([[0.1, 0.9], [np.nan, 5.0], [np.inf, 1.0], [-np.inf, -1.0]], np.float32)
    assert top1(scores).tolist() == [1, NONE, 0, 1]
    assert top1(scores[:, :, None, None]).tolist() == [1, NONE, 0, 1]
    assert top1(np.array([[3, 200]], np.uint8)).tolist() == [1]
    with pytest.raises(ValueError, match="scores"):
        top1(np.zeros((2, 3, 4)))


def test_the_output_of_scores() -> None:
    outputs = {"mask": np.zeros((2, 3, 4)), "scores": np.zeros((2, 5)), "more": np.zeros((2, 7))}
    assert head(outputs, Path("m")) == "scores" and head(outputs, Path("m"), "more") == "more"
    for wanted, words in (("mask", "class scores"), ("none", "outputs are mask")):
        with pytest.raises(UsageError, match=words):
            head(outputs, Path("m"), wanted)


def test_drops() -> None:
    assert share("1pt") == share("1%") == share("0.01") == share("1 points") == 0.01 and share("0") == 0.0
    for wrong in ("x", "-1pt", "100pt", "1"):
        with pytest.raises(UsageError):
            share(wrong)


def test_options_refuse_what_makes_no_sense() -> None:
    for wrong in ({"ber": "x"}, {"trials": "0"}, {"trials": "many"}, {"survival": 1.0}, {"dtypes": ("q9.99",)},
                  {"schemes": ("magic",)}, {"schemes": ("guard",)}, {"dtypes": ("fp16",), "schemes": ("secded",)},
                  {"samples": 0}, {"scope": "all"}):
        with pytest.raises(UsageError):
            StressOptions(**wrong)
    several = StressOptions(dtypes=("keep", "fp16"), schemes=("none", "guard", "secded"))
    assert several.storings == (Storing(), storing("fp16", "none"), storing("fp16", "guard"))
    beside = StressOptions(dtypes=("keep", "q2.5"), schemes=("rs",)).storings
    assert [(s.dtype, s.scheme, s.checks) for s in beside] == [("keep", "rs", 16), ("q2.5", "rs", 16)]
    assert StressOptions(trials="auto:5").rule.most == 5 and StressOptions(trials="7").rule.fixed == 7
