"""MobileNetV2 out of Keras in every format: what a repair of faults that were put into the files by hand must show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
