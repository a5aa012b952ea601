"""An unchanged source is not run again, and nobody can tell from the report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetafix import __version__, api, remembered
from fetafix.formats.base import OpenOptions
from fetafix.options import Options
from fetafix.parallel import ModelProcess
from fetafix.remembered import Remembering, opened
from fetafix.report import Report, Verdict
from fetafix.session import Session
from fetafix.surroundings import surroundings
from tests.small_models import cnn, weights
from tests.test_check import images


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files for which a process was started, in order."""
    names: list[str] = []
    usual = ModelProcess._start

    def start(self: ModelProcess, memory_limit: int) -> None:
        names.append(self.path.name)
        usual(self, memory_limit)

    monkeypatch.setattr(ModelProcess, "_start", start)
    return names


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return cnn(tmp_path / "source.onnx"), cnn(tmp_path / "target.onnx", change={"b1": weights()["b1"] + np.float32(1)})


def options(folder: Path, **more: object) -> Options:
    data = folder / "data.npy"
    if not data.exists():
        images(data)
    return Options(**{"data": data, "samples": 40, "threads": 1, "cache": folder / "cache", **more})  # type: ignore[arg-type]


def plain(report: Report) -> Report:
    return msgspec.structs.replace(report, timings={})


def test_a_second_check_starts_no_source(pair: tuple[Path, Path], tmp_path: Path, started: list[str]) -> None:
    without = api.check(pair[0], pair[0], options(tmp_path, cache=None))
    first = api.check(pair[0], pair[0], options(tmp_path))
    del started[:]
    session = Session(pair[0], pair[0], options(tmp_path))
    second = api.within(session, "check", api.checked)
    assert started == ["source.onnx"]  # as the target
    assert session.source_remembered
    assert plain(without) == plain(first) == plain(second)
    assert second.search is not None and second.search.tried > 0


def test_looking_inside_starts_it_but_runs_nothing(
    pair: tuple[Path, Path], tmp_path: Path, started: list[str]
) -> None:
    from fetafix.operation import localized

    without = api.localize(*pair, options(tmp_path, cache=None))
    assert without.verdict is Verdict.DIVERGENT and without.findings
    first = api.localize(*pair, options(tmp_path))
    session = Session(*pair, options(tmp_path))
    second = api.within(session, "localize", localized)
    assert session.source_remembered and started.count("source.onnx") == 3
    assert plain(without) == plain(first) == plain(second)


def other_data(folder: Path) -> Options:
    x = np.load(images(folder / "more.npy"))
    x[:, 0, 0, 0] += 1
    np.save(folder / "data.npy", x)
    return options(folder)


CHANGES: dict[str, Callable[[Path], Options]] = {
    "seed": lambda f: options(f, seed=1), "data": other_data, "threads": lambda f: options(f, threads=2),
    "preprocessing": lambda f: options(f, data=f / "pixels.npy", source_preprocess={"scale": 0.25}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_asked_otherwise_is_run(change: str, tmp_path: Path) -> None:
    source = cnn(tmp_path / "source.onnx")
    usual = options(tmp_path)
    if change == "preprocessing":
        np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), np.uint8))
        usual = options(tmp_path, data=tmp_path / "pixels.npy", source_preprocess={"scale": 0.5})
    api.check(source, source, usual)
    for ask, known in ((lambda _: usual, True), (CHANGES[change], False)):
        session = Session(source, source, ask(tmp_path))
        api.within(session, "check", api.checked)
        assert session.source_remembered is known


def test_another_model_or_version_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cnn(tmp_path / "source.onnx")
    api.check(source, source, options(tmp_path))

    def known() -> bool:
        session = Session(source, source, options(tmp_path))
        api.within(session, "check", api.checked)
        return session.source_remembered

    assert known()
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "surroundings", lambda: "onnxruntime 99")
        assert not known()
    assert known()
    cnn(source, seed=1)
    assert not known()


