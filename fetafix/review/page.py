"""The page of a review: a template over plain records, every text in it escaped, nothing loaded from anywhere.

It looks like the pages of reports, whose styles, drawings and words it shares; but it has a script, which sends
decisions and shows those of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import PurePath

import jinja2
from markupsafe import Markup

from fetafix import plan as plans
from fetafix.render.html import frame
from fetafix.render.html.view import view
from fetafix.review.decisions import LONGEST_COMMENT, LONGEST_NAME, stamp, word
from fetafix.review.proposals import proposals
from fetafix.review.run import Run

_FOLDER = "page"
_LIMITS = {"name": LONGEST_NAME, "comment": LONGEST_COMMENT}


def render(run: Run, plan: plans.Plan, by: str, nonce: str, applied: Mapping[str, str] | None = None) -> str:
    """The page as HTML.

    by: the name that it begins with. nonce: what its script and styles are let in by. applied: what the journal tells
    of the last time that the plan was applied.
    """
    shown = proposals(plan, run.report)
    told = view(run.report) if run.report is not None else None
    answered = {i for p in shown for i in p.at}
    left = [f for k, f in enumerate(told.findings) if k not in answered] if told else []
    original, converted = (PurePath(f.path).name for f in (plan.source, plan.target))
    return _templates().get_template("review.html.j2").render(
        run=run, view=told, proposals=shown, left=left, by=by, nonce=nonce, original=original, converted=converted,
        limits=_LIMITS, output=run.output.absolute() if run.output else None, before=applied, stamp=stamp, word=word,
        css=Markup(frame.styles() + _own("review.css")), script=Markup(_own("review.js")),
    )  # fmt: skip


@cache
def _templates() -> jinja2.Environment:
    """The engine of all pages, with this package's template besides."""
    shared = frame.environment()
    loaders = [jinja2.PackageLoader("fetafix.review", _FOLDER), shared.loader]
    return shared.overlay(loader=jinja2.ChoiceLoader([x for x in loaders if x is not None]))


def _own(file: str) -> str:
    """A file of this package."""
    return (resources.files("fetafix.review") / _FOLDER / file).read_text("utf-8")
