"""What is tried first changes how many trials it takes, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fetafix import heal, odds, ranking
from fetafix.api import Options, RepairOptions, repair
from fetafix.edits import prune
from fetafix.faults import catalogue
from fetafix.faults.base import Site, Suspicion
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.segment import Layout
from fetafix.heal import UNEXPLAINED, Rank
from fetafix.journal import read
from fetafix.odds import Counts, Odds
from fetafix.ranking import Ranking, evidence
from fetafix.treat import Treatment, treat
from tests.faults.support import EVALUATOR, feeds_for
from tests.patch.conversions import broken, network, saved

FAULTS = list(catalogue().values())


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codes of what is tried, as it is tried."""
    tried: list[str] = []
    made = heal._made

    def noted(site: Site, draft: Any) -> Any:
        tried.append(draft.steps[0][0].code)
        return made(site, draft)

    monkeypatch.setattr(heal, "_made", noted)
    return tried


def treated(rank: Rank | None) -> list[object]:
    """Everything that reports take from the treatment of a network with four faults."""
    graph = network()
    with Aligner(graph, feeds_for(graph), EVALUATOR) as aligner:
        name, out = graph.input_names[0], graph.output_names[0]
        inputs = (InputTwin(name, name, Layout()),)
        treatment = treat(lambda g: aligner.align(g, inputs, {out: out}), prune(broken(graph)), FAULTS, None, rank)
        assert treatment.remaining == () and treatment.steps
        return told(treatment)


def shuffled(seed: int) -> Rank:
    """Suspicions in an order of their own, whatever speaks for them."""
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[object, ...], float] = {}
    return lambda site, s: drawn.setdefault((s.code, s.target, s.explanation, s.confidence), rng.random())


def told(treatment: Treatment) -> list[object]:
    """Everything that reports take from a treatment."""
    return [
        (s.round, [e.describe() for e in s.edits], [x.code for x in s.diagnosis.suspicions],
         [(r.code, r.before, r.after, r.cost, r.healed, [e.describe() for e in r.edits]) for r in s.diagnosis.tried],
         [[e.describe() for e in r.edits] for r in s.diagnosis.others()])
        for s in treatment.steps
    ]  # fmt: skip


def test_every_order_finds_the_same_and_records_the_same(trials: list[str]) -> None:
    outcomes, counts = [], set()
    for rank in (None, *(shuffled(seed) for seed in range(6))):
        trials.clear()
        outcomes.append(treated(rank))
        counts.add(len(trials))
    assert all(o == outcomes[0] for o in outcomes)
    assert len(counts) > 1  # the order does make a difference, in time


def test_a_better_order_takes_fewer_trials(trials: list[str]) -> None:
    right = {"lh-dilation", "wb-kernel-flip", "cg-act-missing", "lh-count-include-pad"}
    counts = []
    for sign in (1, -1):
        trials.clear()
        treated(lambda site, s, sign=sign: sign * (s.code in right))  # type: ignore[misc]
        counts.append(len(trials))
    assert counts[0] < counts[1]


def test_a_report_is_the_same_under_any_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sets of counts, one against everything that is right: only `ranked` in the journal tells them apart."""
    graph = network()
    models = saved(graph, tmp_path / "src.onnx"), saved(broken(graph), tmp_path / "tgt.onnx")
    reports, journals = [], []
    for number, right in enumerate((True, False)):
        counts = [
            odds.Count(code=f.code, source="onnx", target="onnx", evidence=op, suspected=50,
                       kept=50 * (f.code.startswith(("lh-dil", "wb-kernel-f", "cg-act")) is right))
            for f in FAULTS for op in ("Conv", "AveragePool")
        ]  # fmt: skip
        monkeypatch.setattr(ranking, "known", lambda c=counts: Odds((Counts(origin="test").plus(c),)))
        log = tmp_path / f"{number}.jsonl"
        wanted = RepairOptions(apply=True, output=tmp_path / "out.onnx", journal=log)
        report = repair(*models, Options(samples=16, threads=1), wanted)
        reports.append(msgspec.json.encode(msgspec.structs.replace(report, timings={}, journal=None)))
        journals.append([{k: v for k, v in e.items() if k != "time"} for e in read(log)])
    assert reports[0] == reports[1]
    different = {a["event"] for a, b in zip(*journals, strict=True) if a != b}
    assert different - {"repair"} == {"ranked"}  # "repair" names the journal itself


def test_what_a_repair_proved_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(odds.OFF)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(odds, "_PACKAGED", tmp_path / "packaged.json")
    (tmp_path / "packaged.json").write_text('{"origin": "nothing that was counted"}')
    graph = network()
    models = saved(graph, tmp_path / "src.onnx"), saved(broken(graph), tmp_path / "tgt.onnx")
    repair(*models, Options(samples=16, threads=1), RepairOptions())  # a dry run without a journal teaches nothing
    assert odds.own().counts == []
    log = tmp_path / "run.jsonl"
    repair(*models, Options(samples=16, threads=1),
           RepairOptions(apply=True, output=tmp_path / "out.onnx", journal=log))
    found = odds.known()
    for code in ("lh-dilation", "wb-kernel-flip", "cg-act-missing", "lh-count-include-pad"):
        assert found.counted(code) == (1, 1)
    assert found.counted("wb-weights")[1] == 0 < found.counted("wb-weights")[0]
    assert found.counted(UNEXPLAINED) == (0, 0)
    (event,) = (e for e in read(log) if e["event"] == odds.EVENT)
    assert event["added_to"] == str(odds.place())
    assert {c["evidence"] for c in event["counts"]} == {"Conv", "AveragePool"}
    (used,) = (e for e in read(log) if e["event"] == "ranked")
    assert used["statistics"] == Odds((odds.packaged(), Counts(origin=""))).digest and used["runs"] == 0


def test_odds_weigh_what_the_models_show_with_what_was_counted() -> None:
    site: Any = object()
    plain, often = (Ranking(Odds((Counts(origin="t").plus(c),)), ("onnx", "tflite")) for c in ([], [
        odds.Count(code="b", source="onnx", target="tflite", evidence="interface", suspected=20, kept=20)]))
    sure, unsure = Suspicion("a", None, None, 0.9), Suspicion("b", None, None, 0.6)
    assert evidence(site, sure) == ranking.INTERFACE
    assert plain(site, sure) > plain(site, unsure)
    assert plain(site, sure) == pytest.approx(9)
    assert often(site, unsure) > often(site, sure)
    assert np.isfinite(plain(site, Suspicion("a", None, None, 1.0)))
