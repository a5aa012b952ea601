"""Bad input ends in a clear message and the right exit code, and leaves every file as it was."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import Done, alive, children, cpu_seconds, run, start, state, wait_until
from tests.small_models import cnn, node, save, weights

SIZE = (3, 16, 16)
LOADERS = """
import sys
import numpy as np
def good(): return np.random.default_rng(0).normal(size=(20, 3, 16, 16)).astype("float32")
def bad(): raise ValueError("the database is away")
def none(): return []
def quits(): sys.exit(0)
"""


class Exploit:
    """Pickles as a shell command that leaves a marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair of models, samples, and everything that can be wrong with either."""
    folder = tmp_path_factory.mktemp("bad")
    cnn(folder / "s.onnx")
    cnn(folder / "t.onnx", change={"b1": weights()["b1"] * 3})
    _models(folder)
    _files(folder)
    _torch_files(folder)
    _data(folder)
    return folder


def _models(folder: Path) -> None:
    """Models that do not fit the pair, that answer NaN, that fail when they run."""
    mean = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"])]
    save(folder / "gray.onnx", [*mean, node("Identity", ["f"], ["y"])], {"x": ["N", 1, 16, 16]}, {"y": ["N", 1]})
    save(folder / "two.onnx", [node("Add", ["a", "b"], ["y"])], {"a": ["N", *SIZE], "b": ["N", *SIZE]},
         {"y": ["N", *SIZE]})
    save(folder / "finite.onnx", [*mean, node("Identity", ["f"], ["y"])], {"x": ["N", *SIZE]}, {"y": ["N", 3]})
    for name, op in (("nan.onnx", "Log"), ("inf.onnx", "Reciprocal")):
        constant = np.float32([9.0 if op == "Log" else 0.0])
        last = [node("Sub" if op == "Log" else "Mul", ["f", "c"], ["d"]), node(op, ["d"], ["y"])]
        save(folder / name, [*mean, *last], {"x": ["N", *SIZE]}, {"y": ["N", 3]}, {"c": constant})
    last = node("ArgMax", ["f"], ["y"], axis=1, keepdims=0)
    save(folder / "labels.onnx", [*mean, last], {"x": ["N", *SIZE]}, {"y": ["N"]}, integers=["y"])
    last = node("ReduceSum", ["f"], ["y"], keepdims=0)
    save(folder / "scalar.onnx", [*mean, last], {"x": ["N", *SIZE]}, {"y": []})
    save(folder / "fails.onnx", [mean[0], node("Reshape", ["p", "s"], ["y"])], {"x": ["N", *SIZE]}, {"y": ["N", 5]},
         {"s": np.array([-1, 5])})


def _files(folder: Path) -> None:
    """Files that are no models, and configurations with mistakes."""
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes((folder / "s.onnx").read_bytes()[:700])
    (folder / "text.onnx").write_text("This is no model.\n")
    (folder / "random.pt").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "folder").mkdir()
    shutil.copy(folder / "s.onnx", folder / "folder" / "inside.onnx")
    (folder / "unknown.yaml").write_text("source: s.onnx\ntarget: t.onnx\nsampels: 5\n")
    (folder / "broken.yaml").write_text("source: s.onnx\ntarget: [t.onnx\nsamples: 5\n")
    (folder / "type.yaml").write_text("source: s.onnx\ntarget: t.onnx\nsamples: many\n")
    (folder / "preset.yaml").write_text("source: {model: s.onnx, preprocess: torchvison}\ntarget: t.onnx\n")
    (folder / "nothing.yaml").touch()


def _torch_files(folder: Path) -> None:
    """PyTorch files cut in the middle, a bare state dict, and one that would run a command."""
    import torch

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10)).eval()
    torch.save(module, folder / "module.pt")
    torch.save(module.state_dict(), folder / "state.pth")
    torch.jit.script(module).save(str(folder / "script.pt"))  # type: ignore[no-untyped-call]
    torch.export.save(torch.export.export(module, (torch.zeros(2, *SIZE),)), folder / "exported.pt2")
    for name in ("module.pt", "state.pth", "script.pt", "exported.pt2"):
        content = (folder / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(content[: len(content) // 2])
    torch.save(Exploit(folder / "harmed"), folder / "evil.pt")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Exploit(folder / "harmed")))


def _data(folder: Path) -> None:
    """Samples, good and bad."""
    rng = np.random.default_rng(5)
    x = (rng.uniform(0, 1, (40, 3, 1, 1)) + rng.normal(size=(40, *SIZE)) * 0.2).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "shape.npy", x[:, :, :9])
    np.save(folder / "none.npy", x[:0])
    np.save(folder / "number.npy", np.float32(3))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(folder / "objects.npz", x=np.array([{"a": 1}], object))
    np.savez(folder / "missing.npz", p=x, q=x)
    np.savez(folder / "misspelt.npz", xx=x, other=x)
    np.savez(folder / "extra.npz", x=x, other=x)
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:5000])
    (folder / "cut.npz").write_bytes((folder / "extra.npz").read_bytes()[:5000])
    (folder / "loaders.py").write_text(LOADERS)
    for name, good in (("mixed", 6), ("rotten", 1), ("hopeless", 0)):
        (folder / name).mkdir()
        for i in range(good):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
        (folder / name / "text.jpg").write_text("no image")
        (folder / name / "zero.jpg").touch()
        (folder / name / "cut.png").write_bytes((folder / "mixed" / "0.png").read_bytes()[:200])
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "photo.jpg")
    (folder / "imageless").mkdir()
    (folder / "imageless" / "readme.txt").write_text("no images here")


def refused(place: Path, code: int, words: list[str], *args: object) -> Done:
    """Run and see that it ends with this code and these words, and that nothing changed on the disk."""
    before = state(place)
    done = run(place, *args)
    assert done.code == code, done.text
    for word in words:
        assert word in done.text, (word, done.text)
    assert state(place) == before
    return done


MODELS: dict[str, list[str]] = {
    "none.onnx": ["none.onnx: there is no such file", "Expected ONNX"],
    "empty.onnx": ["empty.onnx: the file is empty (0 bytes)"],
    "cut.onnx": ["cut.onnx", "ends after 700 bytes", "copy or download it again"],
    "cut-module.pt": ["cut-module.pt", "cut off or damaged", "copy or download it again"],
    "cut-state.pth": ["cut-state.pth", "cut off or damaged"],
    "cut-script.pt": ["cut-script.pt", "cut off or damaged"],
    "cut-exported.pt2": ["cut-exported.pt2", "cut off or damaged"],
    "text.onnx": ["text.onnx: this is a text file", "Expected ONNX"],
    "photo.jpg": ["photo.jpg: this is a JPEG image; give it as --data"],
    "random.pt": ["random.pt: this is of no known format", "Expected ONNX"],
    "folder": ["folder: this is a folder", "the folder holds inside.onnx"],
    "state.pth": ["state.pth", "tensors without the architecture", "--arch module:factory"],
    "evil.pt": ["evil.pt", "posix.system", "would run code from the file", "--trust"],
    "evil.pkl": ["evil.pkl", "a Python pickle that torch.save did not write"],
    "fails.onnx": ["fails.onnx: onnxruntime failed at a Reshape node", "requested shape:{-1,5}", "sample 1 of"],
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_used_leaves_the_question_undecided(place: Path, name: str) -> None:
    command = "localize" if name == "fails.onnx" else "check"
    done = refused(place, 3, MODELS[name], command, "s.onnx", name, "--samples", 8, "--json", "-")
    report = done.report
    assert (report["verdict"], report["target"]["path"], report["passed"]) == ("undecided", name, None)
    assert report["source"]["format"] == "onnx" and not (place / "harmed").exists()


def test_all_that_is_wrong_with_the_models_is_said(place: Path) -> None:
    refused(place, 3, ["empty.onnx: the file is empty", "none.pt: there is no such file"], "repair", "empty.onnx",
            "none.pt", "--apply")


DATA: dict[str, list[str]] = {
    "nowhere": ["nowhere: no such file or folder"],
    "x.npz": ["x.npz: no such file", "did you mean x.npy?"],
    "imageless": ["imageless: expected images", "found 1 other file(s)"],
    "hopeless": ["3 image file(s) in hopeless", "none of 3 samples can be read, expected at least 2",
                 "text.jpg: not an image of a known format", "zero.jpg: the file is empty", "cut.png: damaged"],
    "rotten": ["1 of 4 samples can be read, expected at least 2", "zero.jpg: the file is empty"],
    "s.onnx": ["s.onnx: expected a folder of images, an image, .npy or .npz, found a file that begins with"],
    "shape.npy": ["shape.npy", "expected [samples, 3, 16, 16] for input 'x', found [40, 3, 9, 16]", "resize the data"],
    "none.npy": ["none.npy: the array holds no samples", "axis 0 counts the samples"],
    "number.npy": ["number.npy: the array is a single number"],
    "text.npy": ["text.npy: expected real numbers", "found <U1"],
    "cut.npy": ["cut.npy: damaged or truncated"],
    "cut.npz": ["cut.npz: damaged or truncated"],
    "objects.npy": ["objects.npy: it holds Python objects, and unpickling them would run code"],
    "objects.npz": ["objects.npz: it holds Python objects, and unpickling them would run code"],
    "missing.npz": ["missing.npz", "no array for input 'x'; known: p, q"],
    "misspelt.npz": ["misspelt.npz", "no array for input 'x'; did you mean 'xx'?"],
    "loaders.py": ["loaders.py", "found a file that begins with", "loaders.py:function, and needs --trust"],
    "loaders.py:good": ["loaders.py:good runs Python code", "--trust"],
}
TRUSTED = {
    "loaders.py:bad": ["loader loaders.py:bad raised ValueError: the database is away"],
    "loaders.py:none": ["loader loaders.py:none gave no samples"],
    "loaders.py:quits": ["loader loaders.py:quits raised SystemExit: 0"],
    "loaders.py:god": ["loaders.py has no function 'god'; did you mean 'good'?"],
    "nowhere:load": ["cannot import 'nowhere'"],
}


@pytest.mark.parametrize("data", [*DATA, *TRUSTED])
def test_data_that_cannot_be_used(place: Path, data: str) -> None:
    words, trust = (TRUSTED[data], ["--trust"]) if data in TRUSTED else (DATA[data], [])
    done = refused(place, 2, words, "check", "s.onnx", "t.onnx", "--data", data, "--json", "-", *trust)
    assert done.stdout == ""


def test_corrupt_images_are_named_skipped_and_counted(place: Path) -> None:
    done = refused(place, 0, [], "check", "s.onnx", "s.onnx", "--data", "mixed", "--json", "-")
    samples = done.report["samples"]
    assert samples["search"] + samples["heldout"] == done.report["agreement"]["samples"] == 6
    assert [s.partition(":")[0] for s in samples["skipped"]] == ["cut.png", "text.jpg", "zero.jpg"]
    text = refused(place, 0, ["text.jpg: not an image"], "check", "s.onnx", "s.onnx", "--data", "mixed").text
    assert "samples 6, from 9 image file(s)" in text and "skipped 3: cut.png: damaged" in text


def test_superfluous_arrays_are_noted(place: Path) -> None:
    done = refused(place, 0, [], "check", "s.onnx", "s.onnx", "--data", "extra.npz", "--json", "-")
    assert any("unused array(s) other" in note for note in done.report["notes"])


@pytest.mark.parametrize("target", ["gray.onnx", "two.onnx"])
def test_models_whose_inputs_do_not_match(place: Path, target: str) -> None:
    refused(place, 2, ["the models' inputs do not match", "Expected (source s.onnx): x float32[N, 3, 16, 16]",
                       f"found (target {target})"], "check", "s.onnx", target)


def test_outputs_that_do_not_belong_together(place: Path) -> None:
    report = refused(place, 3, [], "repair", "finite.onnx", "labels.onnx", "--samples", 8, "--json", "-").report
    assert "no output of the target ('y') could be bound to one of the source ('y')" in report["reason"]
    report = refused(place, 1, [], "repair", "finite.onnx", "scalar.onnx", "--samples", 8, "--json", "-",
                     "--no-plan").report
    assert "a sample is [] in the target, [3] in the source. No part of the target" in report["reason"]


@pytest.mark.parametrize("name", ["nan.onnx", "inf.onnx"])
def test_outputs_that_are_not_finite(place: Path, name: str) -> None:
    target = refused(place, 1, [], "check", "finite.onnx", name, "--samples", 8, "--json", "-").report
    assert target["verdict"] == "divergent" and "the target's output 'y' holds NaN or infinity" in target["reason"]
    for command in (["check"], ["localize"], ["repair", "--apply", "-o", "never.onnx"]):
        source = refused(place, 3, [], *command, name, "finite.onnx", "--samples", 8, "--json", "-").report
        assert source["verdict"] == "undecided" and "the source's own output 'y' holds NaN" in source["reason"]
        assert source["findings"] == source["repairs"] == []


USAGE: dict[str, tuple[list[str], list[str]]] = {
    "no sample": (["check", "s.onnx", "t.onnx", "--samples", "0"], ["--samples", "0 is not in the range x>=1"]),
    "one model": (["check", "s.onnx"], ["only one model given (s.onnx)"]),
    "no model": (["repair", "--apply"], ["no models given, and there is no fetafix.yaml here"]),
    "unknown key": (["check", "-c", "unknown.yaml"], ["unknown.yaml, line 3", "'sampels'; did you mean 'samples'?"]),
    "broken YAML": (["check", "-c", "broken.yaml"], ["broken.yaml, line 3, column 8", "expected ',' or ']'"]),
    "wrong type": (["check", "-c", "type.yaml"], ["type.yaml, line 3: samples: expected", "got `str`"]),
    "empty file": (["check", "-c", "nothing.yaml"], ["nothing.yaml", "source and target", "found nothing"]),
    "no such file": (["check", "-c", "nowhere.yaml"], ["nowhere.yaml cannot be read"]),
    "preset": (["check", "-c", "preset.yaml"], ["preset.yaml: source", "'torchvison'; did you mean 'torchvision'?"]),
    "field": (["check", "s.onnx", "t.onnx", "--preprocess", "scal=2"], ["unknown preprocessing key 'scal'"]),
    "gate": (["check", "s.onnx", "t.onnx", "--gate", "label"], ["'label' is not one of 'labels', 'task', 'numeric'"]),
    "command": (["chek", "s.onnx", "t.onnx"], ["No such command 'chek'; did you mean 'check'?"]),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(place: Path, case: str) -> None:
    args, words = USAGE[case]
    assert refused(place, 2, words, *args).stdout == ""


REPAIR = ["repair", "s.onnx", "t.onnx", "--data", "x.npy"]
OUTPUTS: dict[str, tuple[list[str], list[str]]] = {
    "no folder": (["--apply", "-o", "no/o.onnx"], ["no/o.onnx cannot be written: there is no folder"]),
    "a file as folder": (["--apply", "-o", "x.npy/o.onnx"], ["x.npy/o.onnx cannot be written", "x.npy is a file"]),
    "a folder": (["--apply", "-o", "folder"], ["folder cannot be written: expected a file name, found a folder"]),
    "the source": (["--apply", "-o", "s.onnx"], ["that is the source; originals are never changed"]),
    "the target": (["--apply", "-o", "folder/../t.onnx"], ["that is the target; originals are never changed"]),
    "the data": (["--apply", "-o", "x.npy"], ["that is the data; originals are never changed"]),
    "journal": (["--apply", "--journal", "no/j"], ["no/j cannot be written: there is no folder"]),
    "journal over a model": (["--apply", "--journal", "t.onnx"], ["the journal cannot be written to t.onnx"]),
    "journal in the output": (["--apply", "-o", "o", "--journal", "o"], ["the journal cannot be written to o"]),
    "report": (["--json", "no/r.json"], ["no/r.json cannot be written: there is no folder"]),
    "report over a model": (["--json", "s.onnx"], ["the report cannot be written to s.onnx: that is the source"]),
    "plan": (["--save-plan", "folder"], ["folder cannot be written: expected a file name, found a folder"]),
    "plan over a model": (["--save-plan", "t.onnx"], ["the plan cannot be written to t.onnx: that is the target"]),
    "plan over a file": (["--save-plan", "type.yaml"], ["type.yaml is a file that is no plan, which is kept"]),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_that_cannot_be_written(place: Path, case: str) -> None:
    args, words = OUTPUTS[case]
    assert refused(place, 2, words, *REPAIR, *args).stdout == ""


def test_a_link_to_an_original_is_the_original(place: Path, tmp_path: Path) -> None:
    for make in (os.symlink, os.link):
        link = tmp_path / make.__name__
        make(place / "t.onnx", link)
        refused(place, 2, ["that is the target"], *REPAIR, "--apply", "-o", link)


@pytest.fixture(scope="module")
def plan(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan for the pair, nothing in it decided."""
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    assert run(place, *REPAIR, "--save-plan", path).code == 0
    return path


