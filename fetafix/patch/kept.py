"""The patch of what a repair kept, from its open session."""

from __future__ import annotations

from pathlib import Path

from fetafix.errors import FetafixError
from fetafix.graph.canonical import canonical
from fetafix.graph.proto import load_graph
from fetafix.inputs.preprocess import ASSUMED
from fetafix.ir import Graph
from fetafix.judging import Judgement
from fetafix.options import RepairOptions
from fetafix.patch.make import Facts, make
from fetafix.patch.record import Patch, save
from fetafix.repair import Trial, preprocessing
from fetafix.session import Session
from fetafix.workbench import Workbench


def of(session: Session, bench: Workbench, trial: Trial, proof: Judgement, wanted: RepairOptions) -> Patch:
    """Write the patch that `wanted` asks for. Raises OutputError, and EditError where a repair no longer fits."""
    assert wanted.save_patch is not None
    changes = preprocessing(trial.kept)
    now = session.samplings.target.preprocess or (ASSUMED if changes else None)
    both = (None, None) if now is None else (now.as_dict(), now.changed(changes).as_dict())
    figures = proof.agreement
    facts = Facts(
        session.source_info, session.target_info, session.options.seed, wanted.approved_by, both, _shapes(session),
        {"samples": figures.samples, "top1": figures.top1, "max_abs": figures.max_abs,
         "verdict": str(proof.ruling.verdict)},
    )  # fmt: skip
    repairs = [(g.entry, g.edits) for g in trial.kept]
    patch, store = make(bench.target, repairs, facts, _written(bench, trial))
    save(patch, wanted.save_patch, store)
    return patch


def _shapes(session: Session) -> tuple[tuple[int, ...], ...]:
    """The shapes of one sample for the target's inputs, in their order."""
    one = session.sets("search", 1)[1].feed(0)
    return tuple(one[i.name].shape for i in session.target_info.inputs if i.name in one)


def _written(bench: Workbench, trial: Trial) -> Graph | None:
    """The graph of the repaired copy, as its own format has it; None where no view of it can be made."""
    assert trial.copy is not None
    folder = bench.folder / "patched"
    folder.mkdir(exist_ok=True)
    try:
        lifted = trial.copy.process.lift(folder, bench.target_feeds)
        return canonical(load_graph(lifted.path), bench.evaluator)
    except FetafixError:
        return None


def note(path: str | Path, patch: Patch) -> str:
    """What the report says of a patch."""
    done = f"patch written to {path}: replay it onto another conversion with fetafix patch apply {path} MODEL"
    return f"{done}; it cannot be taken back ({patch.irrevocable})" if patch.irrevocable else done
