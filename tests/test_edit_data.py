"""Every edit survives the way to plain data and back, byte for byte."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.edit_data import ArrayStore, dtype_of, edit_from_data, edit_to_data
from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetInputShape,
    SetOperator,
    SetOutputs,
    SetPreprocessing,
)
from fetafix.errors import UsageError
from fetafix.ir import Body, Graph, Node, Value

DTYPES = [
    *map(np.dtype, ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64",
                    "complex64", ">f4")),
    *map(np.dtype, (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4)),
]
keys = st.text(max_size=12) | st.sampled_from(["/features/0/Conv", "$array", "x.1"])  # protobuf's names are UTF-8
names = keys | st.just("\udcff")  # attribute values need not be


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    size = int(np.prod(shape, dtype=int))
    if dtype.name in ("bool", "int4"):
        return np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), np.int8).astype(dtype).reshape(
            shape)
    raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    return np.frombuffer(raw, dtype).reshape(shape)


strings = st.lists(st.text(max_size=5), max_size=4).map(lambda v: np.array(v, object))
attributes = (
    st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=True) | st.text(max_size=8) | st.binary(max_size=8)
    | st.lists(st.integers(-9, 9), max_size=4).map(tuple) | st.lists(st.floats(), max_size=4).map(tuple)
    | st.lists(names, max_size=3).map(tuple) | arrays() | strings
    | st.builds(Body, st.binary(max_size=9), st.lists(names, max_size=2).map(tuple))
)
maps = st.dictionaries(keys, attributes, max_size=3)
tensors = st.dictionaries(keys, arrays(), max_size=2)
name_tuples = st.lists(names, max_size=3).map(tuple)
nodes = st.builds(Node, names, name_tuples, name_tuples, maps, names, names)
dims = st.lists(st.integers(0, 9) | names | st.none(), max_size=3).map(tuple)
values = st.builds(Value, names, st.sampled_from(DTYPES).map(lambda d: d.newbyteorder("=")), st.none() | dims)
graphs = st.builds(
    Graph, st.lists(nodes, max_size=2).map(tuple), tensors, st.lists(values, max_size=2).map(tuple),
    st.lists(values, max_size=2).map(tuple), st.dictionaries(keys, st.integers(1, 30), max_size=2),
    st.dictionaries(keys, dims, max_size=2),
)
slots = st.integers(0, 5)
STRATEGIES: dict[type, Any] = {
    SetAttribute: st.builds(SetAttribute, names, names, st.none() | attributes),
    SetInput: st.builds(SetInput, names, slots, st.none() | arrays()),
    Rewire: st.builds(Rewire, names, slots, names),
    SetOperator: st.builds(SetOperator, names, names, maps, st.none() | name_tuples, names, tensors),
    InsertNode: st.builds(InsertNode, names, nodes, tensors,
                          st.none() | st.lists(st.tuples(names, slots), max_size=2).map(tuple)),
    RemoveNode: st.builds(RemoveNode, names, slots),
    ReplaceSegment: st.builds(ReplaceSegment, names, graphs, st.dictionaries(keys, names, max_size=2)),
    SetOutputs: st.builds(SetOutputs, name_tuples),
    SetInputShape: st.builds(SetInputShape, names, dims),
    SetPreprocessing: st.builds(SetPreprocessing, maps, names),
}


def same(a: Any, b: Any) -> bool:
    """Deep equality that takes NaN for equal to itself and looks at dtypes and bytes of arrays."""
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return a.tolist() == b.tolist() and a.shape == b.shape
        wanted = a.astype(a.dtype.newbyteorder("="))
        return wanted.dtype == b.dtype and a.shape == b.shape and wanted.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def test_every_kind_of_edit_is_covered() -> None:
    assert set(STRATEGIES) == set(get_args(Edit))


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda k: k.__name__)
def test_round_trip_through_json(kind: type) -> None:
    @settings(max_examples=40, deadline=None)
    @given(STRATEGIES[kind])
    def check(edit: Any) -> None:
        store = ArrayStore()
        text = msgspec.json.encode(edit_to_data(edit, store))
        assert same(edit, edit_from_data(msgspec.json.decode(text), ArrayStore(store.blobs)))

    check()


def test_large_arrays_go_to_the_store_once() -> None:
    store, array = ArrayStore(), np.arange(4096, dtype=np.float32)
    first, second = (edit_to_data(SetInput("conv", slot, array), store) for slot in (1, 2))
    assert len(store.blobs) == 1 and "data" not in first["value"]["$array"] and first["value"] == second["value"]


def test_a_missing_or_changed_array_is_refused() -> None:
    store = ArrayStore()
    data = edit_to_data(SetInput("conv", 1, np.arange(4096, dtype=np.float32)), store)
    with pytest.raises(UsageError, match="missing from the plan's array file"):
        edit_from_data(data, ArrayStore())
    (digest,) = store.blobs
    with pytest.raises(UsageError, match="changed or damaged"):
        edit_from_data(data, ArrayStore({digest: b"\0" * 16384}))


def test_a_shape_that_does_not_fit_the_bytes_is_refused() -> None:
    data = edit_to_data(SetInput("conv", 1, np.arange(4, dtype=np.float32)), ArrayStore())
    data["value"]["$array"]["shape"] = [5]
    with pytest.raises(UsageError, match="do not fit"):
        edit_from_data(data, ArrayStore())


@pytest.mark.parametrize(("data", "message"), [
    ({"kind": "run_code"}, "unknown kind of edit 'run_code'"),
    ({"kind": "rewire", "node": "a", "slot": 0}, "missing field 'tensor'"),
    ({"kind": "remove_node", "node": "a", "force": True}, "unknown field 'force'"),
    ({"kind": "remove_node", "node": {"$pickle": "gASV"}}, "unknown kind '\\$pickle'"),
])
def test_what_is_wrong_is_said(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        edit_from_data(data, ArrayStore())


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(UsageError, match="float7"):
        dtype_of("float7")
