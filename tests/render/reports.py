"""Reports to render."""

from __future__ import annotations

from fetafix.report import (
    Agreement,
    Finding,
    ModelInfo,
    Output,
    OutputAgreement,
    Repair,
    Report,
    Samples,
    TensorInfo,
    Verdict,
)

LONG = "features.18.conv.very_long_block_name.another_level.of_the_module_tree.depthwise.with_padding/Conv_00042"


def _model(path: str, kind: str) -> ModelInfo:
    return ModelInfo(
        path=path, format=kind, sha256="ab" * 32, details={"opset": 17} if kind == "ONNX" else {},
        inputs=[TensorInfo(name="x", dtype="float32", shape=["N", 1, 8, 8])],
        outputs=[TensorInfo(name="y", dtype="float32", shape=["N", 10])],
    )


SOURCE, TARGET = _model("digits.onnx", "ONNX"), _model("digits converted.pt", "pickled PyTorch module")
SAMPLES = Samples(search=70, heldout=30, origin="digits.npy (360 samples)")
BAD = Agreement(
    samples=30, top1=0.6, top1_bounds=(0.406, 0.7734), top5=0.9, kendall_tau=0.71, max_abs=14.25, mean_abs=1.5,
    cosine=0.91, sqnr_db=6.2, noise_floor=9.5e-6, tolerance=1e-4, mismatches=["sample 3: 7 → 9", "sample 8: 1 → 7"],
    outputs=[OutputAgreement(
        source="y", target="output", max_abs=14.25, noise_floor=9.5e-6, tolerance=1e-4, within=False)],
)
GOOD = Agreement(
    samples=30, top1=1.0, top1_bounds=(0.8843, 1.0), top5=1.0, kendall_tau=1.0, max_abs=8e-6, mean_abs=1e-6, cosine=1.0,
    sqnr_db=121.4, noise_floor=9.5e-6, tolerance=1e-4,
    outputs=[OutputAgreement(
        source="y", target="output", max_abs=8e-6, noise_floor=9.5e-6, tolerance=1e-4, within=True)],
)
FINDINGS = [
    Finding(
        code="lh-dilation", category="LH", title="another dilation", source_layer="/features/3/Conv",
        target_layer=LONG,
        evidence={"source": [2, 2], "target": [1, 1], "ratio": 0.51234}, local_error=0.81, confidence=0.95,
        explanation="The convolution spreads its kernel over [1, 1] pixels, the source's over [2, 2].",
    ),
    Finding(code="pp-range", category="PP", title="another range of pixel values", confidence=0.8),
]
REPAIRS = [
    Repair(code="lh-dilation", target_layer=LONG, status="kept", before=0.81, after=1.2e-7, id="a1",
           edits=[{"kind": "set_attribute", "description": f"{LONG}: set dilations = (2, 2)"}],
           why="heals the segment"),
    Repair(code="wb-bias", target_layer="fc", status="rejected", before=0.2, after=0.2, id="a2",
           edits=[{"kind": "set_input", "node": "fc", "slot": 2}], why="does not lower the error"),
    Repair(code="pp-range", status="unsupported", id="a3", why="the format holds no preprocessing"),
]

REPORTS = {
    "check_equivalent": Report(
        verdict=Verdict.EQUIVALENT, reason="All outputs agree within the noise floor.", seed=0, samples=SAMPLES,
        source=SOURCE, target=TARGET, agreement=GOOD, passed=True,
    ),
    "check_divergent": Report(
        verdict=Verdict.DIVERGENT, reason="The labels differ on 12 of 30 samples.", seed=3,
        samples=Samples(
            search=30, origin="images/ (30 files)", skipped=[f"{i}.jpg: truncated" for i in range(5)], rounds=2),
        source=SOURCE, target=TARGET, agreement=BAD, passed=False,
    ),
    "localize": Report(
        verdict=Verdict.DIVERGENT, reason="Two layers introduce error.", seed=0, samples=SAMPLES, source=SOURCE,
        target=TARGET, agreement=BAD, findings=FINDINGS, passed=False, command="localize",
    ),
    "repair": Report(
        verdict=Verdict.PARTLY_REPAIRED, reason="The labels agree; one finding has no repair in this format.", seed=0,
        samples=SAMPLES, source=SOURCE, target=TARGET, agreement=BAD, after=GOOD, findings=FINDINGS, repairs=REPAIRS,
        output=Output(path="fixed.pt", sha256="cd" * 32), journal="run.jsonl", passed=True, command="repair",
        notes=["Synthetic inputs are weaker evidence."], timings={"check": 0.61, "repair": 2.345},
    ),
    "undecided": Report(
        verdict=Verdict.UNDECIDED, reason="digits converted.pt: PyTorch ran out of memory at batch 16.", seed=0,
        samples=Samples(), source=ModelInfo(path="digits.onnx", format="ONNX"),
        target=ModelInfo(path="digits converted.pt", format=""),
    ),
}
