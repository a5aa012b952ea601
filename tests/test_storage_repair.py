"""Struck files, from the bytes to the report: found as st-storage, mended, proved; a second repair changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fetafix.api import Options, RepairOptions, repair
from fetafix.formats import stored
from fetafix.formats.stored import Held
from fetafix.journal import read as journal_of
from fetafix.report import Report, Verdict
from fetafix.restore import restorations
from fetafix.storage import sidecar
from fetafix.storage.flips import flip, positions
from tests import unliftable
from tests.commands import invoke
from tests.formats import torch_zoo
from tests.networks import export, floats, images, net, script

Strike = Callable[[np.ndarray, np.random.Generator], None]


def one(bit: int) -> Strike:
    """Flip a bit of one of the larger values."""

    def do(codes: np.ndarray, rng: np.random.Generator) -> None:
        large = np.argsort(codes & codes.dtype.type(2 ** (8 * codes.itemsize - 1) - 1))[-max(1, codes.size // 3):]
        codes[int(rng.choice(large))] ^= codes.dtype.type(1 << bit)

    return do


def many(ber: float) -> Strike:
    def do(codes: np.ndarray, rng: np.random.Generator) -> None:
        flip(codes, positions(rng, codes.size * codes.itemsize * 8, ber))

    return do


def swapped(codes: np.ndarray, rng: np.random.Generator) -> None:
    codes[:] = codes.byteswap()


def late(codes: np.ndarray, rng: np.random.Generator) -> None:
    codes.view(np.uint8)[:-3] = codes.view(np.uint8)[3:]


def weights(path: Path) -> list[Held]:
    return [h for h in stored.held(path) if h.role == "weight"]


def struck(source: Path, out: Path, strike: Strike, seed: int = 0, which: int | None = 0) -> list[str]:
    """Write a copy with a weight struck, or with all of them; their names."""
    (shutil.copytree if source.is_dir() else shutil.copy)(source, out)
    chosen = weights(source) if which is None else [weights(source)[which]]
    rng = np.random.default_rng(seed)
    for tensor in chosen:
        values = np.ascontiguousarray(stored.laid(tensor, stored.read(tensor)))
        strike(values.view(f"u{values.itemsize}").reshape(-1), rng)
        back = values if tensor.order is None else values.transpose(np.argsort(tensor.order))
        stored.patch(out / tensor.path.relative_to(source), tensor, back)
    return [h.name for h in chosen]


def mended(source: Path, target: Path, out: Path, options: Options, layers: int = 1) -> Report:
    """The report of a repair that found nothing but storage faults, wrote the file, and has nothing more to repair."""
    report = repair(source, target, options, RepairOptions(apply=True, output=out))
    assert report.verdict is Verdict.REPAIRED, report.reason
    assert {f.code for f in report.findings} == {"st-storage"} and len(report.findings) == layers
    assert {r.code for r in report.repairs if r.status == "kept"} == {"st-storage"}
    assert report.after is not None and report.samples.heldout > 0
    if target.suffix != ".onnx":
        return report  # the others take long to start, and the engine is the same
    again = repair(source, out, options, RepairOptions(apply=True, output=out.with_name(f"again-{out.name}")))
    assert again.verdict is Verdict.EQUIVALENT and again.repairs == [] and again.output is None
    assert not out.with_name(f"again-{out.name}").exists()
    return report


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("struck")
    module = net()
    export(module, folder / "net.onnx")
    script(module, folder / "net.pt")
    torch_zoo.save("torch-state-dict", folder).rename(folder / "small.pth")
    np.save(folder / "x.npy", floats(images(60)))
    np.save(folder / "small.npy", np.random.default_rng(1).random((60, 1, 8, 8), np.float32))
    unliftable.saved(folder / "forked.pth")
    unliftable.exported(folder / "plain.onnx")
    unliftable.pictures(folder / "pictures.npy", 40)
    return folder


ONNX: dict[str, Strike] = {
    "mantissa": one(20), "exponent": one(26), "top of the exponent": one(30), "sign": one(31), "bytes swapped": swapped,
    "3 bytes late": late,
}  # fmt: skip


@pytest.mark.parametrize("kind", ONNX)
def test_onnx(place: Path, tmp_path: Path, kind: str) -> None:
    names = struck(place / "net.onnx", tmp_path / "t.onnx", ONNX[kind], seed=len(kind), which=1)
    mended(place / "net.onnx", tmp_path / "t.onnx", tmp_path / "out.onnx", Options(data=place / "x.npy", samples=60))
    held = {h.name: h for h in weights(tmp_path / "out.onnx")}
    source = {h.name: h for h in weights(place / "net.onnx")}
    for name in names:
        wanted = stored.read(source[name])
        np.testing.assert_allclose(stored.read(held[name]), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("source", "ber", "seed"), [("net.onnx", 1e-3, 0), ("net.onnx", 2e-2, 1), ("net.pt", 3e-4, 2)])
def test_many_flips_in_all_weights(place: Path, tmp_path: Path, source: str, ber: float, seed: int) -> None:
    """Also between formats: the ONNX export has the BatchNormalization folded, the TorchScript target has not."""
    target = tmp_path / f"t{Path(source).suffix}"
    struck(place / source, target, many(ber), seed, which=None)
    mended(place / "net.onnx", target, tmp_path / f"out{target.suffix}", Options(data=place / "x.npy", samples=60), 4)


def test_a_state_dict(place: Path, tmp_path: Path) -> None:
    options = Options(data=place / "small.npy", samples=40, source_arch=torch_zoo.ARCH, target_arch=torch_zoo.ARCH)
    struck(place / "small.pth", tmp_path / "t.pth", one(27), which=1)
    mended(place / "small.pth", tmp_path / "t.pth", tmp_path / "out.pth", options)


def test_tflite_int8(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tfzoo("tflite_edit_models")
    np.save(tmp_path / "x.npy", np.load(folder / "samples.npz")["images"])
    struck(folder / "int8.tflite", tmp_path / "t.tflite", many(2e-2), seed=3, which=4)
    options = Options(data=tmp_path / "x.npy", samples=40)
    mended(folder / "int8.tflite", tmp_path / "t.tflite", tmp_path / "out.tflite", options)


@pytest.mark.parametrize(("source", "target", "which"), [
    ("net.h5", "net.h5", 0), ("net.tflite", "net.keras", 1), ("net.keras", "saved", 2)])
def test_keras_and_tensorflow(
    tfzoo: Callable[[str], Path], tmp_path: Path, source: str, target: str, which: int
) -> None:
    """Also from a source in another format, whose weights lie in another layout; .keras and SavedModels keep checksums.

    That these are those of the struck bytes is what faults before a file is written look like.
    """
    folder, struck_one = tfzoo("convert"), tmp_path / f"t{Path(target).suffix}"
    struck(folder / target, struck_one, one(27), which=which)
    options = Options(data=folder / "samples.npy", samples=40)
    mended(folder / source, struck_one, tmp_path / f"out{struck_one.suffix}", options)


@pytest.mark.parametrize("seed", range(3))
def test_flips_without_an_effect_are_passed_over(place: Path, tmp_path: Path, seed: int) -> None:
    struck(place / "net.onnx", tmp_path / "t.onnx", one(seed), seed, which=seed)
    report = repair(place / "net.onnx", tmp_path / "t.onnx", Options(data=place / "x.npy", samples=40))
    assert report.verdict is Verdict.EQUIVALENT and report.findings == report.repairs == []


def test_a_guard_where_the_source_has_no_weights_to_copy(place: Path, tmp_path: Path) -> None:
    """The network cannot be looked into; what reads as 10^38 becomes 0, and that is said to be a loss."""
    struck(place / "forked.pth", tmp_path / "t.pth", one(30), which=0)
    options = Options(data=place / "pictures.npy", samples=40, target_arch="tests.unliftable:forked", gate="numeric",
                      exhibits=True)
    wanted = RepairOptions(apply=True, output=tmp_path / "out.pth", journal=tmp_path / "journal.jsonl")
    report = repair(place / "plain.onnx", tmp_path / "t.pth", options, wanted)
    assert report.verdict is Verdict.PARTLY_REPAIRED and "lossy" in report.reason
    (kept,) = [r for r in report.repairs if r.status == "kept"]
    assert kept.code == "st-storage" and kept.edits[0]["kind"] == "guard" and kept.edits[0]["lossy"] is True
    assert report.agreement is not None and report.after is not None
    assert report.agreement.tolerance < report.after.max_abs < 0.2 * report.agreement.max_abs
    assert kept.edits[0]["tensors"] == {weights(place / "forked.pth")[0].name: 1}
    shown = report.exhibits
    assert shown is not None and len(shown.neighbourhoods) == len(report.findings) > 1
    assert {report.findings[i].code for r in shown.layers for i in r.findings} == {"cg-native"}
    assert all(d.after for d in shown.differing) and all(r.after is None for r in shown.layers)
    assert sum(changes(tmp_path / "out.pth", place / "forked.pth")) == 1
    assert [e["how"] for e in journal_of(tmp_path / "journal.jsonl") if e["event"] == "restoration"] == ["guard"]


def changes(one: Path, other: Path) -> list[int]:
    """How many values differ in each tensor."""
    pairs = zip(stored.held(one), stored.held(other), strict=True)
    return [int(np.count_nonzero(stored.read(a) != stored.read(b))) for a, b in pairs]


def test_the_sidecar_from_the_command_line(place: Path, tmp_path: Path) -> None:
    """It comes before the guard, and restores every bit."""
    names = struck(place / "forked.pth", tmp_path / "t.pth", many(1e-3), which=None)
    with (tmp_path / f"t.pth{sidecar.SUFFIX}").open("wb") as out:
        sidecar.write(place / "forked.pth", out)
    done = invoke(tmp_path, "repair", place / "plain.onnx", "t.pth", "--target-arch", "tests.unliftable:forked",
                  "--data", place / "pictures.npy", "--samples", 40, "--no-plan", "--apply", "-o", "out.pth")
    assert done.code == 0 and "REPAIRED" in done.text and "st-storage" in done.text, done.text
    assert f"restored bit by bit from t.pth{sidecar.SUFFIX}" in done.text and names[0] in done.text
    assert (tmp_path / "out.pth").read_bytes() == (place / "forked.pth").read_bytes()


def test_a_sidecar_of_a_sound_file_changes_nothing(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "net.onnx", tmp_path / "t.onnx")
    with (tmp_path / f"t.onnx{sidecar.SUFFIX}").open("wb") as out:
        sidecar.write(tmp_path / "t.onnx", out)
    assert list(restorations(tmp_path / "t.onnx", tmp_path)) == []


def test_a_sidecar_of_another_file_is_left(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "net.onnx", tmp_path / "t.onnx")
    with (tmp_path / f"t.onnx{sidecar.SUFFIX}").open("wb") as out:
        sidecar.write(place / "plain.onnx", out)
    assert list(restorations(tmp_path / "t.onnx", tmp_path)) == []


def test_what_is_more_than_a_sidecar_mends_is_said(place: Path, tmp_path: Path) -> None:
    struck(place / "net.onnx", tmp_path / "t.onnx", many(6e-3), which=None)
    with (tmp_path / f"t.onnx{sidecar.SUFFIX}").open("wb") as out:
        sidecar.write(place / "net.onnx", out)
    found = {r.how: r for r in restorations(tmp_path / "t.onnx", tmp_path)}
    assert found["sidecar"].lossy and "restored in part" in found["sidecar"].words
    assert found["guard"].lossy and sum(changes(found["sidecar"].path, place / "net.onnx")) > 0


def test_a_target_that_does_not_open_names_its_sidecar(place: Path, tmp_path: Path) -> None:
    data = bytearray((place / "net.onnx").read_bytes())
    data[:4] = b"\xff\xff\xff\xff"
    (tmp_path / "t.onnx").write_bytes(data)
    with (tmp_path / f"t.onnx{sidecar.SUFFIX}").open("wb") as out:
        sidecar.write(place / "net.onnx", out)
    report = repair(place / "net.onnx", tmp_path / "t.onnx", Options(data=place / "x.npy", samples=20))
    assert report.verdict is Verdict.UNDECIDED and "harden --restore" in report.notes[0]
    done = invoke(tmp_path, "harden", "--restore", "t.onnx", "-o", "whole.onnx")
    assert done.code == 0 and (tmp_path / "whole.onnx").read_bytes() == (place / "net.onnx").read_bytes()
