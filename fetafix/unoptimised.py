"""Quantised models that their runtime's own optimisation moves further than a fault would.

ONNX Runtime may fuse QuantizeLinear, an operator and DequantizeLinear into one kernel on codes. In a deep network the
few codes that this rounds otherwise may end in other answers; and what the source does to itself a target may do as
well, so that the tolerance, ten times the noise, hides real faults. Both graphs run as they are written have no such
noise: equal graphs then give equal bits. So where a pair agrees only because of that noise, both are opened again
without optimisation, and judged, searched and repaired so.
"""

from __future__ import annotations

from dataclasses import replace

from fetafix.judging import Judgement
from fetafix.report import Verdict
from fetafix.session import Session

_KIND = "runtime"  # the change that runs the source without optimisation


def hides(session: Session, found: Judgement) -> bool:
    """Whether a pair passes only by what optimisation does to the source."""
    options, infos = session.options, (session.source_info, session.target_info)
    chosen = (options.source_optimise, options.target_optimise, options.source_provider, options.target_provider)
    if any(chosen) or not session.quantised or any(i.format != "onnx" for i in infos):
        return False
    if found.ruling.verdict is Verdict.DIVERGENT:
        return False
    finer = session.tolerances(found, session.noise.without(_KIND))
    return any(not t.admits(e) for name, t in finer.items() if (e := found.comparison.errors.get(name)) is not None)


def switch(session: Session) -> None:
    """Open both models again without optimisation. Raises ModelError where one does not run so."""
    worst = max((f.changes.get(_KIND, (0.0, 0.0))[1] for f in session.noise.floors.values()), default=0.0)
    session.reopen(replace(session.options, source_optimise="none", target_optimise="none"))
    session.remarks.append(
        f"optimisation by ONNX Runtime alone changes the source's outputs by {worst:.2g} (relative L2), which would "
        "hide this difference: both models are run as their graphs are written")
