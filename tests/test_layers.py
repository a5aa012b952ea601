"""The lines that hold the parts apart: who may import whom, and what is imported only when a model needs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import grimp
import pytest

import fetafix
from fetafix.cli import COMMANDS

LAYERS = (  # from top to bottom; a part may import its own layer and those below it
    ("__main__",),
    ("cli", "demo", "bench"),
    ("review",),
    ("render",),
    ("api", "operation", "inject", "harden", "convert", "gate", "offer", "reconvert", "repro", "patch", "stress",
     "starter", "schemas"),
    ("session", "repair", "localize", "treat", "heal", "together", "findings", "explained", "judging", "drawing",
     "probing", "workbench", "lift_check", "tapped", "options", "outputs", "preparation", "planning", "run_folder",
     "annex", "boundary", "hidden", "rivals", "evidence", "unmask", "ranking", "depth",
     "restore", "last_resort", "unoptimised", "kept", "pair_options", "remembered", "run_store", "surroundings",
     "exhibiting",
     "advice"),
    ("faults",),
    ("judge", "graph", "inputs", "storage.trials"),
    ("parallel", "pending", "worker", "launch", "feeding", "channel", "executor"),
    ("formats",),
    ("graph.proto", "graph.evaluate", "graph.canonical"),
    ("plan", "edit_data", "edits"),
    ("ir", "report", "exhibits", "journal", "config", "files", "odds", "timed", "storage", "storage.holding"),
    ("quantisation",),
    ("errors",),
)
RANKS = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
FRAMEWORKS = {"torch", "torchvision", "onnx2torch", "onnxscript", "tensorflow", "keras", "tf2onnx", "ai_edge_litert"}
ROOT = Path(fetafix.__file__).parent


@cache
def imports() -> dict[str, set[str]]:
    """Module of fetafix → what it imports, inside functions too; external packages by their first name."""
    graph = grimp.build_graph(
        "fetafix", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)
    own = (m for m in graph.modules if m.split(".")[0] == "fetafix" and m != "fetafix")
    return {m.removeprefix("fetafix."): {i.removeprefix("fetafix.") for i in graph.find_modules_directly_imported_by(m)}
            for m in own}


def part(module: str) -> str | None:
    """The longest entry of LAYERS that names the module or a package around it."""
    words = module.split(".")
    return next((p for n in range(len(words), 0, -1) if (p := ".".join(words[:n])) in RANKS), None)


def test_every_module_has_a_layer() -> None:
    assert {m for m in imports() if part(m) is None} == set()


def test_nobody_imports_what_stands_above() -> None:
    upward = {
        f"{module} → {target}" for module, targets in imports().items() for target in targets
        if (a := part(module)) and target in imports() and (b := part(target)) and RANKS[b] < RANKS[a]
    }
    assert upward == set()


def test_fault_types_know_no_format_and_not_each_other() -> None:
    types = {m for m in imports() if m.startswith("faults.") and m != "faults.base"}
    wrong = {
        f"{module} → {target}" for module in types for target in imports()[module]
        if target in types or part(target) in ("formats", "parallel", "worker") or target in FRAMEWORKS | {"click"}
    }
    assert wrong == set()


@pytest.mark.parametrize(("package", "allowed"), [
    *((framework, {"formats", "convert", "demo", "bench"}) for framework in sorted(FRAMEWORKS)),
    ("click", {"cli"}), ("distributed", {"executor"}), ("rich", {"cli"}),
    ("yaml", {"config"}), ("sklearn", {"demo"}), ("matplotlib", {"render"}),
    ("jinja2", {"render", "review"}), ("markupsafe", {"render", "review"}),
    ("pickle", {"formats", "channel", "parallel", "worker"}),
])
def test_a_package_stays_in_its_place(package: str, allowed: set[str]) -> None:
    users = {m for m, targets in imports().items() if package in targets}
    assert {m for m in users if part(m) not in allowed} == set()


def loaded(code: str) -> set[str]:
    """The top-level packages in sys.modules after some code ran in a fresh interpreter."""
    show = "print('\\n' + __import__('json').dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    script = f"import sys\n{code}\n{show}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert run.returncode == 0, run.stderr[-2000:]
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_every_module_loads_no_framework() -> None:
    skipped = ("demo", "bench", "__main__")
    modules = ["fetafix", *(f"fetafix.{m}" for m in sorted(imports()) if not m.startswith(skipped))]
    assert loaded(f"import importlib\nfor m in {modules}: importlib.import_module(m)") & FRAMEWORKS == set()


HEAVY = FRAMEWORKS | {"numpy", "onnx", "onnxruntime", "scipy", "PIL", "msgspec", "yaml", "rich", "sklearn"}


def test_help_loads_nothing_heavy() -> None:
    code = "from fetafix.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded(code) & HEAVY == set()
    assert loaded("import fetafix") & HEAVY == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    code = f"from fetafix.cli import main\ntry: main(['{command}', '--help'])\nexcept SystemExit: pass"
    assert loaded(code) & HEAVY == set()


def test_a_check_imports_only_what_it_needs() -> None:
    """Neither to look into models nor to write them: `check` of small models is mostly start-up."""
    show = "print(*(m for m in sys.modules if m.startswith('fetafix.')))"
    code = f"import sys, fetafix.cli.run, fetafix.cli.check, fetafix.api, fetafix.render.text\n{show}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    parts = {m.split(".")[1] for m in done.stdout.split()}
    assert parts & {"edits", "graph", "faults", "operation", "patch", "odds", "convert", "bench", "plan"} == set()


def test_nothing_public_is_missing() -> None:
    for name in fetafix.__all__:
        assert getattr(fetafix, name) is not None
    assert set(fetafix.__all__) <= set(dir(fetafix))
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        _ = fetafix.chek


DISTRIBUTIONS = {
    "PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "ai_edge_litert": "ai-edge-litert",
    "google_crc32c": "google-crc32c",
}  # fmt: skip


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = (*project["dependencies"], *extras["torch"], *extras["tensorflow"], *extras["demo"], *extras["plots"],
              *extras["cluster"])
    declared = {re.split(r"[<>=\[]", d)[0].lower() for d in wanted}
    used = {p for targets in imports().values() for p in targets if p not in imports()} - {"fetafix"}
    packages = {DISTRIBUTIONS.get(p, p).lower() for p in used - set(sys.stdlib_module_names)}
    assert packages <= declared
    assert declared - packages <= {"torchvision", "onnxscript"}  # which onnx2torch and torch.onnx import
