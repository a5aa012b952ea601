"""What the text report says of answers other than labels."""

from __future__ import annotations

import msgspec

from fetafix.convert.report import ConversionReport, RouteReport, StepReport
from fetafix.render import conversion, tasks, text
from fetafix.report import Agreement, TaskAgreement, Verdict
from tests.render.reports import BAD, GOOD, REPORTS

MASK = TaskAgreement(
    task="segmentation", outputs=["mask"], sure="yes", weighs=True, why="it is named so", samples=30, agreeing=27,
    share=0.9, bounds=(0.7347, 0.9789), likeness=0.97, figures={"miou": 0.97}, words="mean IoU 0.9700",
    mismatches=["sample 3: mean IoU 0.400"])
LABELS = TaskAgreement(
    task="classification", outputs=["y"], sure="yes", weighs=True, samples=30, agreeing=30, share=1.0)
GUESS = msgspec.structs.replace(MASK, outputs=["aux"], sure="maybe", weighs=False, bounds=None, words="")


def test_a_row_each_but_for_the_labels_that_have_their_own() -> None:
    rows = dict(tasks.rows(Agreement(tasks=[LABELS, MASK, msgspec.structs.replace(LABELS, outputs=["z"])]), None))
    assert rows == {
        "segmentation": "mask: 90% of 30 samples agree (73.5% to 97.9%); mean IoU 0.9700",
        "classification": "z: 100% of 30 samples agree"}


def test_before_and_after() -> None:
    healed = msgspec.structs.replace(MASK, share=1.0, agreeing=30, bounds=None, words="mean IoU 1.0000")
    rows = list(tasks.rows(Agreement(tasks=[MASK, GUESS]), Agreement(tasks=[healed])))
    assert rows[0][1].splitlines()[1] == "→ 100% of 30 samples agree; mean IoU 1.0000"
    assert "→" not in rows[1][1]


def test_guesses_say_so() -> None:
    ((_, guess),) = tasks.rows(Agreement(tasks=[GUESS]), None)
    assert guess == "aux: 90% of 30 samples agree (a guess, which decides nothing)"
    ((_, aside),) = tasks.rows(Agreement(tasks=[msgspec.structs.replace(GUESS, sure="yes")]), None)
    assert aside.endswith("(decides nothing)")


def test_in_the_report() -> None:
    both = (msgspec.structs.replace(a, top1=None, tasks=[MASK], mismatches=MASK.mismatches) for a in (BAD, GOOD))
    before, after = both
    report = msgspec.structs.replace(REPORTS["repair"], agreement=before, after=after, gate="task")
    shown = " ".join(text.render(report, verbose=True).split())
    assert "passes the task gate" in shown and "labels" not in shown.split("finding")[0].replace("The labels agree", "")
    assert "segmentation mask: 90% of 30 samples agree (73.5% to 97.9%); mean IoU 0.9700 → 90%" in shown
    assert "differ sample 3: mean IoU 0.400" in shown


def test_routes_of_a_conversion_are_compared_by_their_answers() -> None:
    step = StepReport(converter="onnx2torch", source="onnx", target="torch", status="done")
    route = RouteReport(number=1, steps=[step], status="rejected", verdict=Verdict.DIVERGENT, answers=0.75, max_abs=0.5)
    report = ConversionReport(verdict=Verdict.DIVERGENT, reason="", source=REPORTS["repair"].source, format="torch",
                              routes=[route, msgspec.structs.replace(route, number=2, top1=0.5)])
    shown = conversion.text(report)
    assert "divergent, answers agree on 75%, max" in shown and "divergent, top-1 agree on 50%, max" in shown
