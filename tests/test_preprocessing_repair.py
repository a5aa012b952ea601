"""Preprocessing mistakes, inferred from two models and a folder of images: mended as configuration or in the graph."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from fetafix import config
from fetafix import plan as plans
from tests.commands import invoke, state
from tests.networks import Change, edited, export, floats, images, net, script, weight

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _channels(*values: float) -> np.ndarray[Any, Any]:
    return np.float32(values).reshape(1, -1, 1, 1)


def before_all(nodes: list[onnx.NodeProto], **tensors: np.ndarray[Any, Any]) -> Change:
    """Nodes from the tensor `image` to `prepared`, in front of everything."""

    def do(model: onnx.ModelProto) -> None:
        graph = model.graph
        for n in graph.node:
            n.input[:] = ["prepared" if i == "image" else i for i in n.input]
        for i, n in enumerate(nodes):
            graph.node.insert(i, n)
        graph.initializer.extend([numpy_helper.from_array(v, k) for k, v in tensors.items()])

    return do


RESCALE = before_all([helper.make_node("Mul", ["image", "k"], ["prepared"], name="rescale")], k=np.float32(1 / 255))
NORMALISE = before_all(
    [helper.make_node("Sub", ["image", "mean"], ["centred"], name="sub"),
     helper.make_node("Div", ["centred", "std"], ["prepared"], name="div")],
    mean=_channels(*MEAN), std=_channels(*STD))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that takes 0…1, edited copies, and images."""
    folder = tmp_path_factory.mktemp("pair")
    module = net()
    source = export(module, folder / "source.onnx")
    script(module, folder / "source.pt")
    shutil.copy(source, folder / "target.onnx")
    stem = next(t.name for t in onnx.load(source).graph.initializer if list(t.dims) == [12, 3, 3, 3])
    edited(source, folder / "bgr-weights.onnx", weight(stem, lambda v: v[:, ::-1]))
    edited(source, folder / "rescaling.onnx", RESCALE)
    edited(source, folder / "normalising.onnx", NORMALISE)
    (folder / "images").mkdir()
    pixels = images(48)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{i:02}.png")
    np.save(folder / "x.npy", floats(pixels))
    return folder


def tell(place: Path, code: int, command: str, source: str, target: object, *args: object) -> dict[str, Any]:
    """The report of a run over the images."""
    plan = ("--no-plan",) if command == "repair" and "--apply" not in args and "--save-plan" not in args else ()
    data = () if "--data" in args else ("--data", "images")
    done = invoke(place, command, source, target, *data, *args, *plan, "--json", "-")
    assert done.code == code, done.text
    return done.report


