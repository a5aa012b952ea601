"""The registry, and the conventions that every fault type keeps."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import get_args

import pytest

import fetafix.faults as faults
from fetafix.errors import UsageError
from fetafix.faults import HEADINGS, catalogue, document, get, module_name, sections
from fetafix.faults.base import Category, FaultType

FOLDER = Path(faults.__file__).parent
FILES = sorted(p for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "base"))
_FORBIDDEN = ("fetafix.formats", "fetafix.cli", "fetafix.api", "fetafix.repair", "fetafix.localize", "fetafix.heal",
              "fetafix.render", "click", "torch", "tensorflow", "onnx2torch", "keras")
REQUIRED = {
    "pp-mean-std", "pp-range", "pp-bgr", "pp-hw-swap", "id-layout", "id-size", "id-baked-batch", "cg-act-missing",
    "cg-op-substitution", "cg-bn-train", "cg-residual", "cg-operand-swap", "cg-extra-output", "cg-unexplained",
    "op-softmax", "op-class-offset", "op-output-order",
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_is_a_fault_type(path: Path) -> None:
    module = importlib.import_module(f"fetafix.faults.{path.stem}")
    fault = module.FAULT
    assert isinstance(fault, FaultType)
    assert module_name(fault.code) == path.stem
    assert fault.code.split("-")[0].upper() == fault.category
    assert fault.category in get_args(Category)
    assert (fault.detect, fault.propose, fault.inject) == (module.detect, module.propose, module.inject)
    assert len(path.read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_fault_type_imports_no_format_no_click_and_no_other(path: Path) -> None:
    for name in _imports(path):
        assert not any(name == f or name.startswith(f"{f}.") for f in _FORBIDDEN), name
        assert not name.startswith("fetafix.faults.") or name.split(".")[2] == "base", f"{path.stem} imports {name}"


@pytest.mark.parametrize("code", list(catalogue()))
def test_every_section_is_there_and_says_something(code: str) -> None:
    text = document(code)
    assert list(text) == ["Summary", *HEADINGS]
    assert all(len(t) >= 5 for t in text.values())
    assert "\n" not in text["Summary"].strip()


def test_codes_are_unique_and_files_are_found_without_registration() -> None:
    codes = [importlib.import_module(f"fetafix.faults.{p.stem}").FAULT.code for p in FILES]
    assert len(set(codes)) == len(codes)
    assert set(catalogue()) == set(codes)
    assert set(codes) >= REQUIRED


def test_codes_come_by_category() -> None:
    order = get_args(Category)
    places = [order.index(f.category) for f in catalogue().values()]
    assert places == sorted(places)


def test_get_is_lenient_about_spelling_and_names_the_nearest() -> None:
    assert get("PP_BGR").code == "pp-bgr"
    with pytest.raises(UsageError, match="pp-bgr"):
        get("pp-brg")
    with pytest.raises(UsageError, match="fetafix faults"):
        get("zzzzzzzz")


def test_sections_are_read_in_several_spellings() -> None:
    text = sections("Sum.\n\n*What goes wrong*\nA\nb.\n\nHow it shows:\n  C\n\n**Repair** D\nRepair the E\n")
    assert text == {"Summary": "Sum.", "What goes wrong": "A\nb.", "How it shows": "C", "Repair": "D\nRepair the E"}


def test_a_double_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        name = "pp_bgr"

    monkeypatch.setattr(faults.pkgutil, "iter_modules", lambda path: [Module, Module])
    with pytest.raises(TypeError, match="pp-bgr"):
        catalogue.__wrapped__()