def test_a_renamed_model_is_known_and_told_by_its_new_name(tmp_path: Path) -> None:
    source = cnn(tmp_path / "source.onnx")
    api.check(source, source, options(tmp_path))
    moved = source.rename(tmp_path / "moved.onnx")
    session = Session(moved, moved, options(tmp_path))
    report = api.within(session, "check", api.checked)
    assert session.source_remembered and report.source.path == str(moved)


def test_damaged_entries_are_run_again_and_mended(tmp_path: Path) -> None:
    source = cnn(tmp_path / "source.onnx")
    first = api.check(source, source, options(tmp_path))
    entries = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    for path in entries:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    session = Session(source, source, options(tmp_path))
    assert plain(api.within(session, "check", api.checked)) == plain(first) and not session.source_remembered
    session = Session(source, source, options(tmp_path))
    assert plain(api.within(session, "check", api.checked)) == plain(first) and session.source_remembered


def test_the_same_asked_twice_is_two_answers(tmp_path: Path) -> None:
    """A model that answers differently from run to run is known as one the next time, too."""
    source = cnn(tmp_path / "source.onnx")
    x = {"x": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}
    with closing(opened(source, OpenOptions(), tmp_path)) as model:
        assert isinstance(model, Remembering)
        model.info()
        for answer in (1.0, 2.0):
            model.keep(model.key(x, None, True, "run False"), {"y": np.full((2, 10), answer)})
    with closing(opened(source, OpenOptions(), tmp_path)) as model:
        assert isinstance(model, Remembering)
        assert [float(model.run(x)["y"][0, 0]) for _ in range(2)] == [1.0, 2.0]
        assert (model.recalled, model.ran) == (2, False)
        model.run(x)
        assert (model.recalled, model.ran) == (2, True)


def test_chunks_that_are_known_come_first_and_the_model_runs_for_the_rest(tmp_path: Path) -> None:
    source = cnn(tmp_path / "source.onnx")
    x = {"x": np.random.default_rng(0).normal(size=(22, 3, 16, 16)).astype(np.float32)}
    with closing(ModelProcess(source)) as model:
        whole = list(model.run_chunks(x, None, True, 4))
    with closing(opened(source, OpenOptions(), tmp_path)) as model:
        chunks = model.run_chunks(x, None, True, 4)
        some = [next(chunks) for _ in range(3)]
        chunks.close()
        assert next(chunks, None) is None
    with closing(opened(source, OpenOptions(), tmp_path)) as model:
        assert isinstance(model, Remembering)
        chunks = model.run_chunks(x, None, True, 4)
        again = [next(chunks) for _ in range(3)]
        assert (model.recalled, model.ran) == (3, False)
        again += list(chunks)
        assert (model.recalled, model.ran) == (3, True)
    with closing(opened(source, OpenOptions(), tmp_path)) as model:
        assert isinstance(model, Remembering)
        last = list(model.run_chunks(x, None, True, 4))
        assert (model.recalled, model.ran) == (6, False)
    assert [(c.start, c.stop) for c in whole] == [(c.start, c.stop) for c in last] == [(c.start, c.stop) for c in again]
    for name in whole[0].outputs:
        for found in (again, last):
            for a, b in zip(whole, found, strict=True):
                np.testing.assert_array_equal(a.outputs[name], b.outputs[name])
    assert len(some) == 3


def test_code_outside_the_file_is_never_remembered(tmp_path: Path) -> None:
    path = cnn(tmp_path / "source.onnx")
    with closing(opened(path, OpenOptions(trust=True), tmp_path)) as model:
        assert isinstance(model, Remembering)  # an ONNX file holds no code
    with closing(opened(path, OpenOptions(arch="nets:make"), tmp_path)) as model:
        assert not isinstance(model, Remembering)


def test_versions_and_the_processor_are_told() -> None:
    from importlib import metadata

    told = surroundings()
    assert f"fetafix {__version__}" in told and f"onnxruntime {metadata.version('onnxruntime')}" in told
    assert f"{platform.system()} {platform.machine()}" in told
