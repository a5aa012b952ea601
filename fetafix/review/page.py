"""The page of a review: a template over plain records, every text in it escaped, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fetafix import plan as plans
from fetafix.render.html.chart import chart
from fetafix.render.html.frame import environment
from fetafix.render.html.graph import graph
from fetafix.review.decisions import LONGEST_COMMENT, LONGEST_NAME, revision, stamp, word
from fetafix.review.proposals import Proposal, proposals
from fetafix.review.run import Run

_FOLDER = "page"
_LIMITS = {"name": LONGEST_NAME, "comment": LONGEST_COMMENT}


def render(run: Run, plan: plans.Plan, by: str, nonce: str) -> str:
    """The page as HTML. by: the name that it begins with. nonce: what its script and styles are let in by."""
    shown = proposals(plan, run.report)
    report = run.report
    return _templates().get_template("review.html.j2").render(
        run=run, plan=plan, report=report, proposals=shown, by=by, nonce=nonce, revision=revision(plan),
        source=Path(plan.source.path).name, target=Path(plan.target.path).name, limits=_LIMITS,
        exists=run.output is not None and run.output.exists(), css=_own("review.css"), script=_own("review.js"),
        chart=_chart(run, shown), drawings=lambda p: list(_drawings(p)), stamp=stamp, word=word,
    )  # fmt: skip


def _chart(run: Run, shown: list[Proposal]) -> Markup:
    """The error by layer, where the report has it."""
    exhibits = run.report.exhibits if run.report else None
    return chart(exhibits.layers, "error-") if exhibits and exhibits.layers else Markup("")


def _drawings(proposal: Proposal) -> Iterator[tuple[str, Markup]]:
    """The surroundings of what was found, in both models: captions and drawings."""
    for i, around in enumerate(proposal.neighbourhoods):
        for role, sketch in (("source", around.source), ("target", around.target)):
            if sketch is not None and sketch.nodes:
                title = f"{'How it is in the source' if role == 'source' else 'How it is in the target'}"
                yield title, graph(sketch, title, f"g{proposal.number}-{i}-{role}-")


@cache
def _templates() -> jinja2.Environment:
    """The engine of all pages, over this package's templates."""
    return environment().overlay(loader=jinja2.PackageLoader("fetafix.review", _FOLDER))


def _own(file: str) -> Any:
    """A file of the package, which is put into the page as it is."""
    return Markup((resources.files("fetafix.review") / _FOLDER / file).read_text("utf-8"))
