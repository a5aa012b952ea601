"""The benchmark of storage faults: what is crossed, kept, resumed and said, on the digits and on shapes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix.bench import lines
from fetafix.bench.storage import analytic, networks, plots, run, settings, speed, table
from fetafix.bench.storage.rows import Row
from fetafix.bench.storage.settings import Settings
from fetafix.bench.storage.targets import targets
from fetafix.errors import ConfigError, UsageError
from fetafix.executor.local import Local
from fetafix.stress.record import Cell, Storage, Subject
from tests.small_models import cnn

SHAPES = {"tiny": [[8, 3, 3, 3], [10, 8]]}
SMALL = Settings(networks=["digits"], architectures=["tiny"], storages=["fp32 none", "q2.5 scale channel"],
                 ber="1e-4,1e-3", images=30, trials="3", shapes=SHAPES)


def test_the_shipped_configuration_shows_the_defaults() -> None:
    assert settings.load(Path("configs/bench-storage.yaml")) == Settings().checked()


@pytest.mark.parametrize(("changes", "message"), [
    ({"networks": ["resnet21"]}, "no network 'resnet21'"), ({"storages": ["fp32"]}, "expected a storage"),
    ({"storages": ["fp8 none"]}, "unknown number format"), ({"storages": ["q2.5 secded"]}, "mantissa"),
    ({"ber": "1e-2..1e-5"}, "LOW"), ({"trials": "some"}, "trials"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        msgspec.structs.replace(Settings(), **changes).checked()


def test_a_misspelt_key_is_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("seed: 1\nimagse: 3\n")
    with pytest.raises(ConfigError, match="line 2: imagse"):
        settings.load(tmp_path / "b.yaml")


def test_the_command_line_narrows() -> None:
    found = settings.narrowed(Settings(), "digits,resnet50", True)
    assert (found.networks, found.architectures) == (["digits"], ["resnet50"])
    assert (found.images, found.trials) == (360, "auto:100")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[run.Plan, list[Row]]:
    """A small benchmark, the digits' place taken by a network that needs no training."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / run.FILES).mkdir()
    cnn(folder / run.FILES / "digits.onnx")
    images = np.random.default_rng(0).random((40, 3, 16, 16), np.float32)
    np.save(folder / run.FILES / "digits.npy", images)
    np.save(folder / run.FILES / "digit-labels.npy", np.random.default_rng(1).integers(0, 10, 40))
    plan = run.Plan(folder=folder, settings=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "speed", lambda: {"inject": 1.0, "undo": 0.5, "read": 20.0, "file": 2.0, "ratio": 0.05})
        return plan, [row for row, _, _ in run.storage(plan)]


