"""The demonstration shows what it promises: real faults, found, mended and proved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.mark.slow
def test_the_whole_demonstration(demonstration: Path) -> None:
    reports = {p.stem: json.loads(p.read_text()) for p in demonstration.glob("*.json")}
    assert reports["check-before"]["verdict"] == "divergent" and reports["check-after"]["verdict"] == "equivalent"
    assert len({f["category"] for f in reports["localize"]["findings"]}) >= 3
    assert reports["repair"]["verdict"] == "repaired"
    assert "four causes were found and all of them mended" in (demonstration / "repair.html").read_text("utf-8")
    assert (demonstration / "digits-repaired.pt").is_file() and (demonstration / "journal.jsonl").is_file()
    assert (demonstration / "mine.txt").read_text() == "not the demonstration's"
    shown = demonstration.with_suffix(".txt").read_text()
    assert "$ fetafix repair" in shown and "no error was reported" in shown


def test_every_mishap_changes_answers(tmp_path: Path) -> None:
    import copy

    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    import onnx2torch

    from fetafix.demo import mishaps, network

    training, test = network.load_digits(1)
    net = network.train(training, 1)
    assert network.accuracy(net, test) >= 0.97
    network.export(net, tmp_path / "digits.onnx")
    converted = onnx2torch.convert(str(tmp_path / "digits.onnx")).eval()
    assert network.accuracy(converted, test) == network.accuracy(net, test)
    answers = network.scores(converted, test)
    for _, what, mishap in mishaps.MISHAPS:
        broken = copy.deepcopy(converted)
        mishap(broken)
        assert abs(network.scores(broken, test) - answers).max() > 0.1, what
    assert len({category for category, _, _ in mishaps.MISHAPS}) >= 3
