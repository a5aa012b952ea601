"""Other ways to decode, resize and crop: found where both recipes are known, mended in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fetafix import api
from fetafix.errors import EditError
from fetafix.faults import get
from fetafix.faults.pp_interp import whose
from fetafix.graph.recipes import DECODING, GEOMETRY, RESAMPLER
from fetafix.inject import inject
from fetafix.inputs import natural
from fetafix.inputs.decoding import Decoding, rgb
from fetafix.inputs.recipe import Preprocess
from fetafix.report import Verdict
from tests.faults.sites import cnn as classifier
from tests.small_models import cnn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, the same network in other layout, uint8 images of another shape than its input's, and files of them."""
    folder = tmp_path_factory.mktemp("policy")
    cnn(folder / "net.onnx")
    cnn(folder / "twin.onnx", layout="nhwc")
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", np.stack([natural.image(rng, 20, 28) for _ in range(16)]))
    files(folder / "files")
    return folder


def files(folder: Path) -> None:
    """Ordinary photographs, and five of each kind on which loaders differ."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(30):
        pixels = natural.image(rng, 16, 16)
        image, name = Image.fromarray(pixels), folder / f"{i:02}.png"
        kind, exif = ("plain", "exif", "alpha", "gray16", "palette", "cmyk")[i % 6], Image.Exif()
        if kind == "exif":
            exif[0x0112] = 6
            image.save(name.with_suffix(".jpg"), exif=exif, quality=95)
        elif kind == "alpha":
            image.putalpha(Image.fromarray(natural.image(rng, 16, 16)[:, :, 0]))
            image.save(name)
        elif kind == "gray16":
            Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(name)
        elif kind == "palette":
            image.quantize(32).save(name)
        elif kind == "cmyk":
            image.convert("CMYK").save(name.with_suffix(".jpg"), quality=95)
        else:
            image.save(name)


def go(folder: Path, source: str, target: str, command: str = "repair", data: str = "images.npy") -> api.Report:
    options = api.Options(data=folder / data, samples=30, threads=1, gate="numeric", source_preprocess=source,
                          target_preprocess=target)
    return getattr(api, command)(folder / "net.onnx", folder / "twin.onnx", options)  # type: ignore[no-any-return]


def kept(report: api.Report) -> str:
    (found,) = (r for r in report.repairs if r.status == "kept")
    return str(found.edits)


@pytest.mark.parametrize("target", ["keras-torch,interpolation=nearest"])
def test_the_policy_alone(folder: Path, target: str) -> None:
    report = go(folder, "torchvision", target)
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-resize-crop"]
    assert "resize is exact, in the source shorter" in report.findings[0].explanation
    assert "mean" not in kept(report)


@pytest.mark.parametrize("target", ["keras-caffe"])
def test_the_whole_recipe(folder: Path, target: str) -> None:
    report = go(folder, "torchvision", target)
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-resize-crop"]


def test_silent_where_the_recipes_agree_and_on_other_values(folder: Path) -> None:
    assert go(folder, "torchvision", "torchvision", "localize").findings == []
    codes = [f.code for f in go(folder, "keras-tf", "keras-torch", "localize").findings]
    assert codes and not {"pp-resize-crop", "pp-interp", "pp-decode"} & set(codes)


def drawn(code: str) -> list[dict[str, Any]]:
    """All changes that a fault type makes to a recipe."""
    graph, found = classifier(), list[dict[str, Any]]()
    for seed in range(60):
        edits = get(code).inject(graph, np.random.default_rng(seed))
        assert edits is not None
        changes = dict(edits[0].changes)  # type: ignore[union-attr]
        if changes not in found:
            found.append(changes)
    return found


def text(changes: dict[str, Any]) -> str:
    return ",".join(f"{k}={str(v).lower()}" for k, v in changes.items())


@pytest.mark.parametrize("number", [0, 4])
def test_the_resampler_alone(folder: Path, number: int) -> None:
    changes = drawn("pp-interp")[number]
    report = go(folder, "keras-torch", f"keras-torch,{text(changes)}")
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-interp"]
    assert report.findings[0].confidence >= 0.95 and set(RESAMPLER) & set(report.findings[0].evidence["source"])


def test_the_resampler_with_another_range(folder: Path) -> None:
    report = go(folder, "keras-torch", "unit,interpolation=nearest")
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-interp"]
    assert "mean" in kept(report)


def test_libraries_are_named() -> None:
    assert whose({"interpolation": "bilinear", "antialias": True}) == "Pillow, torchvision"
    assert whose({"interpolation": "bilinear", "antialias": False}) == "OpenCV, TensorFlow 2"
    assert whose({"interpolation": "bilinear", "coordinates": "asymmetric"}) == "TensorFlow 1"
    assert whose({"interpolation": "area"}) == "OpenCV's INTER_AREA" and whose({"interpolation": "nearest"}) == ""


@pytest.mark.parametrize("target", ["interpolation=bicubic,antialias=false", "coordinates=asymmetric"])
def test_images_of_the_right_size_are_not_resampled(folder: Path, target: str) -> None:
    report = go(folder, "unit", f"unit,{target}", data="files")
    assert report.verdict is Verdict.EQUIVALENT and report.findings == report.repairs == []


def test_antialiasing_does_nothing_where_images_grow(folder: Path, tmp_path: Path) -> None:
    np.save(folder / "tiny.npy", np.load(folder / "images.npy")[:, :12, :12])
    report = go(folder, "unit", "unit,antialias=false", data="tiny.npy")
    assert report.verdict is Verdict.EQUIVALENT and report.findings == report.repairs == []


@pytest.mark.parametrize("number", [0, 1])
def test_few_files_that_are_decoded_otherwise(folder: Path, number: int) -> None:
    changes = drawn("pp-decode")[number]
    report = go(folder, "unit", f"unit,{text(changes)}", data="files")
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-decode"]
    assert list(report.findings[0].evidence["source"]) == list(changes)
    assert 0 < report.findings[0].evidence["samples_changed"] < 4


def test_decoding_two_kinds_otherwise(folder: Path) -> None:
    report = go(folder, "unit", "unit,orientation=stored,cmyk=inverted", data="files")
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-decode"]


def test_without_such_files_decoding_is_the_same(folder: Path, tmp_path: Path) -> None:
    (folder / "plain").mkdir()
    for i in range(0, 30, 6):
        (folder / "plain" / f"{i:02}.png").write_bytes((folder / "files" / f"{i:02}.png").read_bytes())
    target = "unit,orientation=stored,alpha=white,gray16=clip,palette=codes,cmyk=inverted"
    report = go(folder, "unit", target, data="plain")
    assert report.verdict is Verdict.EQUIVALENT and report.findings == report.repairs == []


def test_what_decoding_does(folder: Path) -> None:
    def opened(kind: int, **how: Any) -> np.ndarray:
        name = next(p for p in (folder / "files").iterdir() if p.stem == f"{kind:02}")
        with Image.open(name) as image:
            return rgb(image, Decoding(**how))

    assert np.array_equal(opened(1), np.rot90(opened(1, orientation="stored"), -1))
    assert opened(2, alpha="white").mean() > opened(2).mean() > opened(2, alpha="black").mean()
    assert (opened(3, gray16="clip") >= opened(3)).all() and (opened(3, gray16="clip") == 255).mean() > 0.9
    assert opened(4, palette="codes").max() < 32 < opened(4).max()
    assert opened(5, cmyk="inverted").mean() < 20 < opened(5).mean()  # black ink everywhere
    for usual in (0, 6):
        ways = [opened(usual, **{k: v}) for k, v in (("alpha", "white"), ("cmyk", "inverted"), ("gray16", "clip"))]
        assert all(np.array_equal(w, opened(usual)) for w in ways)


def test_fields_of_a_recipe_are_all_of_one_kind() -> None:
    known = set(Preprocess.__struct_fields__)
    assert {*DECODING, *GEOMETRY} <= known and set(RESAMPLER) < set(GEOMETRY)


@pytest.mark.parametrize("code", ["pp-interp", "pp-decode", "pp-resize-crop"])
def test_no_model_can_hold_them(folder: Path, tmp_path: Path, code: str) -> None:
    with pytest.raises(EditError, match="--target-preprocess"):
        inject(folder / "net.onnx", code, 0, tmp_path / "out.onnx")
