"""Names of TFLite's enumerations, and how a layer of a TFLite file is named to people.

The numbers come from the schema that LiteRT brings along, so that they are those of the runtime; reading it loads no
runtime.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

NUMPY = {
    "float32": "float32", "float16": "float16", "float64": "float64", "int8": "int8", "uint8": "uint8",
    "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32", "int64": "int64", "uint64": "uint64",
    "bool": "bool", "complex64": "complex64", "complex128": "complex128", "int4": "int8",
}  # fmt: skip
_LAYER = re.compile(r"\((?:(\w+) )?#(\d+)\)$")


@cache
def schema() -> Any:
    """The generated module of the TFLite schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def _table(enumeration: str) -> dict[int, str]:
    return {v: k for k, v in vars(getattr(schema(), enumeration)).items() if not k.startswith("_")}


def operator(code: int) -> str:
    """"CONV_2D" of 3; a number that this version's schema lacks is named as such."""
    return _table("BuiltinOperator").get(code, f"UNKNOWN_{code}")


def dtype(code: int) -> str:
    """"float32" of 0."""
    return _table("TensorType").get(code, f"unknown {code}").lower()


def options(code: int) -> str:
    """"Conv2DOptions" of 1, "NONE" of 0."""
    return _table("BuiltinOptions").get(code, f"unknown {code}")


def layer(tensor: str, op: str, index: int) -> str:
    """What a layer is called: the tensor it makes, and operator and position as viewers show them."""
    return f"{tensor} ({op} #{index})"


def layer_index(name: str) -> int | None:
    """The operator's position in its subgraph from a layer's name; None where the name is none of `layer`'s."""
    found = _LAYER.search(name)
    return int(found[2]) if found else None
