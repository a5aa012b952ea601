from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fetafix.judge.verdict import Facts, rule
from fetafix.report import OutputAgreement, Verdict


def replace_output(output: OutputAgreement, name: str) -> OutputAgreement:
    return msgspec.structs.replace(output, source=name, target=name)


NEAR = OutputAgreement(source="y", target="y", max_abs=1e-6, rel_l2=1e-6, tolerance=1e-5, within=True)
FAR = OutputAgreement(source="y", target="y", max_abs=0.5, rel_l2=0.3, tolerance=1e-5, within=False)
SPREAD = OutputAgreement(source="y", target="y", max_abs=9e-6, rel_l2=0.3, tolerance=1e-5, within=False)
LABELS = Facts("labels", 100, (NEAR,), labelled=True)
NUMBERS = Facts("numeric", 100, (NEAR,))
TASK = Facts("task", 100, (NEAR,), labelled=True, answers="answers", detail="detection of 'boxes': F1 0.98")
BESIDE = replace(TASK, outputs=(NEAR, replace_output(FAR, "z")))


@pytest.mark.parametrize(
    ("facts", "verdict", "passed", "words"),
    [
        (LABELS, Verdict.EQUIVALENT, True, "all 100 labels agree (between 96.4% and 100.0%"),
        (replace(LABELS, outputs=(FAR,)), Verdict.DRIFTING, True, "beyond the tolerance 1e-05"),
        (replace(LABELS, outputs=(SPREAD,)), Verdict.DRIFTING, True, "relative L2 0.3"),
        (replace(LABELS, mismatches=3), Verdict.DIVERGENT, False, "3 of 100 labels differ"),
        (replace(LABELS, mismatches=3, max_mismatch=0.05), Verdict.DRIFTING, True, "allowed: 0.05"),
        (replace(LABELS, mismatches=3, max_mismatch=0.03), Verdict.DRIFTING, True, "3 of 100"),
        (replace(LABELS, gate="numeric"), Verdict.EQUIVALENT, True, "within the noise"),
        (replace(LABELS, gate="numeric", outputs=(FAR,)), Verdict.DRIFTING, False, "differ by up to 0.5"),
        (replace(LABELS, gate="numeric", mismatches=1), Verdict.DIVERGENT, False, "1 of 100 labels differ"),
        (NUMBERS, Verdict.EQUIVALENT, True, "up to 1e-06, tolerance 1e-05"),
        (replace(NUMBERS, outputs=(NEAR, FAR)), Verdict.DIVERGENT, False, "up to 0.5"),
        (replace(NUMBERS, gate="labels", outputs=(FAR,)), Verdict.DIVERGENT, False, "up to 0.5"),
        (replace(LABELS, samples=0), Verdict.UNDECIDED, None, "no sample"),
        (replace(LABELS, outputs=()), Verdict.UNDECIDED, None, "no output"),
        (replace(LABELS, unsound=("y",)), Verdict.UNDECIDED, None, "the source's own output 'y' holds NaN"),
        (replace(LABELS, source_varies=0.4), Verdict.UNDECIDED, None, "from run to run"),
        (replace(LABELS, broken=("y",)), Verdict.DIVERGENT, False, "NaN or infinity where the source's is finite"),
        (replace(LABELS, broken=("y",), unsound=("z",)), Verdict.DIVERGENT, False, "NaN or infinity"),
        (replace(LABELS, missing=("z",)), Verdict.DIVERGENT, False, "lacks the source's output 'z'"),
        (replace(LABELS, incomparable=(("y", "[1001] for [1000]"),)), Verdict.DIVERGENT, False, "[1001] for [1000]"),
        (replace(NUMBERS, outputs=(FAR,), crossed=(("y", "y", "z"),)), Verdict.DIVERGENT, False, "outputs are swapped"),
        (replace(NUMBERS, outputs=(FAR,), target_varies=0.2), Verdict.DIVERGENT, False, "dropout"),
        (replace(NUMBERS, outputs=(FAR,), target_depends=0.2), Verdict.DIVERGENT, False, "other samples in the batch"),
        (replace(LABELS, target_varies=0.2), Verdict.DRIFTING, True, "dropout"),
        (replace(NUMBERS, target_depends=0.2), Verdict.DIVERGENT, False, "other samples in the batch"),
        (replace(NUMBERS, batch_failure="Reshape"), Verdict.DIVERGENT, False, "fails on them: Reshape"),
        (TASK, Verdict.EQUIVALENT, True, "all 100 answers agree (between 96.4% and 100.0% with 95% confidence): det"),
        (replace(TASK, outputs=(FAR,)), Verdict.DRIFTING, True, "F1 0.98; values of output 'y' differ"),
        (replace(TASK, outputs=(FAR,), gate="numeric"), Verdict.DRIFTING, False, "all 100 answers agree"),
        (replace(TASK, mismatches=2), Verdict.DIVERGENT, False, "2 of 100 answers differ"),
        (replace(TASK, mismatches=2, max_mismatch=0.02), Verdict.DRIFTING, True, "allowed: 0.02 of them): detection"),
        (BESIDE, Verdict.DRIFTING, True, "output 'z' differ"),
        (replace(BESIDE, by_numbers=("z",)), Verdict.DIVERGENT, False, "output 'z' differ"),
        (replace(BESIDE, by_numbers=("y",)), Verdict.DRIFTING, True, "output 'z' differ"),
        (replace(TASK, labelled=False, outputs=(FAR,)), Verdict.DIVERGENT, False, "up to 0.5"),
        (replace(TASK, target_depends=0.2), Verdict.DRIFTING, True, "other samples in the batch"),
    ],
)
def test_table(facts: Facts, verdict: Verdict, passed: bool | None, words: str) -> None:
    ruling = rule(facts)
    assert (ruling.verdict, ruling.passed) == (verdict, passed), ruling.reason
    assert words in ruling.reason
