"""Comparators of other packages."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import UsageError
from fetafix.judge.tasks import registry
from fetafix.judge.tasks.base import Claim, View, only
from fetafix.judge.tasks.choice import choose, wishes
from fetafix.judge.tasks.numeric import Numeric


class Signs(Numeric):
    """Takes every output that is named so, and compares signs."""

    name = "signs"

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        return [only(v, "yes", "it is named so") for v in views if v.name == "signs"]


@pytest.fixture
def package() -> Iterator[str]:
    module = types.ModuleType("somebody_elses")
    module.Signs, module.Twin, module.Half, module.number = (  # type: ignore[attr-defined]
        Signs, type("Twin", (Signs,), {"name": "numeric"}), type("Half", (), {"name": "half"}), 3)
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]


def point(package: str, what: str) -> EntryPoint:
    return EntryPoint("theirs", f"{package}:{what}", registry.GROUP)


def test_fetafix_s_own() -> None:
    names = ["classification", "detection", "segmentation", "tokens", "embedding", "regression", "numeric"]
    assert list(registry.known([])) == names
    assert all(c.needs and n == c.name for n, c in registry.known([]).items())


def test_another_package_s_comes_first(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.known([point(package, "Signs")])
    assert next(iter(known)) == "signs"
    monkeypatch.setattr("fetafix.judge.tasks.choice.comparators", lambda: known)
    chosen = choose([View("signs", np.full((4, 5), 0.2))], (), {})
    assert [a.comparator.name for a in chosen] == ["signs"]


@pytest.mark.parametrize(("what", "words"), [
    ("Nothing", "cannot be made: AttributeError"), ("number", "cannot be made: TypeError"),
    ("Half", "it lacks needs, limits, claim"), ("Twin", "two comparators are called 'numeric'"),
])
def test_one_that_cannot_serve_is_an_error(package: str, what: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        registry.known([point(package, what)])
    assert f"somebody_elses:{what}" in str(caught.value)


INSTALLED = '''
from fetafix.judge.tasks.classification import Classification


class Captions(Classification):
    name = "captions"

    def claim(self, views, asked):
        return []
'''


def test_one_that_is_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "captions_of_a_friend.py").write_text(INSTALLED)
    info = tmp_path / "captions_of_a_friend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: captions-of-a-friend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\ncaptions = captions_of_a_friend:Captions\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.comparators.cache_clear()
    try:
        assert next(iter(registry.comparators())) == "captions"
        assert wishes("captions")[0].task == "captions"
    finally:
        registry.comparators.cache_clear()
        sys.modules.pop("captions_of_a_friend", None)
    monkeypatch.undo()
    assert "captions" not in registry.comparators()
