"""What the README says about the command line is true."""

from __future__ import annotations

import re
from pathlib import Path

import fetafix
from fetafix import config
from fetafix.cli import COMMANDS, cli

ROOT = Path(fetafix.__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def options() -> set[str]:
    known = {"--help", "--version"}
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        inner = getattr(command, "commands", {}).values()
        known.update(o for c in (command, *inner) for p in c.params for o in p.opts)
    return known


def test_the_table_has_every_command_in_its_words() -> None:
    rows = dict(re.findall(r"^\| `fetafix (\w+)[^`]*` \| (.*) \|$", README, re.MULTILINE))
    assert rows == COMMANDS


def test_every_option_named_exists() -> None:
    text = re.sub(r"--index-url|mypy --strict", "", README)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options()


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test", "lint", "types", "bench"} <= named <= targets


def test_linked_files_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).is_file(), link


def test_the_example_configuration_is_valid() -> None:
    pair = config.load(ROOT / "configs" / "example.yaml").pair("mobilenet")
    unused = {"trust", "batch", "threads"}
    assert {f for f in config.Pair.__struct_fields__ if not getattr(pair, f)} <= unused | {"seed"}


def test_no_placeholder_is_left() -> None:
    assert "TODO" not in README
