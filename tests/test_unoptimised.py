"""Quantised pairs that agree only by what graph optimisation does to the source are run as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix import depth
from fetafix.api import Options
from fetafix.inject import inject
from fetafix.judge.noise import Floor, Noise
from fetafix.report import Verdict
from fetafix.session import Session
from tests import quantised as made

COARSE = Noise({"y": Floor(1e3, 1e3, {"runtime": (1e3, 1e3)})})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.onnx quantised, target.onnx with one range miscalibrated."""
    folder = tmp_path_factory.mktemp("codes")
    graph = made.NETWORKS["residual"]()
    made.quantise(graph, "int8 per tensor", folder).rename(folder / "source.onnx")
    inject(folder / "source.onnx", "qp-range", 1, folder / "target.onnx")
    np.savez(folder / "x.npz", **made.feeds(graph, 1, 16))
    return folder


def coarse(session: Session) -> None:
    """As if optimising its graph changed the source's answers beyond recognition."""
    session.widen(Noise({name: COARSE.floor("y") for name in session.noise.floors}))


def judged(folder: Path, target: str, **more: object) -> tuple[Verdict, Session]:
    options = Options(data=str(folder / "x.npz"), gate="numeric", **more)  # type: ignore[arg-type]
    with Session(folder / "source.onnx", folder / target, options) as session:
        coarse(session)
        assert session.judge().ruling.verdict is Verdict.EQUIVALENT  # anything would be
        return depth.judged(session).ruling.verdict, session


def test_the_fault_is_seen_without_optimisation(folder: Path) -> None:
    verdict, session = judged(folder, "target.onnx")
    assert verdict is not Verdict.EQUIVALENT
    assert session.source_info.details["runtime_options"]["optimise"] == "none"
    assert session.target_info.details["runtime_options"]["optimise"] == "none"
    assert len(session.remarks) == 1 and "as their graphs are written" in session.remarks[0]


def test_models_that_agree_anyway_stay_optimised(folder: Path) -> None:
    verdict, session = judged(folder, "source.onnx")
    assert verdict is Verdict.EQUIVALENT and session.remarks == []
    assert "optimise" not in session.source_info.details.get("runtime_options", {})


def test_a_level_that_was_asked_for_stays(folder: Path) -> None:
    assert judged(folder, "target.onnx", target_optimise="all")[0] is Verdict.EQUIVALENT


def test_noise_without_a_kind_of_change() -> None:
    noise = Noise({"y": Floor(3.0, 0.3, {"runtime": (3.0, 0.3), "ulp": (1.0, 0.1)})})
    left = noise.without("runtime").floor("y")
    assert (left.max_abs, left.rel_l2, dict(left.changes)) == (1.0, 0.1, {"ulp": (1.0, 0.1)})
