"""Small PyTorch models and the files that converters make of them."""

import io
import warnings
from pathlib import Path

import torch
from torch import nn

from fetafix.formats.torch import env as torch_env

SIZE = (1, 8, 8)
CONTAINERS = ("torch-module", "torchscript", "torch-export", "torch-state-dict")
ARCH = "tests.formats.torch_zoo:small_cnn"


class Block(nn.Module):
    """A residual block with a bias-less convolution, BatchNorm and ReLU6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.bn2(self.conv2(self.act(self.bn(self.conv(x))))))


class SmallCnn(nn.Module):
    """A classifier of 8 x 8 images, the size of scikit-learn's digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.block = Block(8)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.block(torch.relu(self.stem(x))))
        return self.fc(torch.flatten(x, 1))


def small_cnn() -> nn.Module:
    """A seeded model whose BatchNorm statistics are far from their defaults."""
    torch.manual_seed(0)
    model = SmallCnn()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.01, 2.0)
            module.weight.data.uniform_(0.5, 2.0)
            module.bias.data.uniform_(-0.5, 0.5)
    return model.eval()


def converted(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """The model through ONNX and back by onnx2torch."""
    import onnx
    import onnx2torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            buffer,
            dynamo=False,
            opset_version=17,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}},
        )
    return onnx2torch.convert(onnx.load_from_string(buffer.getvalue())).eval()


def save(container: str, folder: Path, model: nn.Module | None = None) -> Path:
    """Write the model as a file of the given format."""
    torch_env.prepare()
    model = small_cnn() if model is None else model
    example = torch.rand(2, *SIZE)
    path = folder / ("model.pt2" if container == "torch-export" else "model.pt")
    if container == "torch-module":
        torch.save(converted(model, example), path)
    elif container == "torchscript":
        torch.jit.save(torch.jit.trace(model, example), path)
    elif container == "torch-export":
        with torch.enable_grad():
            program = torch.export.export(model, (example,), dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
        torch.export.save(program, path)
    else:
        torch.save(model.state_dict(), path)
    return path
