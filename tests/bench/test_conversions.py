"""The conversion matrix: what is planned, measured, resumed and shown."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fetafix.bench import lines
from fetafix.bench.conversion_rows import Row, markdown, summary
from fetafix.bench.conversions import MODELS, PAIRS, RESULTS, Plan, conversions, keys, pairs_of
from fetafix.errors import UsageError
from tests.commands import invoke

ROW = Row(model="m", source="torch", target="onnx", preprocessing="source", status="equivalent", before=0.0)


def test_every_ordered_pair() -> None:
    assert len(PAIRS) == 20 and len(set(PAIRS)) == 20 and all(a != b for a, b in PAIRS)
    assert pairs_of("*:*") == PAIRS and pairs_of("torch:onnx, torch:*")[0] == ("torch", "onnx")
    assert len(pairs_of("torch:onnx,torch:*")) == 4


@pytest.mark.parametrize("text", ["torch", "torch:caffe", "torch:torch", ""])
def test_a_pair_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="expected pairs"):
        pairs_of(text)


def test_what_is_unavailable_is_no_success() -> None:
    rows = [ROW, Row(model="m", source="torch", target="tflite", preprocessing="source", status="unavailable")]
    assert summary(rows) == "1 conversions: 1 equivalent; 1 unavailable, and not counted."
    assert "| m | PyTorch | TFLite | none | unavailable |" in markdown(rows)


def test_a_cut_off_line_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / RESULTS
    lines.append(path, ROW)
    with path.open("ab") as file:
        file.write(b'{"model": "m", "sou')
    assert lines.read(path, Row) == [ROW]


def test_the_table_has_the_plans_order_whoever_was_first() -> None:
    plan = Plan(folder=Path("out"), models=("digits", "MobileNetV2"), pairs=(("torch", "onnx"), ("torch", "keras")))
    rows = [Row(model=k[0], source=k[1], target=k[2], preprocessing=k[3], samples=k[4], size=k[5], seed=k[6], status="")
            for k in keys(plan)]  # type: ignore[arg-type]
    assert [(r.model, r.target, r.preprocessing) for r in rows] == [
        ("digits", "onnx", "source"), ("digits", "keras", "source"), ("MobileNetV2", "onnx", "source"),
        ("MobileNetV2", "keras", "source"), ("MobileNetV2", "keras", "target")]
    stranger = msgspec.structs.replace(rows[0], seed=9)
    assert lines.in_order([stranger, *reversed(rows)], keys(plan)) == [*rows, stranger]


def test_digits_from_torch_to_onnx_and_again(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path / "out", models=("digits",), pairs=(("torch", "onnx"),), samples=24)
    said: list[str] = []
    rows = list(conversions(plan, say=said.append))
    assert [(r.status, r.before, r.findings) for r in rows] == [("equivalent", 0.0, [])]
    assert "torch.onnx" in rows[0].route
    assert said == ["digits: making torch.pt2", "digits: PyTorch → ONNX"]
    assert sorted(p.name for p in plan.folder.rglob("*") if p.is_file()) == [RESULTS, "samples.npy", "torch.pt2"]
    with pytest.raises(UsageError, match="--resume"):
        next(conversions(plan))
    said.clear()
    assert list(conversions(plan, resume=True, say=said.append)) == rows and said == []


def test_what_is_not_known_is_refused_before_the_work(tmp_path: Path) -> None:
    done = invoke(tmp_path, "bench", "conversions", "out", "--models", "VGG16")
    assert done.code == 2 and all(m in done.text for m in MODELS) and not (tmp_path / "out").exists()
    done = invoke(tmp_path, "bench", "conversions", "out", "--pairs", "torch:caffe")
    assert done.code == 2 and "saved_model" in done.text and not (tmp_path / "out").exists()
