"""Before numbers are said to drift: how far the source's own rounding reaches, seen from inside.

The noise floor of a session moves the source's inputs by a unit in the last place. A network of a hundred layers
rounds a hundred times, and so does its conversion, in another order. Where a difference is beyond the tolerance but not
by far, the source is lifted, every layer's result moved by such a unit, and what that does to the outputs counts as
noise. It costs a lift, and only such pairs pay for it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from fetafix import unoptimised
from fetafix.errors import ModelError
from fetafix.ir import Array
from fetafix.judge.noise import EPS, measure
from fetafix.judging import Judgement
from fetafix.report import Verdict
from fetafix.session import Session, Which

_FAR = 32.0  # times the tolerance: further than any depth of rounding has been seen to reach
_SAMPLES = 2


def judged(session: Session, which: Which = "all", stop: bool = False) -> Judgement:
    """`Session.judge`, with the deeper look where it may decide, and without optimisation where that hides faults."""
    found = session.judge(which, stop=stop)
    if unoptimised.hides(session, found):
        unoptimised.switch(session)
        found = session.judge(which, stop=stop)
    if not _close(session, found):
        return found
    with session.timed("noise"), contextlib.suppress(ModelError):
        moved = _rounding(session)
        if moved is not None:
            base, other = moved
            session.widen(measure(base, {"rounding": other}))
            return session.judge(which, stop=stop)
    return found


def _close(session: Session, found: Judgement) -> bool:
    """Whether only numbers are at odds, and by so little that rounding may explain it."""
    ruling = found.ruling.verdict
    numbers = ruling is Verdict.DRIFTING or (ruling is Verdict.DIVERGENT and session.gate == "numeric")
    if not numbers or session.source_info.details.get("quantised"):
        return False
    beyond = [(o.max_abs, o.tolerance) for o in found.agreement.outputs if o.within is False]
    return bool(beyond) and all(off is not None and allowed and off <= _FAR * allowed for off, allowed in beyond)


def _rounding(session: Session) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """The source's outputs in its lift, as they are and with every layer rounded otherwise; None for a wrong lift."""
    from fetafix import lift_check
    from fetafix.graph.arithmetic import rounded_otherwise
    from fetafix.graph.canonical import canonical
    from fetafix.graph.evaluate import Evaluator
    from fetafix.graph.proto import load_graph

    samples = session.sets("search", _SAMPLES)[0]
    count = len(samples) if samples.stackable and not session.probes["source"]["batch_failure"] else 1
    feeds = samples.feed(0, count)
    evaluator = Evaluator()
    with tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        lifted = session.source.start_lift(Path(folder), feeds).result()
        graph = canonical(load_graph(lifted.path), evaluator)
        names = graph.output_names
        base = dict(zip(names, evaluator.run(graph, feeds, names), strict=True))
        given = feeds if samples.stackable else {k: v[None] for k, v in feeds.items()}
        native = session.source.run(given, count, samples.stackable)
        details = session.source_info.details
        moved = rounded_otherwise(graph, feeds, evaluator.run, EPS, session.options.seed)
        wrong = [n for n, v in base.items()
                 if lift_check.differs(n, v, native.get(n), details, rounded=lambda: moved)]
        return None if wrong else (base, moved)
