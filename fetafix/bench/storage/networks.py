"""Trained classifiers with labelled samples: what Top-1 under faults is measured on.

The digits are learnt here. The others need FETAFIX_ASSETS, a folder with

    models/resnet20_cifar10.th, resnet56_cifar10.th      checkpoints of CIFAR ResNets
    models/squeezenet1_1_imagenet.pth                     a state dict of torchvision's SqueezeNet 1.1
    models/mobilenet_v2_1.0_224_imagenet.h5               MobileNetV2 in Keras, 1001 classes
    images/cifar10/<class>/, images/imagenet/             images
    labels/imagenet_1000_from_samples.tsv                 class, WordNet id, name, file

State dicts are exported to ONNX once, so that they run in ONNX Runtime; the Keras file runs as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from fetafix.errors import UsageError

VARIABLE = "FETAFIX_ASSETS"
IMAGENET = ("squeezenet", "mobilenet")
_CHECKPOINTS = {"resnet20": "resnet20_cifar10.th", "resnet56": "resnet56_cifar10.th",
                "squeezenet": "squeezenet1_1_imagenet.pth", "mobilenet": "mobilenet_v2_1.0_224_imagenet.h5"}
_CIFAR = "torchvision,resize=none,crop=none"
_KERAS = "keras-tf,resize=shorter,size_ratio=1.142857,crop=center"


@dataclass(frozen=True, slots=True)
class Network:
    """A model file with labelled samples. preprocess: None where samples are inputs already. classes: to guess from."""

    name: str
    model: Path
    data: Path
    labels: Path | None
    preprocess: str | None
    classes: int


def assets() -> Path | None:
    """The folder of real networks; None where the variable names none."""
    folder = Path(os.environ.get(VARIABLE, "") or "no-assets")
    return folder if folder.is_dir() else None


def network(name: str, folder: Path, seed: int) -> Network:
    """A network, made in `folder` where it is not there yet. Raises UsageError where the assets for it are missing."""
    if name == "digits":
        return _digits(folder, seed)
    root = assets()
    checkpoint = None if root is None else root / "models" / _CHECKPOINTS[name]
    if root is None or checkpoint is None or not checkpoint.is_file():
        raise UsageError(f"{name} needs {VARIABLE}, a folder with models/{_CHECKPOINTS[name]} and images "
                         f"({'it has no such file' if root else 'the variable names no folder'})")
    if name.startswith("resnet"):
        return Network(name, _exported(name, checkpoint, folder), root / "images/cifar10", None, _CIFAR, 10)
    labels = _labels(root, folder, 1 if name == "mobilenet" else 0)
    if name == "mobilenet":
        return Network(name, checkpoint, root / "images/imagenet", labels, _KERAS, 1001)
    return Network(name, _exported(name, checkpoint, folder), root / "images/imagenet", labels, "torchvision", 1000)


def _labels(root: Path, folder: Path, shift: int) -> Path:
    """Labels as "file,class", for networks whose classes begin with `shift` others."""
    path = folder / f"labels-{shift}.csv"
    table = (root / "labels/imagenet_1000_from_samples.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in table.splitlines()]
    there = {p.name for p in (root / "images/imagenet").iterdir()}
    path.write_text("".join(f"{row[3]},{int(row[0]) + shift}\n" for row in rows if row[3] in there), "utf-8")
    return path


def _digits(folder: Path, seed: int) -> Network:
    found = Network("digits", folder / "digits.onnx", folder / "digits.npy", folder / "digit-labels.npy", None, 10)
    if not found.model.is_file():
        _apart("digits", "", folder, seed)
    return found


def _exported(name: str, checkpoint: Path, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    if not path.is_file():
        _apart(name, str(checkpoint), folder, 0)
    return path


def _apart(name: str, checkpoint: str, folder: Path, seed: int) -> None:
    """Make files in a process of its own: PyTorch and TensorFlow do not go together."""
    command = [sys.executable, "-m", __spec__.name, name, checkpoint, str(folder), str(seed)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"{name} could not be made: {done.stderr.strip().splitlines()[-1]}")


def make(name: str, checkpoint: str, folder: Path, seed: int) -> None:
    """Write a network as ONNX, and the digits' samples. Needs PyTorch; the digits need scikit-learn."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    warnings.simplefilter("ignore")
    import numpy as np
    import torch

    if name == "digits":
        from fetafix.demo import network as demo

        training, test = demo.load_digits(seed)
        np.save(folder / "digits.npy", test.images)
        np.save(folder / "digit-labels.npy", test.labels)
        demo.export(demo.train(training, seed), folder / "digits.onnx")
        return
    if name == "squeezenet":
        from torchvision.models import squeezenet1_1

        module, side = squeezenet1_1(), 224
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    else:
        from fetafix.bench import cifar

        module, side = (cifar.resnet20() if name == "resnet20" else cifar.resnet56()), 32
        module.load_state_dict(cifar.read(checkpoint), strict=False)
    torch.onnx.export(module.eval(), (torch.zeros(1, 3, side, side),), str(folder / f"{name}.onnx"), dynamo=False,
                      input_names=["image"], output_names=["scores"], opset_version=17,
                      dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}})


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
