"""Examine a .pt2 or TorchScript archive before PyTorch loads it.

An exported program is data (JSON and raw tensors) with five ways to code: members that are pickled, custom objects,
compiled libraries, operator names that are looked up anywhere in torch, and expressions that sympy evaluates as Python.
TorchScript is interpreted code without access to Python, but a few of its operators touch files.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.torch.pickle import refuse

_NAMESPACES = ("aten", "prims", "torchvision", "quantized_decomposed")
_TARGET = re.compile(rf"torch\.ops\.(?:{'|'.join(_NAMESPACES)})\.(\w+)\.\w+")
_OPERATOR_NAMES = "add sub mul truediv floordiv mod neg getitem eq ne lt le gt ge pow and_ or_ not_ pos"
_SIZE_FUNCTIONS = """math.floor math.ceil math.trunc math.sqrt math.pow torch.sym_max torch.sym_min torch.sym_float
torch.sym_int torch.sym_not torch.sym_ite torch.sym_sum torch.sym_sqrt"""
_FUNCTIONS = frozenset([*(f"_operator.{n}" for n in _OPERATOR_NAMES.split()), *_SIZE_FUNCTIONS.split()])
_FILE_OPERATORS = ("save", "from_file", "load", "_save_parameters", "_load_parameters", "system")
_SYMBOLIC_NAMES = """Symbol Integer Rational Float FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt
FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt RoundToInt
RoundDecimal ToFloat Identity Max Min Eq Ne Lt Le Gt Ge And Or Not Mul Add Pow true false oo int_oo zoo
IsNonOverlappingAndDenseIndicator StrictLessThan LessThan StrictGreaterThan GreaterThan Equality Unequality"""
_SYMBOLIC = frozenset(_SYMBOLIC_NAMES.split())
_SYMBOL = re.compile(r"[a-z]{1,3}\d+")
_EXPRESSION = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.boolop,
)
_TREES = frozenset(
    {
        None,
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    }
)


def examine_export(path: Path) -> None:
    """Raises UntrustedModel where loading a .pt2 could run code from it, UnreadableModel where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {n.partition("/")[2]: n for n in archive.namelist()}
            _examine_members(members, archive, path)
            for member, name in members.items():
                if member.startswith("models/") and member.endswith(".json"):
                    _examine_program(json.loads(archive.read(name)), path)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, RecursionError, EOFError) as error:
        raise UnreadableModel(f"{path}: damaged .pt2 archive: {type(error).__name__}: {str(error)[:200]}") from error


def _examine_members(members: dict[str, str], archive: zipfile.ZipFile, path: Path) -> None:
    if not any(m.startswith("models/") for m in members):
        raise UnreadableModel(
            f"{path}: an exported program of an old format; load it with its PyTorch and save it again"
        )
    for member, name in members.items():
        if "aotinductor" in member or member.endswith((".so", ".dll", ".cubin")):
            raise refuse(path, f"it holds compiled code ({member})")
        if member.endswith(".pt"):
            _examine_pickle(archive.read(name), member, path)
        if member.endswith("_config.json"):
            _examine_config(json.loads(archive.read(name)), path)


def _examine_pickle(data: bytes, member: str, path: Path) -> None:
    """Sample inputs and legacy weights: tensors only."""
    import torch

    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever it is that cannot be read as tensors
        raise refuse(path, f"its member {member} holds more than tensors") from error


def _examine_config(config: Any, path: Path) -> None:
    for name, entry in config.get("config", {}).items():
        place = str(entry.get("path_name", ""))
        if entry.get("use_pickle") or place.startswith(("custom_obj", "opaque")) or "/" in place or ".." in place:
            raise refuse(path, f"its constant {name} is a pickled object ({place})")


def _examine_program(program: Any, path: Path) -> None:
    if program.get("guards_code"):
        for guard in program["guards_code"]:
            _examine_guard(str(guard), path)
    for entry in _dicts(program):
        if "expr_str" in entry:
            _examine_expression(str(entry["expr_str"]), path)
        if "target" in entry and "inputs" in entry:
            _examine_target(str(entry["target"]), path)
        if entry.get("as_operator") is not None:
            _examine_target(str(entry["as_operator"]), path)
        if entry.get("as_custom_obj") is not None:
            raise refuse(path, "it uses a custom object")
        for key in ("in_spec", "out_spec"):
            if isinstance(entry.get(key), str) and entry[key]:
                _examine_tree(json.loads(entry[key]), path)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _examine_target(target: str, path: Path) -> None:
    found = _TARGET.fullmatch(target)
    if target not in _FUNCTIONS and (found is None or found.group(1) in _FILE_OPERATORS):
        raise refuse(path, f"its graph calls {target}, which is no tensor operator")


def _examine_expression(text: str, path: Path) -> None:
    tree = _parsed(text, path)
    for node in ast.walk(tree):
        named = isinstance(node, ast.Name) and node.id not in _SYMBOLIC and not _SYMBOL.fullmatch(node.id)
        called = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _SYMBOLIC)
        texts = isinstance(node, ast.Constant) and isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value)
        if not isinstance(node, _EXPRESSION) or named or called or texts:
            raise refuse(path, f"it holds the expression {text[:80]!r}, which is no arithmetic of sizes")


def _examine_guard(text: str, path: Path) -> None:
    """Guards compare sizes and constants of the inputs: L['x'].size()[0] <= 8."""
    for node in ast.walk(_parsed(text, path)):
        plain = isinstance(node, (*_EXPRESSION, ast.Subscript, ast.Attribute, ast.List, ast.Tuple))
        named = isinstance(node, ast.Name) and node.id not in {
            "L",
            "torch",
            "math",
            "isinstance",
            "len",
            "int",
            "float",
        }
        method = isinstance(node, ast.Attribute) and node.attr not in {
            "size",
            "dim",
            "isnan",
            "inf",
            "sym_min",
            "sym_max",
        }
        if not plain or named or method:
            raise refuse(path, f"it holds the guard {text[:80]!r}, which is no comparison of sizes")


def _parsed(text: str, path: Path) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError) as error:
        raise refuse(path, f"it holds the expression {text[:80]!r}, which cannot be parsed") from error


def _examine_tree(spec: Any, path: Path) -> None:
    for entry in _dicts(spec):
        if "type" in entry and entry["type"] not in _TREES:
            raise refuse(path, f"its inputs or outputs are of the class {entry['type']}")
        if "__enum__" in str(entry.get("context")):
            raise refuse(path, "its inputs or outputs name an enum class")


_GAP = r"[\s\\]*"  # the script's parser allows blanks and continued lines between the names
_SCRIPT_FILE_OPERATOR = re.compile(rf"\b(?:torch|ops{_GAP}\.{_GAP}\w+){_GAP}\.{_GAP}({'|'.join(_FILE_OPERATORS)})\b")


def examine_script(path: Path) -> None:
    """Raises UntrustedModel where TorchScript code touches files; it cannot reach Python by itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if "/code/" in f"/{name}":
                    found = _SCRIPT_FILE_OPERATOR.search(archive.read(name).decode("utf-8", "replace"))
                    if found:
                        raise refuse(path, f"its TorchScript code calls {found.group(0)} ({name})")
    except zipfile.BadZipFile as error:
        raise UnreadableModel(f"{path}: damaged TorchScript archive: {error}") from error