def test_plans_that_cannot_be_applied(place: Path, plan: Path, tmp_path: Path) -> None:
    apply = [*REPAIR, "--apply", "-o", tmp_path / "o.onnx", "--plan"]
    refused(place, 2, ["the plan nowhere.json cannot be read"], *apply, "nowhere.json")
    refused(place, 2, ["type.yaml is no repair plan"], *apply, "type.yaml")
    refused(place, 2, ["none of them approved (1 undecided)", '"approved": true'], *apply, plan)
    data = json.loads(plan.read_text())
    data["entries"][0]["approved"] = True
    approved, altered = tmp_path / "approved.json", tmp_path / "altered.json"
    approved.write_text(json.dumps(data))
    refused(place, 2, ["the plan was made for another target", "SHA-256", "Make a new plan"],
            "repair", "s.onnx", "s.onnx", "--data", "x.npy", *apply[5:], approved)
    data["entries"][0]["edits"][0]["slot"] = 1
    altered.write_text(json.dumps(data))
    refused(place, 2, ["its content does not match its id"], *apply, altered)
    refused(place, 2, ["approved.json is a plan with decisions in it, which is kept"], *REPAIR, "--save-plan", approved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["altered.json", "approved.json"]


LARGE = [node("Resize", ["x", "", "zoom"], ["large"]), node("Conv", ["large", "w"], ["c"]),
         node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0)]


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a pair of models that take some ten milliseconds a sample."""
    tensors = {"zoom": np.float32([1, 1, 32, 32]), "w": weights()["w1"]}
    for name in ("a.onnx", "b.onnx"):
        save(tmp_path / name, LARGE, {"x": ["N", *SIZE]}, {"y": ["N", 8]}, tensors)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2000, *SIZE)).astype(np.float32))
    return tmp_path


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
MANY = ["--data", "x.npy", "--samples", 2000, "--batch", 1]


@linux
@pytest.mark.parametrize("command", [["check"], ["repair", "--apply", "-o", "o.onnx"]], ids=["check", "repair"])
def test_ctrl_c_ends_it_all(slow: Path, command: list[str]) -> None:
    before = state(slow)
    process = start(slow, *command, "a.onnx", "b.onnx", *MANY, "--json", "r.json")
    wait_until(lambda: len(children(process.pid)) == 2 and all(cpu_seconds(p) > 1 for p in children(process.pid)))
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    wait_until(lambda: not any(map(alive, workers)))
    assert state(slow) == before


@linux
@pytest.mark.parametrize("part", range(4))
def test_ctrl_c_at_any_time_leaves_whole_files(place: Path, tmp_path: Path, part: int) -> None:
    before = state(place)
    out = tmp_path / "o.onnx"
    process = start(place, *REPAIR, "--apply", "-o", out, "--json", tmp_path / "r.json")
    spent = 0.2 + 0.2 * part
    wait_until(lambda: process.poll() is not None or cpu_seconds(process.pid) >= spent)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT)  # done before, caught, or while Python itself started
    assert state(place) == before
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {"o.onnx", "o.onnx.journal.jsonl", "r.json"}
    if "o.onnx" in left:
        assert run(place, "check", "s.onnx", out, "--data", "x.npy").code == 0
    if "r.json" in left:
        json.loads((tmp_path / "r.json").read_text())


@linux
def test_a_worker_that_is_killed_is_a_result_about_its_model(slow: Path) -> None:
    before = state(slow)
    process = start(slow, "check", "a.onnx", "b.onnx", *MANY, "--json", "-")
    wait_until(lambda: len(children(process.pid)) == 2 and all(cpu_seconds(p) > 1 for p in children(process.pid)))
    workers = children(process.pid)
    os.kill(workers[1], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    report = json.loads(out)
    assert process.returncode == 3 and report["verdict"] == "undecided"
    assert "b.onnx: its runtime was killed by SIGKILL while running sample" in report["reason"]
    assert "try a smaller batch" in report["reason"] and report["source"]["format"] == "onnx"
    wait_until(lambda: not any(map(alive, workers)))
    assert state(slow) == before
