"""A zoo of networks to seed faults into: made here, seeded, calibrated so that activations and answers are diverse.

    made = zoo.make("BERT", folder)            # or scale="full"
    made.model, made.samples                   # BERT.onnx and what --data takes
    made.forms                                 # the same function written otherwise, by name of the form

"small" networks have the depth and the operators of the full ones where that is cheap, few channels and small inputs:
they are made in seconds and run in milliseconds. The digits' network is trained at either scale. The form "dynamo"
takes longest to make, and is made where it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from fetafix.errors import UsageError

__all__ = ["FORMS", "MODELS", "SCALES", "Form", "Made", "Scale", "Task", "make"]

Scale = Literal["small", "full"]
Form = Literal["plain", "renamed", "folded", "dynamo", "quantised", "requantised"]
Task = Literal["classification", "segmentation", "detection", "regression"]
SCALES: tuple[Scale, ...] = ("small", "full")
FORMS: tuple[Form, ...] = ("plain", "renamed", "folded", "dynamo", "quantised", "requantised")
MODELS: Mapping[str, Task] = {
    "digits": "classification", "ResNet20": "classification", "MobileNetV2": "classification",
    "ResNet50": "classification", "InceptionV3": "classification", "ViT": "classification", "BERT": "classification",
    "LSTM": "classification", "GRU": "classification", "U-Net": "segmentation", "SSD": "detection",
    "AlexNet": "classification", "StyleNet": "regression", "STN": "classification", "GPT": "classification",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A network's files. forms: "plain" (`model` itself: nothing folded) and equivalent others, healthy all of them.

    Only the quantised forms are another function than the plain one, and the same as each other.
    samples: .npy for one input, .npz with an array an input for several; axis 0 counts the samples.
    scores: the output that labels are read from, along its axis 1 (classes of an image, of a pixel) or its last one
    (of a box), see `label_axis`; a regression has no labels.
    """

    name: str
    scale: Scale
    task: Task
    seed: int
    model: Path
    samples: Path
    forms: Mapping[Form, Path]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scores: str

    @property
    def label_axis(self) -> int:
        """The axis of `scores` along which the largest value is the label."""
        return -1 if self.task == "detection" else 1


def make(
    name: str, folder: str | Path, scale: Scale = "small", seed: int = 0, forms: Sequence[Form] = ("plain", "folded")
) -> Made:
    """Write a network's forms and samples into `folder`; what an earlier call with the same arguments made is kept.

    Raises UsageError for a name, a scale or a form that is not known.
    """
    for wrong, known in ((name, tuple(MODELS)), (scale, SCALES), *((form, FORMS) for form in forms)):
        if wrong not in known:
            raise UsageError(f"the zoo has no {wrong!r}; known: {', '.join(known)}")
    folder = Path(folder)
    record = folder / f"{name}-{scale}-{seed}.json"
    made = _read(record) if record.exists() else None
    have = {} if made is None else made.forms
    if made is None or not {*forms} <= set(have):
        from fetafix.bench.zoo import build

        folder.mkdir(parents=True, exist_ok=True)
        build.write(name, MODELS[name], scale, seed, [f for f in FORMS if f in {"plain", *have, *forms}], record, have)
    return _read(record)


def _read(record: Path) -> Made:
    """The record, its files beside it."""
    return msgspec.json.decode(record.read_bytes(), type=Made, dec_hook=lambda _, name: record.parent / name)
