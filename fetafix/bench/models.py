"""MobileNetV2 as torchvision defines it, with seeded weights that are calibrated so that activations are as in life."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.bench.measure import run

SIDE, CLASSES = 224, 1000


@dataclass(frozen=True)
class Files:
    """source and renamed: the network with BatchNormalization folded and not; converted: source by onnx2torch."""

    source: Path
    renamed: Path
    converted: Path
    samples: Path


def make(folder: Path, samples: int = 100, seed: int = 0) -> Files:
    """Write the models and `samples` images, (N, 3, 224, 224) float32, into `folder`."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    import onnx2torch
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    files = Files(*(folder / n for n in ("source.onnx", "renamed.onnx", "converted.pt", "samples.npy")))
    images = natural_images(samples, seed)
    np.save(files.samples, images)
    network = calibrated(torch.tensor(images[:16]), seed)
    _export(network, files.source, folded=True)
    _export(network, files.renamed, folded=False)
    torch.save(onnx2torch.convert(str(files.source)).eval(), files.converted)
    return files


def make_tensorflow(folder: Path, samples: int = 100, seed: int = 1) -> Files:
    """Keras' MobileNetV2: source is its ONNX file, renamed the TFLite file, converted the former by onnx2torch.

    `folder`/saved_model is the SavedModel; samples are (N, 224, 224, 3) float32.
    """
    import onnx2torch
    import torch

    files = Files(*(folder / n for n in ("mobile.onnx", "mobile.tflite", "mobile.pt", "mobile.npy")))
    np.save(files.samples, np.ascontiguousarray(natural_images(samples, seed).transpose(0, 2, 3, 1)))
    run(["-m", "fetafix.bench.tensorflow_models", str(folder), str(files.samples)])
    torch.save(onnx2torch.convert(str(files.source)).eval(), files.converted)
    return files


def natural_images(count: int, seed: int) -> Any:
    """Smooth random images, normalised as for ImageNet's classifiers."""
    from fetafix.inputs.synthetic import SyntheticSource
    from fetafix.report import TensorInfo

    spec = TensorInfo(name="image", dtype="float32", shape=["N", 3, SIDE, SIDE])
    drawn = SyntheticSource(seed).feeds(range(count), [spec])
    images = np.asarray(drawn.arrays["image"], np.float32)
    return (images - images.mean()) / images.std()


def calibrated(images: Any, seed: int) -> Any:
    """A MobileNetV2 in evaluation mode whose normalisations have the statistics of `images`."""
    import torch
    import torchvision.models

    torch.manual_seed(seed)
    network = torchvision.models.mobilenet_v2(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def _export(network: Any, path: Path, folded: bool) -> None:
    import torch

    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        network, (torch.zeros(1, 3, SIDE, SIDE),), str(path), input_names=["image" if folded else "x"],
        output_names=["scores" if folded else "y"], opset_version=17, dynamo=False, do_constant_folding=folded,
        training=mode,
        dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}} if folded else {"x": {0: "N"}, "y": {0: "N"}},
    )
