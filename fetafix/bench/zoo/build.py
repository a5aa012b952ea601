"""Make a network, check that its answers are diverse, export it in several forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fetafix.bench.zoo import Form, Made, Scale, Task, classifiers, dense, rarer, sequences, transformers
from fetafix.bench.zoo.forms import EXPORTERS
from fetafix.bench.zoo.networks import Network, tensors
from fetafix.formats.torch import env as torch_env

BUILDERS: Mapping[str, Callable[[bool, int], Network]] = {
    "digits": classifiers.digits, "ResNet20": classifiers.resnet20, "MobileNetV2": classifiers.mobilenet_v2,
    "ResNet50": classifiers.resnet50, "InceptionV3": classifiers.inception_v3, "ViT": transformers.vit,
    "BERT": transformers.bert, "LSTM": sequences.lstm, "GRU": sequences.gru, "U-Net": dense.unet, "SSD": dense.ssd,
    "AlexNet": rarer.alexnet, "StyleNet": rarer.stylenet, "STN": rarer.stn, "GPT": rarer.gpt,
}


def write(
    name: str, task: Task, scale: Scale, seed: int, forms: Sequence[Form], record: Path, have: Mapping[Form, Path]
) -> None:
    """Write a network's files beside the record, which comes last; forms that are there already stay.

    In one thread, so that the same seed makes the same weights again.
    """
    import torch

    torch_env.prepare(threads=1)
    torch.manual_seed(seed)
    network = BUILDERS[name](scale == "small", seed)
    stem = record.with_suffix("").name
    written: dict[Form, Path] = {}
    for form in forms:
        written[form] = record.with_name(f"{stem}.onnx" if form == "plain" else f"{stem}.{form}.onnx")
        if form not in have:
            EXPORTERS[form](network, tensors(network.samples, 2), written[form], seed)
    made = Made(
        name=name, scale=scale, task=task, seed=seed, model=written["plain"], samples=_samples(network, record),
        forms=written, inputs=tuple(network.samples), outputs=network.outputs, scores=network.scores)
    partial = record.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(made, enc_hook=lambda path: path.name))
    partial.replace(record)


def _samples(network: Network, record: Path) -> Path:
    path = record.with_suffix(".npy" if len(network.samples) == 1 else ".npz")
    save: Any = np.savez if path.suffix == ".npz" else np.save
    save(path, **network.samples) if path.suffix == ".npz" else save(path, *network.samples.values())
    return path
