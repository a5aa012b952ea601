"""Real networks in every format that conversions pass through, made once a test run and shared by all its processes."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fetafix.api import Options

ASSETS = Path(os.environ.get("FETAFIX_ASSETS", "") or "no-assets")
NEEDS_ASSETS = [
    pytest.mark.assets,
    pytest.mark.skipif(not ASSETS.is_dir(), reason="FETAFIX_ASSETS names no folder of real models and images"),
]


@dataclass(frozen=True)
class Network:
    """A classifier: its factory ("module:function"), checkpoint, input size, and what its inputs are made of."""

    name: str
    arch: str
    checkpoint: str
    size: int
    images: str
    preprocess: str

    def options(self, **more: Any) -> Options:
        """Real images with the preprocessing that the network was trained for."""
        both = {"source_preprocess": self.preprocess, "target_preprocess": self.preprocess}
        return Options(**{"data": ASSETS / self.images, "samples": 32, **both, **more})


_CIFAR = ("images/cifar10", "torchvision,resize=none,crop=none")
NETWORKS = {
    n.name: n
    for n in (
        Network("squeezenet", "tests.assets.squeezenet:squeezenet1_1", "models/squeezenet1_1_imagenet.pth", 224,
                "images/imagenet", "torchvision"),
        Network("resnet20", "tests.assets.cifar:resnet20", "models/resnet20_cifar10.th", 32, *_CIFAR),
        Network("resnet56", "tests.assets.cifar:resnet56", "models/resnet56_cifar10.th", 32, *_CIFAR),
    )
}  # fmt: skip
# legacy: convolutions with folded normalisation; unfused: with BatchNormalization left beside them
FORMS = (
    "legacy.onnx", "unfused.onnx", "dynamo.onnx", "onnx2torch.pt", "unfused-onnx2torch.pt", "script.pt", "program.pt2"
)  # fmt: skip


class Zoo:
    """Files of networks under one folder: `zoo("resnet20", "onnx2torch.pt")` is a path, made at the first demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, form: str) -> Path:
        path = self.folder / name / form
        with _locked(self.folder / f"{name}.lock"):
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                unfinished = path.with_name(f"unfinished-{path.name}")
                _MAKE[form](NETWORKS[name], unfinished, self)
                unfinished.rename(path)
        return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        held = _HELD.get(path, 0)
        if not held:
            fcntl.flock(file, fcntl.LOCK_EX)
        _HELD[path] = held + 1
        try:
            yield
        finally:
            _HELD[path] -= 1


_HELD: dict[Path, int] = {}


def module(network: Network) -> Any:
    """The network with its public weights, ready to run."""
    import importlib

    import torch

    from tests.assets import cifar

    where, _, factory = network.arch.partition(":")
    model = getattr(importlib.import_module(where), factory)()
    path = ASSETS / network.checkpoint
    model.load_state_dict(
        cifar.read(path) if path.suffix == ".th" else torch.load(path, map_location="cpu", weights_only=True)
    )
    return model.eval()


def _example(network: Network, count: int = 2) -> Any:
    import torch

    return torch.randn(count, 3, network.size, network.size, generator=torch.Generator().manual_seed(0))


def _legacy(network: Network, out: Path, zoo: Zoo, opset: int = 13, folded: bool = True) -> None:
    import torch
    from torch.onnx import TrainingMode

    torch.onnx.export(
        module(network), (_example(network),), str(out), dynamo=False, opset_version=opset,
        training=TrainingMode.EVAL if folded else TrainingMode.PRESERVE,
        input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )  # fmt: skip


def _unfused(network: Network, out: Path, zoo: Zoo) -> None:
    _legacy(network, out, zoo, opset=17, folded=False)


def _dynamo(network: Network, out: Path, zoo: Zoo) -> None:
    import torch

    torch.onnx.export(
        module(network), (_example(network),), str(out), dynamo=True, external_data=False, verbose=False,
        input_names=["image"], output_names=["logits"], dynamic_shapes=({0: "N"},),
    )  # fmt: skip


def _onnx2torch(network: Network, out: Path, zoo: Zoo, form: str = "legacy.onnx") -> None:
    import torch

    from fetafix.formats.torch.env import prepare

    prepare()
    import onnx2torch

    torch.save(onnx2torch.convert(str(zoo(network.name, form))).eval(), out)


def _unfused_onnx2torch(network: Network, out: Path, zoo: Zoo) -> None:
    _onnx2torch(network, out, zoo, "unfused.onnx")


def _script(network: Network, out: Path, zoo: Zoo) -> None:
    import torch

    torch.jit.trace(module(network), _example(network)).save(str(out))


def _program(network: Network, out: Path, zoo: Zoo) -> None:
    import torch

    batch = {"x": {0: torch.export.Dim("N", min=1, max=64)}}
    program = torch.export.export(module(network), (_example(network),), dynamic_shapes=batch)
    torch.export.save(program, str(out))


_MAKE: dict[str, Callable[[Network, Path, Zoo], None]] = dict(
    zip(FORMS, (_legacy, _unfused, _dynamo, _onnx2torch, _unfused_onnx2torch, _script, _program), strict=True)
)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """One folder for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "zoo"
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Zoo(folder)
