"""Plans and runs for tests of reviews: small ones made by hand, and a really broken pair."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.edits import SetAttribute
from fetafix.formats import sha256
from fetafix.review.decisions import Decision, Desk, stamp

HOSTILE = "a\"'><script>alert(1)</script>\n\x1b[31m\u202e{{ 7*7 }}&lt;"
BIAS = ("head.bias", "wb-bias")


def plan_in(folder: Path, count: int = 3, name: str = "plan.json", layer: str = "Conv_{}") -> Path:
    """A plan of some entries for two files that are no models."""
    folder.mkdir(exist_ok=True)
    files = []
    for file, content in (("a.onnx", b"source"), ("b.onnx", b"target")):
        (folder / file).write_bytes(content)
        files.append(plans.File(path=file, sha256=sha256(folder / file)))
    store = ArrayStore()
    entries = [plans.entry("lh-dilation", [SetAttribute(layer.format(i), "dilations", (i, i))], store,
                           target_layer=layer.format(i), source_layer=layer.format(i), before=0.25, after=0.0,
                           why=f"because of {layer.format(i)}") for i in range(count)]  # fmt: skip
    plan = plans.Plan(source=files[0], target=files[1], seed=0, folder=str(folder), entries=entries)
    plans.save(plan, folder / name, store)
    return folder / name


def desk(plan: Path) -> Desk:
    """A desk with its journal beside the plan."""
    return Desk(plan, plan.with_name("journal.jsonl"))


def decision(entry: plans.Entry, approved: bool | None = True, by: str = "Ada", comment: str = "") -> Decision:
    """A decision on an entry as it is now."""
    return Decision(entry=entry.id, approved=approved, by=by, comment=comment, state=stamp(entry))


def pair(folder: Path) -> Path:
    """source.onnx, broken.onnx with a wrong bias and a wrong dilation, and x.npy, in a folder."""
    from tests.networks import attribute, edited, export, floats, images, net, weight  # which imports torch

    folder.mkdir(exist_ok=True)
    export(net(), folder / "source.onnx")
    dilation = [attribute(1, "Conv", name, value) for name, value in (("dilations", [1, 1]), ("pads", [1, 1, 1, 1]))]
    edited(folder / "source.onnx", folder / "broken.onnx", weight(BIAS[0], lambda v: np.roll(v, 1)), *dilation)
    np.save(folder / "x.npy", floats(images()))
    return folder


def copied(made: Path, folder: Path) -> Path:
    """A copy of a pair with its run in `run`, whose plan knows the copy's models."""
    shutil.copytree(made, folder)
    plan = folder / "run" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"folder": str(folder)}))
    return folder


def entries(folder: Path) -> dict[str, plans.Entry]:
    """What the run in a folder proposes, by code."""
    return {e.code: e for e in plans.read(folder / "run" / "plan.json").entries}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The weights of an ONNX file."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def nodes(path: Path) -> list[bytes]:
    """The nodes of an ONNX file, attributes and all."""
    return [n.SerializeToString() for n in onnx.load(path).graph.node]


def holds_only_the_bias(folder: Path) -> None:
    """out.onnx has the source's bias, and everything else as the target has it: the dilation, too."""
    out, broken, source = (tensors(folder / f"{name}.onnx") for name in ("out", "broken", "source"))
    name = BIAS[0]
    assert np.array_equal(out[name], source[name]) and not np.array_equal(out[name], broken[name])
    assert out.keys() == broken.keys() and all(np.array_equal(out[k], broken[k]) for k in out.keys() - {name})
    assert nodes(folder / "out.onnx") == nodes(folder / "broken.onnx") != nodes(folder / "source.onnx")
