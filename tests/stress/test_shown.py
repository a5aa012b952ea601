"""What `fetafix stress` shows besides numbers: plots, the page, predictions; from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.stress.record import from_json
from tests.commands import Done, invoke
from tests.small_models import cnn


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("shown")
    cnn(folder / "net.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).random((24, 3, 16, 16), np.float32))
    done = invoke(folder, "stress", "net.onnx", "--data", "x.npy", "--ber", "1e-4,1e-2", "--dtype", "fp32", "--scheme",
                  "none,guard", "--trials", 4, "--plots", "plots", "--html", "r.html", "--json", "r.json", "--jobs", 1)
    assert done.code == 0, done.text
    return folder, done


def test_plots_and_the_page_are_written(ran: tuple[Path, Done]) -> None:
    folder, _ = ran
    names = {p.name for p in (folder / "plots").iterdir()}
    assert {"accuracy.png", "accuracy.svg", "survival.svg", "bits.png", "layers-1.svg", "layers-2.svg"} <= names
    page = (folder / "r.html").read_text("utf-8")
    report = from_json((folder / "r.json").read_bytes())
    assert report.verdict.split(";")[0][:40] in page and page.count("<svg") == len(names) // 2


def test_the_prediction_stands_beside_the_measurement(ran: tuple[Path, Done]) -> None:
    folder, done = ran
    report = from_json((folder / "r.json").read_bytes())
    assert [[p.ber for p in s.predictions] for s in report.subjects] == [[1e-4, 1e-2]] * 2
    plain, guarded = report.subjects
    assert plain.predictions[1].wrecked > 1 > guarded.predictions[1].wrecked == 0.0
    assert [b.bit for b in plain.bits] == list(range(32)) and [r.tensor for r in plain.layers] == ["w1", "w2"]
    assert f"prediction beside measurement: {guarded.name}" in done.text and "net.onnx fp32 none" in done.text
    assert done.text.count("DISAGREES") == sum(bool(p.why) for s in report.subjects for p in s.predictions)


def test_without_matplotlib_the_work_does_not_even_begin(
    ran: tuple[Path, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    done = invoke(ran[0], "stress", "net.onnx", "--data", "x.npy", "--plots", tmp_path / "p")
    assert done.code == 2 and "pip install 'fetafix[plots]'" in done.text and not (tmp_path / "p").exists()
