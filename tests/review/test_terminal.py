"""Reviews without a browser: a dialogue, and ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fetafix import plan as plans
from fetafix.errors import UsageError
from fetafix.render.style import Style
from fetafix.review.decisions import revision
from fetafix.review.run import find
from fetafix.review.terminal import Dialogue, by_ids, chosen, counted, listed
from tests.review.runs import HOSTILE, decision, desk, plan_in


class Script:
    """A person with answers made up beforehand; one that is a function acts first and answers with what it returns."""

    style = Style(False)

    def __init__(self, *answers: str | Callable[[], str] | None) -> None:
        self.answers, self.said, self.asked = list(answers), list[str](), list[str]()

    def say(self, text: str = "") -> None:
        self.said.append(text)

    def ask(self, question: str, choices: Sequence[str] = (), default: str | None = None) -> str | None:
        self.asked.append(question)
        given = self.answers.pop(0) if self.answers else None
        answer = given() if callable(given) else given
        assert not choices or answer is None or answer in choices
        return answer


def talk(plan: Path, *answers: Any, by: str = "") -> tuple[Script, list[str]]:
    """What was said, and the revisions that were to be applied."""
    script, applied = Script(*answers), list[str]()
    with desk(plan) as here:
        Dialogue(find(plan), here, script, by).hold(lambda seen: applied.append(seen))  # type: ignore[func-returns-value]
    assert not script.answers, "some answers were never asked for"
    return script, applied


def decided(plan: Path) -> list[tuple[bool | None, str, str]]:
    return [(e.approved, e.decided_by, e.comment) for e in plans.read(plan).entries]


def test_entry_by_entry(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "run")
    script, applied = talk(plan, "", "Ada", "a", "looks right", "r", "no", "s", "y")
    assert decided(plan) == [(True, "Ada", "looks right"), (False, "Ada", "no"), (None, "", "")]
    assert applied == [revision(plans.read(plan))]
    text = "\n".join(script.said)
    for told in ("Conv_0", "off by 25% of the size of its values", "exactly as in the original", "because of Conv_1",
                 "set dilations = (2, 2)", "2 of 3 edits decided: 1 approved, 1 rejected."):
        assert told in text
    assert script.asked[-1].startswith("Write 1 approved edit to ") and "b.repaired.onnx" in script.asked[-1]


@pytest.mark.parametrize("answers", [["a", "", "q"], ["a", "", None], ["a", "", "r", None], ["a", "", "s", "s", "n"],
                                     ["a", "", "s", "s", None]])  # fmt: skip
def test_it_may_end_at_any_time(tmp_path: Path, answers: list[str | None]) -> None:
    plan = plan_in(tmp_path / "run")
    _, applied = talk(plan, *answers, by="Ada")
    assert decided(plan)[0] == (True, "Ada", "") and decided(plan)[1] == (None, "", "") and applied == []


def test_nothing_approved_is_not_asked_about(tmp_path: Path) -> None:
    script, applied = talk(plan_in(tmp_path / "run"), "s", "s", "s", by="Ada")
    assert "Nothing is approved so far." in script.said and applied == []


def test_what_somebody_else_said_meanwhile_is_shown(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "run", 1)

    def faster() -> str:
        with desk(plan) as other:
            other.decide([decision(other.read().entries[0], False, "Bob", "it is worse")])
        return "a"

    script, _ = talk(plan, faster, "fine", "s", by="Ada")
    assert any("not kept: meanwhile it was rejected by Bob" in s and "it is worse" in s for s in script.said)
    assert decided(plan) == [(False, "Bob", "it is worse")]


def test_hostile_text_reaches_no_terminal(tmp_path: Path) -> None:
    layer = HOSTILE.replace("{", "{{").replace("}", "}}") + "{}"
    script, _ = talk(plan_in(tmp_path / "run", 1, layer=layer), "a", HOSTILE, "n", by=HOSTILE)
    text = "\n".join([*script.said, listed(find(tmp_path / "run"), plans.read(tmp_path / "run" / "plan.json"),
                                           Style(False))])  # fmt: skip
    assert "\x1b" not in text and "\u202e" not in text and "alert(1)" in text


def test_ids_and_their_beginnings(tmp_path: Path) -> None:
    plan = plans.read(plan_in(tmp_path / "run"))
    first, second, third = (e.id for e in plan.entries)
    assert [e.id for e in chosen(plan, [f"{second[:6]},{first}"])] == [second, first]
    assert [e.id for e in chosen(plan, ["all"])] == [first, second, third]
    for wrong in ("zz", "", f"{first},nothing", "ALL"):
        with pytest.raises(UsageError, match=rf"is no entry's.*{third}"):
            chosen(plan, [wrong])


def test_a_beginning_of_several_is_none(tmp_path: Path) -> None:
    plan = plans.read(plan_in(tmp_path / "run", 17))  # of 16 hexadecimal digits two begin alike
    begin = next(c for c in "0123456789abcdef" if sum(e.id.startswith(c) for e in plan.entries) > 1)
    with pytest.raises(UsageError, match="is the beginning of several"):
        chosen(plan, [begin])


def test_decisions_by_ids(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "run")
    first, second, _ = (e.id for e in plans.read(plan).entries)
    with desk(plan) as here:
        outcome = by_ids(here, [first], [second[:8]], [], "Ada", "both seen")
        assert counted(outcome.plan) == "2 of 3 edits decided: 1 approved, 1 rejected."
        by_ids(here, [], [], ["all"], "Bob", "")
        with pytest.raises(UsageError, match="in two ways"):
            by_ids(here, ["all"], [second], [], "Ada", "")
    assert [e[0] for e in decided(plan)] == [None] * 3
