"""Public Keras files: they open, run, lift to the same answers, and take an edit natively."""

import numpy as np
import pytest
from PIL import Image

from fetafix.edits import SetInput, apply
from fetafix.formats.base import OpenOptions
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.parallel import ModelProcess
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
FILES = {
    "models/mobilenet_v2_1.0_224_imagenet.h5": ("keras 3", 3489097),
    "models/squeezenet1_0_imagenet.h5": ("keras 3", 1248937),
    "pairs/resnet8_cifar10/pretrainedResnet.h5": ("keras 2.4.0", 78666),
    "pairs/vww/vww_96.h5": ("keras 2.4.0", 221794),
}


@pytest.mark.parametrize("file", FILES)
def test_opens_runs_lifts_and_is_written(file, tmp_path):
    written_by, parameters = FILES[file]
    with ModelProcess(ASSETS / file, OpenOptions(threads=2)) as process:
        info = process.info()
        assert info.format == "keras-h5"
        assert info.details["written_by"].startswith(written_by) and info.details["parameters"] == parameters
        name, shape = info.inputs[0].name, info.inputs[0].shape[1:]
        fed = {name: np.random.default_rng(0).random((2, *shape), np.float32)}
        own = process.run(fed)
        lifted = process.lift(tmp_path, fed)
        graph, evaluator = load_graph(lifted.path), Evaluator()
        for output, value in zip(graph.output_names, evaluator.run(graph, fed, graph.output_names), strict=True):
            assert np.abs(value - own[output]).max() < 1e-4
        assert {n.key for n in graph.nodes} <= lifted.names.keys()
        conv = [n for n in graph.nodes if n.op == "Conv"][3]
        edits = [SetInput(conv.key, 1, graph.constant(conv, 1)[:, :, ::-1, ::-1] * np.float32(1.2))]
        out = tmp_path / "out.h5"
        assert process.write(edits, out, lifted.path).unsupported == ()
    with ModelProcess(out) as process:
        after = apply(graph, edits)
        made = process.run(fed)
        for output, value in zip(after.output_names, evaluator.run(after, fed, after.output_names), strict=True):
            np.testing.assert_allclose(made[output], value, atol=1e-4 * np.abs(value).max())


def test_mobilenet_knows_its_images():
    lines = (ASSETS / "labels/imagenet_1000_from_samples.tsv").read_text().splitlines()
    label = {row[3]: int(row[0]) + 1 for row in (line.split("\t") for line in lines)}  # class 0 is the background
    files = sorted(p for p in (ASSETS / "images/imagenet").iterdir() if p.name in label)
    files = [files[i * len(files) // 50] for i in range(50)]
    with ModelProcess(ASSETS / "models/mobilenet_v2_1.0_224_imagenet.h5") as process:
        made = process.run({"input": np.stack([_prepared(p) for p in files])}, batch=10)["Logits"]
    right = sum(int(row.argmax()) == label[p.name] for row, p in zip(made, files, strict=True))
    assert right >= 41  # 42 with the libraries that this was written with


def _prepared(path):
    """256/224 resize, centre crop, to [-1, 1]."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 127.5 - 1
