"""The tables that integer inputs index, read from a file's tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fetafix.drawing import vocabularies as common
from fetafix.formats.onnx.vocabulary import vocabularies
from fetafix.judge.binding import Binding, Bindings
from fetafix.report import ModelInfo


def _file(path: Path, rows: int = 300, axis: int = 0, through: str = "Cast") -> Path:
    table = numpy_helper.from_array(np.zeros((rows, 4) if axis == 0 else (4, rows), np.float32), "table")
    small = numpy_helper.from_array(np.zeros((2, 4), np.float32), "kinds")
    attrs = {"to": TensorProto.INT64} if through == "Cast" else {}
    nodes = [
        helper.make_node(through, ["ids"], ["cast"], **attrs),
        helper.make_node("Gather", ["table", "cast"], ["words"], axis=axis),
        helper.make_node("Gather", ["kinds", "types"], ["parts"]),
        helper.make_node("Identity", ["length"], ["count"]),
    ]
    ints = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, 5]) for n in ("ids", "types", "length")]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("words", "parts", "count")]
    graph = helper.make_graph(nodes, "g", ints, outs, [table, small])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


@pytest.mark.parametrize("through", ["Cast", "Identity"])
def test_tables_behind_inputs(tmp_path: Path, through: str) -> None:
    path = _file(tmp_path / "m.onnx", through=through)
    assert vocabularies(path, ["ids", "types", "length"]) == {"ids": 300, "types": 2}


def test_a_table_along_another_axis_is_no_vocabulary(tmp_path: Path) -> None:
    assert vocabularies(_file(tmp_path / "m.onnx", axis=1), ["ids"]) == {}


def test_what_is_no_onnx_has_none(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"\x3a\xff\xff")
    assert vocabularies(tmp_path / "m", ["ids"]) == {}
    assert vocabularies(tmp_path / "m", []) == {}


def test_the_smaller_of_both_models_tables_counts() -> None:
    infos = [ModelInfo(path="", format="onnx", details={"vocabulary": v}) for v in ({"a": 30, "b": 7}, {"x": 20})]
    bindings = Bindings((Binding("a", "x", "by order"), Binding("b", "y", "by order")), ())
    assert common(*infos, bindings) == {"a": 20, "b": 7}
