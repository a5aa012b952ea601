"""MobileNetV2 as SavedModels: faults put into the files by hand are repaired in the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.assets import mobilenet
from tests.assets.zoo import NEEDS_ASSETS

pytestmark = [*NEEDS_ASSETS, pytest.mark.slow]

HEALTHY = ("mobilenet",)
SEEDED = {
    "kernel-turned": {"wb-kernel-layout"},
    "relu6-lost": {"lh-relu6-max"},
    "dilated": {"lh-dilation"},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_faithful_conversion_is_equivalent(name: str, tfzoo: Callable[[str], Path]) -> None:
    mobilenet.faithful(tfzoo("mobilenet") / name)


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault_is_repaired_in_place(name: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    mobilenet.repaired(tfzoo("mobilenet") / name, SEEDED[name], tmp_path, again=name == next(iter(SEEDED)))