def test_every_result_is_kept_and_none_is_measured_twice(
    measured: tuple[run.Plan, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, rows = measured
    assert [(r.kind, r.model, r.storage) for r in rows] == [
        ("speed", "100 MB", ""), ("analytic", "tiny", "fp32 none"), ("analytic", "tiny", "q2.5 scale channel"),
        ("measured", "digits", "fp32 none"), ("measured", "digits", "q2.5 scale channel")]  # fmt: skip
    assert not any(r.reason for r in rows) and lines.read(plan.folder / run.RESULTS, Row) == rows
    with pytest.raises(UsageError, match="--resume"):
        next(run.storage(plan))
    monkeypatch.setattr(run, "_result", lambda *_: pytest.fail("measured again"))
    assert [row for row, _, _ in run.storage(plan, resume=True)] == rows
    other = run.Plan(folder=plan.folder, settings=msgspec.structs.replace(SMALL, trials="4"))
    assert [t.key for t in other.tasks[:3]] == [r.key for r in rows[:3]]
    assert not {t.key for t in other.tasks[3:]} & {r.key for r in rows}


def test_on_a_cluster_it_is_the_same(
    measured: tuple[run.Plan, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the cluster's part is played by a process on this machine."""
    here, rows = measured
    (tmp_path / run.FILES).symlink_to(here.folder / run.FILES)
    monkeypatch.setattr(run, "executor", lambda cluster: Local(1))
    monkeypatch.setattr(run, "speed", lambda: rows[0].figures)
    found = [row for row, _, _ in run.storage(run.Plan(folder=tmp_path, settings=SMALL, cluster="tcp://somewhere:1"))]
    assert [_undated(row) for row in found] == [_undated(row) for row in rows]
    assert len(list((tmp_path / run.TRIALS).glob("*/trials.jsonl"))) == 2


def _undated(row: Row) -> str:
    """Without what a machine's pace decides, and without the folder's name."""
    text = msgspec.json.encode(msgspec.structs.replace(row, seconds=0.0)).decode()
    return re.sub(r'"(path|seconds)":("[^"]*"|[\d.e-]+)', "", text)


def test_the_table_says_all_of_it(measured: tuple[run.Plan, list[Row]]) -> None:
    plan, rows = measured
    text = table.write(plan.folder, rows).read_text("utf-8")
    subject = rows[3].subject
    assert subject is not None and subject.storage.dtype == "fp32" and [c.trials for c in subject.cells] == [3, 3]
    assert f"| fp32 none | 32 | {100 * subject.clean:.1f}% |" in text and "| q2.5 scale channel | 8 |" in text
    assert "## tiny: analytic" in text and "Of 4 predictions" in text and "| met | 1.00 ms in memory" in text
    assert "not measured" in text


def test_plots_of_each_network_and_format(measured: tuple[run.Plan, list[Row]]) -> None:
    plan, rows = measured
    made = {str(p.relative_to(plan.folder / "plots")) for p in plots.write(plan.folder, rows[-1:])}
    assert {"digits/q2.5/bits.svg", "digits/q2.5/layers-1.png", "digits/survival.png", "digits/accuracy.svg"} <= made


def test_what_cannot_be_measured_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(networks.VARIABLE, raising=False)
    plan = run.Plan(folder=tmp_path, settings=Settings(networks=["resnet20"], architectures=[], storages=["fp32 none"]))
    monkeypatch.setattr(run, "speed", dict)
    rows = [row for row, _, _ in run.storage(plan)]
    assert "resnet20 needs FETAFIX_ASSETS" in rows[1].reason and "resnet20 needs" in table.markdown(rows)


def test_gaussian_weights_have_the_spread_and_the_largest_of_the_whole_tensor() -> None:
    drawn = analytic.weights((4000, 100), (0, 1))
    assert drawn.size < 400_000 and drawn.std() == pytest.approx((2 / 100) ** 0.5, rel=0.02)
    assert drawn.reshape(-1)[0] == pytest.approx(4.708 * (2 / 100) ** 0.5, rel=1e-3)  # 1 of 400,000, either side


def test_closed_form_figures_of_shapes() -> None:
    shapes = [tuple(s) for s in SHAPES["tiny"]]
    plain, guarded = (analytic.figures(shapes, t, (1e-6,), 0) for t in ("fp32 none", "fp32 guard"))
    assert plain["weights"] == 296 and plain["bits"] == 32 * 296 and plain["rounding"] == 0.0
    assert plain["half_top"] == pytest.approx(1 - 0.5 ** (1 / 296))
    assert plain["whole@1e-06"] < guarded["whole@1e-06"] == 1.0 and plain["rms@1e-06"] > 1e30 > guarded["rms@1e-06"]
    assert plain["half_wrecked"] < plain["half_top"] and "half_wrecked" not in guarded
    fixed = analytic.figures(shapes, "q2.5 none", (1e-6,), 0)
    assert fixed["rounded_to_0"] > 0.02 and fixed["rounding"] > 0 and "half_top" not in fixed


def test_shapes_that_nobody_has_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no torchvision")

    monkeypatch.setattr("fetafix.formats.torch.env.prepare", missing)
    with pytest.raises(UsageError, match=r"no torchvision.*`shapes`"):
        analytic.shapes("resnet18", Settings())
    assert analytic.shapes("tiny", SMALL) == [(8, 3, 3, 3), (10, 8)]


def subject(clean: float, median: float) -> Subject:
    cell = Cell(ber=1e-4, flips=1.0, trials=5, ran=5, outcomes={}, survival=0.0, bounds=(0.0, 0.5), kind="sequence",
                at_least=0.0, decided="", full=5, accuracies=[median] * 5, median=median, p5=median, worst=median)
    from fetafix.report import ModelInfo

    return Subject(name="s", model=ModelInfo(path="m", format="onnx"), storage=Storage(), original=0.7, clean=clean,
                   cells=[cell])


def judged(figures: dict[tuple[str, str], tuple[float, float]]) -> list[bool | None]:
    rows = [Row(kind="measured", model=m, storage=s, subject=subject(*f)) for (m, s), f in figures.items()]
    return [t.met for t in targets(rows)]


def test_targets_are_met_or_missed_by_the_figures() -> None:
    gain = {("squeezenet", "q2.5 none"): (0.10, 0.0), ("squeezenet", "q2.5 scale"): (0.6, 0.55)}
    assert judged(gain)[0] is True and judged(gain | {("squeezenet", "q2.5 scale"): (0.6, 0.45)})[0] is False
    guard = {("digits", "fp32 none"): (0.99, 0.1), ("digits", "fp32 guard channel"): (0.99, 0.985)}
    assert judged(guard)[1] is True and judged(guard | {("digits", "fp32 guard channel"): (0.99, 0.97)})[1] is False
    assert judged(guard | {("digits", "fp32 none"): (0.99, 0.9)})[1] is None, "it shows nothing where nothing falls"
    assert judged({}) == [None] * 4
    split = next(t for t in targets([Row(kind="measured", model=m, storage=s, subject=subject(*f))
                                     for (m, s), f in gain.items()]))
    assert "50.0 are quantisation recovery (no fault: 10.0% → 60.0%) and 5.0 fault tolerance" in split.found


def test_the_speed_is_measured_on_a_real_file() -> None:
    found = speed.speed(size=400_000, ber=1e-4, rounds=2)
    assert found.keys() == {"inject", "undo", "read", "file", "ratio", "flips"} and all(v > 0 for v in found.values())
