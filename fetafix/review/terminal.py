"""A review without a browser: entry by entry in a terminal, with answers from a pipe, or by ids on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fetafix import plan as plans
from fetafix.errors import UsageError
from fetafix.render.html.names import flat
from fetafix.render.style import Style, plural, wrap
from fetafix.report import Report
from fetafix.review import applying
from fetafix.review.decisions import Decision, Desk, Outcome, revision, stamp, word
from fetafix.review.proposals import Proposal, proposals
from fetafix.review.run import Run

_CHOICES = {"a": True, "r": False}


class Console(Protocol):
    """Where a person reads and answers."""

    style: Style

    def say(self, text: str = "") -> None:
        """Show lines."""

    def ask(self, question: str, choices: Sequence[str] = (), default: str | None = None) -> str | None:
        """An answer, one of the choices where there are any; None where there is none to come any more."""


def listed(run: Run, plan: plans.Plan, style: Style, full: bool = True) -> str:
    """All entries, and how each is decided."""
    shown = proposals(plan, run.report)
    blocks = [described(p, style) if full else f"{_head(p, style)}\n{_decision(p.entry, style)}\n" for p in shown]
    return "\n".join([*blocks, f"{counted(plan)} Plan: {run.plan}"])


def described(p: Proposal, style: Style) -> str:
    """An entry with its evidence, figures and edits, as lines."""
    lines = [_head(p, style), *_where(p)]
    lines += _part("what went wrong", p.meaning) + _part("why it is believed", p.evidence)
    figures = [f"as it is, {p.what} is {p.before}", f"with the edit it is {p.after}"]
    lines += _part("before and after", figures)
    lines += _part("what the edit does", [*p.remedy, *map(flat, p.entry.description)])
    lines += _part("what could go wrong", p.risk)
    lines += [style(line, "yellow") for line in _part("take care", p.cares)]
    return "\n".join([*lines, _decision(p.entry, style), ""])


def counted(plan: plans.Plan) -> str:
    """How far a plan is decided."""
    approved = sum(e.approved is True for e in plan.entries)
    rejected = sum(e.approved is False for e in plan.entries)
    of = plural(len(plan.entries), "edit")
    return f"{approved + rejected} of {of} decided: {approved} approved, {rejected} rejected."


def chosen(plan: plans.Plan, wanted: Iterable[str]) -> list[plans.Entry]:
    """The entries that ids, unique beginnings of ids, or "all" name. Raises UsageError for one that names none."""
    found: dict[str, plans.Entry] = {}
    for item in (x.strip() for text in wanted for x in text.split(",")):
        fit = [e for e in plan.entries if item == "all" or (item and e.id.startswith(item))]
        if not fit or (len(fit) > 1 and item != "all"):
            why = "is the beginning of several" if fit else "is no entry's"
            known = ", ".join(e.id for e in plan.entries) or "none"
            raise UsageError(f"{item!r} {why}: expected the id of an entry, the beginning of one, or all; "
                             f"the plan has {known}")
        found |= {e.id: e for e in fit}
    return list(found.values())


def by_ids(desk: Desk, approve: Sequence[str], reject: Sequence[str], withdraw: Sequence[str], by: str,
           comment: str) -> Outcome:  # fmt: skip
    """Decide the entries that ids name. Raises UsageError where one is named twice, or somebody decided meanwhile."""
    plan = desk.read()
    wanted = [(chosen(plan, ids), value) for ids, value in ((approve, True), (reject, False), (withdraw, None))]
    ids = [e.id for entries, _ in wanted for e in entries]
    if double := next((i for i in ids if ids.count(i) > 1), None):
        raise UsageError(f"entry {double} is to be decided in two ways; name it once")
    decisions = [Decision(entry=e.id, approved=value, by=by, comment=comment, state=stamp(e))
                 for entries, value in wanted for e in entries]
    outcome = desk.decide(decisions)
    if outcome.refused:
        said = "; ".join(f"{e.id} {_said(e)}" for e in outcome.refused)
        raise UsageError(f"somebody decided at the same time: {said}. Look at it, and decide again")
    return outcome


@dataclass
class Dialogue:
    """A review entry by entry. by: who decides, asked for where it is empty."""

    run: Run
    desk: Desk
    console: Console
    by: str = ""
    trust: bool = False

    def hold(self, write: Callable[[str], Report]) -> Report | None:
        """Ask about every entry, and at the end whether to apply; the report of that, None where nothing is applied.

        write: applies what is approved in the plan of the revision that it is given.
        """
        plan, say = self.desk.read(), self.console.say
        say(f"{flat(plan.target.path)} should answer like {flat(plan.source.path)}. Nothing has been changed so far.")
        say(f"{plural(len(plan.entries), 'edit')} proposed; approved ones go into a new file.\n")
        if plan.entries and not self._named():
            return None
        for p in proposals(plan, self.run.report):
            if not self._entry(p):
                say(f"{counted(self.desk.read())} What was decided is kept.")
                return None
        return self._applied(write)

    def _named(self) -> bool:
        while not self.by.strip():
            answer = self.console.ask("Your name (goes with every decision)")
            if answer is None:
                return False
            self.by = answer
        return True

    def _entry(self, p: Proposal) -> bool:
        """Ask about one entry until it is decided or left; False to end."""
        entry = p.entry
        self.console.say(described(p, self.console.style))
        while True:
            answer = self.console.ask("[a]pprove, [r]eject, [s]kip or [q]uit", ("a", "r", "s", "q"), "s")
            if answer in (None, "q"):
                return False
            if answer == "s":
                return True
            why = self.console.ask("Why (enter for nothing)", default="")
            if why is None:
                return False
            value = _CHOICES[answer or ""]
            outcome = self.desk.decide(
                [Decision(entry=entry.id, approved=value, by=self.by, comment=why, state=stamp(entry))])
            if not outcome.refused:
                self.console.say(f"   {word(value)}\n")
                return True
            entry = outcome.refused[0]
            self.console.say(f"   not kept: meanwhile it was {_said(entry)}; decide again or skip")

    def _applied(self, write: Callable[[str], Report]) -> Report | None:
        plan = self.desk.read()
        self.console.say(counted(plan))
        if why := applying.ready(self.run, plan, self.trust):
            self.console.say(why)
            return None
        approved = sum(e.approved is True for e in plan.entries)
        question = f"Write {plural(approved, 'approved edit')} to {self.run.output}? y/N"
        answer = self.console.ask(question, ("y", "n"), "n")
        return write(revision(plan)) if answer == "y" else None


def _head(p: Proposal, style: Style) -> str:
    return f"{p.number}. {style(flat(p.title), 'bold')} ({p.entry.id}, {flat(p.entry.code)})"


def _where(p: Proposal) -> list[str]:
    sides = (("target", p.entry.target_layer), ("source", p.entry.source_layer))
    return [f"   {role}  {flat(layer)}" for role, layer in sides if layer]


def _decision(entry: plans.Entry, style: Style) -> str:
    if entry.approved is None:
        return style("   to be decided", "dim")
    return style(f"   {_said(entry)}", "green" if entry.approved else "red")


def _said(entry: plans.Entry) -> str:
    """How an entry is decided, by whom, when and why."""
    who = f" by {flat(entry.decided_by)}" if entry.decided_by else ""
    at = f" at {flat(entry.decided_at)}" if entry.decided_at else ""
    return f"{word(entry.approved)}{who}{at}" + (f": {flat(entry.comment)}" if entry.comment else "")


def _part(title: str, texts: Iterable[str]) -> list[str]:
    """A heading and its points; nothing where there is none."""
    points = [x for text in texts for x in wrap(flat(text), 7, "     - ")]
    return [f"   {title}", *points] if points else []
