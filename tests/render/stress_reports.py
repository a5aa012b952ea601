"""A stress report to draw: an unprotected float, a guarded one and a fixed-point one, over three rates."""

from __future__ import annotations

from fetafix.report import ModelInfo
from fetafix.stress.record import BitDamage, Cell, LayerDamage, Predicted, Storage, StressReport, Subject

RATES = (1e-6, 1e-5, 1e-4)
ACCURACIES = {
    "none": ([0.97, 0.97, 0.97, 0.97], [0.97, 0.1, 0.97, 0.1], [0.1, 0.1, 0.1, 0.1]),
    "guard": ([0.97] * 4, [0.97] * 4, [0.97, 0.96, 0.97, 0.965]),
    "scale": ([0.95] * 4, [0.95] * 4, [0.95, 0.94, 0.95, 0.93]),
}
DTYPE = {"none": "fp32", "guard": "fp32", "scale": "q2.5"}


def _cell(ber: float, accuracies: list[float], clean: float) -> Cell:
    good = sum(a >= clean - 0.0101 for a in accuracies)
    return Cell(
        ber=ber, flips=ber * 32e4, trials=4, ran=4, outcomes={"survived": good, "degraded": 4 - good, "unloadable": 0,
        "crashed": int(good == 0), "hung": 0}, survival=good / 4, bounds=(max(0.0, good / 4 - 0.4),
        min(1.0, good / 4 + 0.4)), kind="sequence", at_least=0.0, decided="" if good else "no", full=4,
        accuracies=accuracies, median=sorted(accuracies)[1], p5=min(accuracies), worst=min(accuracies),
        mean=sum(accuracies) / 4, seconds=1.0)  # fmt: skip


def _subject(scheme: str) -> Subject:
    clean, bits = (0.95, 8) if scheme == "scale" else (0.97, 32)
    parts = ["fraction"] * 5 + ["integer"] * 2 if bits == 8 else ["mantissa"] * 23 + ["exponent"] * 8
    kinds = list(dict.fromkeys(reversed([*parts, "sign"])))
    return Subject(
        name=f"net.onnx {DTYPE[scheme]} {scheme}", model=ModelInfo(path="net <1>.onnx", format="onnx", sha256="ab"),
        storage=Storage(dtype=DTYPE[scheme], scheme=scheme, tensors=2, values=10000, bits=10000 * bits), original=0.97,
        clean=clean, cells=[_cell(b, a, clean) for b, a in zip(RATES, ACCURACIES[scheme], strict=True)],
        tolerated=None if scheme == "none" else 1e-5, open=1e-5 if scheme == "none" else None, untouched=1.6e-7,
        notes=["a note & more"],
        predictions=[Predicted(ber=b, rms=1e-4, seen_rms=2e-4, wrecked=0.1, seen_wrecked=0.5, whole=0.9, trials=4,
                               p_rms=0.4, p_wrecked=0.2, why="RMS error off" if scheme == "none" and b == 1e-4 else "")
                     for b in RATES],
        bits=[BitDamage(bit=i, part=p, rms=10.0 ** (i - 20), wrecked=float(i == 30))
              for i, p in enumerate([*parts, "sign"])],
        layers=[LayerDamage(tensor=f"conv{i}/weight", values=100 * i, rms=dict.fromkeys(kinds, 0.1 * (i + 1)),
                            wrecked=dict.fromkeys(kinds, 0.0)) for i in range(3)])  # fmt: skip


def report(*schemes: str) -> StressReport:
    return StressReport(
        verdict="net.onnx fp32 guard tolerates 1e-05 <sure>.", seed=3, confidence=0.95, survival=0.9, max_drop=0.01,
        samples=50, origin="digits.npy", labels="labels.npy",
        subjects=[_subject(s) for s in schemes or ("none", "guard", "scale")], notes=["seen"])
