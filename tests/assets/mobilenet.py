"""MobileNetV2 out of Keras in every format: what a repair of faults that were put into the files by hand must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fetafix.api import Options, check, repair
from fetafix.formats import recognise
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS

SOURCE = ASSETS / "models/mobilenet_v2_1.0_224_imagenet.h5"


def options(**more: Any) -> Options:
    """Real images, prepared as the network was trained."""
    both = {"source_preprocess": "keras-tf", "target_preprocess": "keras-tf"}
    return Options(**{"data": ASSETS / "images/imagenet", "samples": 24, "gate": "numeric", **both, **more})


def faithful(target: Path) -> None:
    """A healthy conversion is equivalent."""
    report = check(SOURCE, target, options())
    assert report.verdict is Verdict.EQUIVALENT, report.reason


def repaired(target: Path, codes: set[str], folder: Path, again: bool = False) -> None:
    """Found for what it is, repaired in its own format, equal on held-out samples; `again`: a second repair is idle."""
    out = folder / f"out-{target.name}"
    report = repair(SOURCE, target, options(), RepairOptions(output=out, apply=True))
    assert {f.code for f in report.findings} == codes
    assert report.verdict is Verdict.REPAIRED, report.reason
    assert report.after is not None and report.after.top1 == 1.0
    assert recognise(out) == recognise(target)
    if again:
        second = repair(SOURCE, out, options(), RepairOptions(output=folder / f"again-{target.name}", apply=True))
        assert second.verdict is Verdict.EQUIVALENT and not second.repairs


def cases(healthy: str, seeded: Mapping[str, set[str]]) -> tuple[Callable[..., None], Callable[..., None]]:
    """The two tests of a format, for a file of its own: test processes share the work by files.

    healthy: the faithful conversion. seeded: faulty file → the codes that are to be found in it.
    """

    def test_a_faithful_conversion_is_equivalent(tfzoo: Callable[[str], Path]) -> None:
        faithful(tfzoo("mobilenet") / healthy)

    @pytest.mark.parametrize("name", seeded)
    def test_a_seeded_fault_is_repaired_in_place(name: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
        repaired(tfzoo("mobilenet") / name, seeded[name], tmp_path, again=name == next(iter(seeded)))

    return test_a_faithful_conversion_is_equivalent, test_a_seeded_fault_is_repaired_in_place
