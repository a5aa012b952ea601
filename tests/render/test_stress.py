"""The text of a stress report, held by golden files as `test_text` holds its own."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fetafix.render import stress
from fetafix.report import ModelInfo
from fetafix.stress.record import Cell, Pairing, Storage, StressReport, Subject

GOLDEN = Path(__file__).parent / "golden"


def cell(ber: float, flips: float, decided: str, accuracies: list[float], **more: object) -> Cell:
    base: dict[str, object] = {
        "trials": 10, "ran": 10, "outcomes": {"survived": 10, "degraded": 0, "unloadable": 0, "crashed": 0, "hung": 0},
        "survival": 1.0, "bounds": (0.951, 1.0), "kind": "sequence", "at_least": 0.0, "full": len(accuracies),
        "accuracies": accuracies, "median": accuracies[0], "p5": accuracies[-1], "worst": accuracies[-1]}
    return Cell(ber=ber, flips=flips, decided=decided, **(base | more))  # type: ignore[arg-type]


def subject(name: str, storage: Storage, cells: list[Cell], **more: object) -> Subject:
    return Subject(name=name, model=ModelInfo(path=name, format="onnx"), storage=storage, original=0.997, clean=0.994,
                   cells=cells, **more)  # type: ignore[arg-type]


def report(**more: object) -> StressReport:
    kept = subject("net.onnx keep", Storage(tensors=7, values=29072, bits=930304), [
        cell(1e-8, 0.0093, "yes", [0.997], kind="certain", ran=0, at_least=0.991, bounds=(0.991, 1.0)),
        cell(1e-6, 0.93, "", [0.997, 0.628], survival=0.985, bounds=(0.935, 0.999)),
        cell(1e-2, 9303.0, "no", [0.0, 0.0], survival=0.0, bounds=(0.0, 0.419),
             outcomes={"survived": 0, "degraded": 7, "unloadable": 2, "crashed": 0, "hung": 1}, failed=[0, 1]),
    ], tolerated=1e-8, open=1e-2, untouched=5.5e-8)  # fmt: skip
    scaled = subject("net.onnx q2.5 scale", Storage(dtype="q2.5", scheme="scale", granularity="channel", tensors=7,
                                                    values=29072, bits=232576),
                     [cell(1e-6, 0.23, "yes", [0.994]), cell(1e-2, 2325.8, "no", [0.9, 0.1])],
                     notes=["2 tensors of integers are struck as the file has them"])
    pairs = [Pairing(first="net.onnx keep", second="net.onnx q2.5 scale", ber=1e-6, both=9, first_only=0,
                     second_only=1, neither=0, p=1.0),
             Pairing(first="net.onnx keep", second="net.onnx q2.5 scale", ber=1e-2, both=0, first_only=0,
                     second_only=10, neither=0, p=0.00195)]
    base: dict[str, object] = {
        "verdict": "Bit-error rates at which …: net.onnx keep tolerates 1e-08 (1e-06 is undecided, 0.01 is too much).",
        "seed": 3, "confidence": 0.95, "survival": 0.95, "max_drop": 0.01, "samples": 360, "origin": "digits.npy",
        "labels": "labels.npy", "subjects": [kept, scaled], "pairs": pairs, "notes": ["something about the samples"]}
    return StressReport(**(base | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["short", "verbose"])
def test_golden(mode: str) -> None:
    rendered, path = stress.render(report(), verbose=mode == "verbose"), GOLDEN / f"stress.{mode}.txt"
    if os.environ.get("FETAFIX_GOLDEN") == "write":
        path.write_text(rendered, "utf-8")
    assert rendered == path.read_text("utf-8")


def test_colour_changes_nothing_but_colour() -> None:
    for more in ({}, {"required": 1e-8}, {"required": 1e-2, "reached": False}):
        coloured, plain = (stress.render(report(**more), colour=c) for c in (True, False))
        for code in ("0", "1", "1;31", "1;32", "31", "32", "33"):
            coloured = coloured.replace(f"\x1b[{code}m", "")
        assert coloured == plain and "\x1b" not in plain


def test_quiet_is_the_verdict_alone() -> None:
    assert " ".join(stress.render(report(), quiet=True).split()) == report().verdict


def test_without_labels_it_says_so() -> None:
    shown = " ".join(stress.render(msgspec.structs.replace(report(), labels="")).split())
    assert "no labels: answers are compared with the fault-free ones" in shown
    assert "fault-free answers of this storage" in shown