def kept(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [r for r in report["repairs"] if r["status"] == "kept"]


WRONG: dict[str, tuple[str, str, str, str]] = {  # source's and target's preprocessing, the code, what to configure
    "bgr": ("unit", "unit,color=bgr", "pp-bgr", "color=rgb"),
    "range": ("unit", "raw", "pp-range", "scale=0.0039"),
    "mean and std": ("unit", "keras-torch", "pp-mean-std", "mean=0.0, std=1.0"),
    "shift before scale": ("keras-torch", "keras-torch,mean=[0.485/255,0.456/255,0.406/255]", "pp-scalar-std",
                           "mean=(0.485, 0.456, 0.406)"),
    "tf for torch": ("keras-torch", "keras-tf", "pp-mean-std", "mean=(0.485, 0.456, 0.406)"),
    "transposed": ("unit", "unit,transpose_hw=true", "pp-hw-swap", "transpose_hw=False"),
    "caffe": ("unit", "keras-caffe", "pp-mean-std", "color=rgb"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_named_and_the_right_one_proved(place: Path, case: str) -> None:
    ours, theirs, code, words = WRONG[case]
    before = state(place)
    report = tell(place, 0, "repair", "source.onnx", "target.onnx", "--source-preprocess", ours,
                  "--target-preprocess", theirs)
    assert report["verdict"] == "repaired" and report["after"]["top1"] == 1.0 > report["agreement"]["top1"]
    assert [f["code"] for f in report["findings"]] == [code]
    ((repair),) = kept(report)
    assert [e["kind"] for e in repair["edits"]] == ["set_preprocessing"]
    assert words in repair["edits"][0]["description"]
    note = next(n for n in report["notes"] if "--target-preprocess" in n)
    right = note.split('"')[1]
    assert state(place) == before
    again = tell(place, 0, "check", "source.onnx", "target.onnx", "--source-preprocess", ours,
                 "--target-preprocess", right, "--gate", "numeric")
    assert again["verdict"] == "equivalent"


@pytest.mark.parametrize("target", ["target.onnx", "source.pt"])
def test_applied_it_is_a_copy_of_the_model_and_a_configuration_beside_it(
    place: Path, tmp_path: Path, target: str
) -> None:
    before, out = state(place), tmp_path / f"out{Path(target).suffix}"
    report = tell(place, 0, "repair", "source.onnx", target, "--source-preprocess", "unit", "--target-preprocess",
                  "unit,color=bgr", "--apply", "-o", out)
    snippet = tmp_path / f"{out.name}.preprocess.yaml"
    assert report["output"]["path"] == str(out) and any(str(snippet) in n for n in report["notes"])
    assert {p.name for p in tmp_path.iterdir()} == {out.name, snippet.name, f"{out.name}.journal.jsonl"}
    if target.endswith(".onnx"):
        assert onnx.load(out).graph == onnx.load(place / target).graph
    pair = config.load(snippet).pair()
    assert pair.models()[1].preprocess["color"] == "rgb"
    assert state(place) == before
    again = invoke(tmp_path, "check", "-c", snippet, "--json", "-")
    assert (again.code, again.report["verdict"]) == (0, "equivalent"), again.text
    assert snippet.name in Path(report["journal"]).read_text()


@pytest.mark.parametrize(("case", "target"), [*((case, "target.onnx") for case in WRONG), ("bgr", "source.pt")])
def test_baked_it_is_in_the_graph(place: Path, tmp_path: Path, case: str, target: str) -> None:
    ours, theirs, code, _ = WRONG[case]
    both = ("--source-preprocess", ours, "--target-preprocess", theirs)
    out = tmp_path / f"out{Path(target).suffix}"
    report = tell(place, 0, "repair", "source.onnx", target, *both, "--bake", "--apply", "-o", out)
    assert report["verdict"] == "repaired" and code in [f["code"] for f in report["findings"]]
    kinds = {e["kind"] for r in kept(report) for e in r["edits"]}
    assert kinds and "set_preprocessing" not in kinds
    assert all(e["kind"] != "set_preprocessing" for r in report["repairs"] for e in r["edits"])
    assert {p.name for p in tmp_path.iterdir()} == {out.name, f"{out.name}.journal.jsonl"}
    assert tell(place, 0, "check", "source.onnx", out, *both)["verdict"] == "equivalent"


GRAPHS: dict[str, tuple[str, str, str]] = {  # source, target, code; both are prepared alike
    "first weights in BGR": ("source.onnx", "bgr-weights.onnx", "pp-bgr"),
    "rescaled twice": ("source.onnx", "rescaling.onnx", "pp-double-rescale"),
    "rescaling lost": ("rescaling.onnx", "source.onnx", "pp-double-rescale"),
    "normalisation lost": ("normalising.onnx", "source.onnx", "pp-mean-std"),
    "normalised twice": ("source.onnx", "normalising.onnx", "pp-mean-std"),
}


@pytest.mark.parametrize("how", [[], ["--bake"]], ids=["configured", "baked"])
@pytest.mark.parametrize("case", GRAPHS)
def test_a_graph_that_expects_other_input(place: Path, tmp_path: Path, case: str, how: list[str]) -> None:
    source, target, code = GRAPHS[case]
    given = "raw" if source == "rescaling.onnx" else "unit"
    out = tmp_path / "out.onnx"
    report = tell(place, 0, "repair", source, target, "--preprocess", given, "--apply", "-o", out, *how)
    assert report["verdict"] == "repaired" and [f["code"] for f in report["findings"]] == [code]
    if how:
        assert tell(place, 0, "check", source, out, "--preprocess", given)["verdict"] == "equivalent"
        superfluous = {"rescaled twice": "rescaling.onnx", "normalised twice": "normalising.onnx"}.get(case)
        if superfluous:  # nodes too many are taken out, not made up for by more of them
            assert len(onnx.load(out).graph.node) < len(onnx.load(place / superfluous).graph.node)
    else:
        assert invoke(tmp_path, "check", "-c", f"{out}.preprocess.yaml").code == 0


def test_arrays_have_no_configuration_so_the_graph_is_mended(place: Path, tmp_path: Path) -> None:
    for target, code in (("bgr-weights.onnx", "pp-bgr"), ("normalising.onnx", "pp-mean-std")):
        out = tmp_path / target
        report = tell(place, 0, "repair", "source.onnx", target, "--data", "x.npy", "--apply", "-o", out)
        assert report["verdict"] == "repaired" and [f["code"] for f in report["findings"]] == [code]
        assert all(e["kind"] != "set_preprocessing" for r in kept(report) for e in r["edits"])
        assert tell(place, 0, "check", "source.onnx", out, "--data", "x.npy")["verdict"] == "equivalent"


def test_approved_in_a_plan(place: Path, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    args = ("--source-preprocess", "unit", "--target-preprocess", "raw")
    tell(place, 0, "repair", "source.onnx", "target.onnx", *args, "--save-plan", plan)
    loaded, store = plans.load(plan)
    (entry,) = loaded.entries
    assert entry.code == "pp-range" and entry.edits[0]["kind"] == "set_preprocessing"
    plans.save(plans.decide(loaded, entry.id, True, by="Ada"), plan, store)
    report = tell(place, 0, "repair", "source.onnx", "target.onnx", *args, "--apply", "--plan", plan, "-o", out)
    assert report["verdict"] == "repaired" and (tmp_path / "out.onnx.preprocess.yaml").is_file()


HEALTHY = {
    "the same preprocessing": ("source.onnx", "target.onnx", "unit", "unit"),
    "rescaling in the target": ("source.onnx", "rescaling.onnx", "unit", "raw"),
    "normalisation in the target": ("source.onnx", "normalising.onnx", "keras-torch", "unit"),
    "normalisation in the source": ("normalising.onnx", "source.pt", "unit", "keras-torch"),
    "channels turned twice": ("source.onnx", "bgr-weights.onnx", "unit", "unit,color=bgr"),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_differs_legitimately_is_no_fault(place: Path, case: str) -> None:
    source, target, ours, theirs = HEALTHY[case]
    report = tell(place, 0, "repair", source, target, "--source-preprocess", ours, "--target-preprocess", theirs)
    assert report["verdict"] == "equivalent" and report["findings"] == report["repairs"] == []
