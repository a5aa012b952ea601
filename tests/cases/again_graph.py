"""Operators and whole parts that converters left out, mixed up or misread, made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from tests.cases.case import Pair, case
from tests.cases.networks import (
    Change,
    Function,
    around,
    attributes,
    bypassed,
    edited,
    exported,
    pair,
    replaced,
    samples,
)


def _made(folder: Path, layer: nn.Module, *changes: Change, size: Sequence[int] = (3, 16, 16), opset: int = 17) -> Pair:
    x = samples(size)
    source = exported(around(layer, size), folder / "source.onnx", x, opset)
    return pair(folder, source, edited(source, folder / "target.onnx", *changes), x)


@case("onnxruntime-qnn#392", "again (onnxruntime-qnn)", "cg-op-substitution")
def hard_swish_halved(folder: Path) -> Pair:
    """HardSwish became HardSigmoid: 0.1% instead of 67.3% top-1 in MobileNetV3."""
    return _made(folder, nn.Hardswish(), replaced("HardSwish", "HardSigmoid", alpha=1 / 6, beta=0.5))


@case("pytorch#19948", "again (torch.onnx 1.1)", "cg-inplace-lost", "cg-unexplained")
def slice_assignment_lost(folder: Path) -> Pair:
    """x[:, 0] = 0 was traced past: the write in place is missing."""
    def write(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, 2:5] = y[:, 2:5] * 0.5 + 1.0
        return y

    return _made(folder, Function(write), bypassed("ScatterND"))


@case("MMdnn#684", "again (MMdnn)", "op-softmax")
def softmax_missing(folder: Path) -> Pair:
    """The source ends in a Softmax, the target in its scores."""
    def tail(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "scores"
        model.graph.node.append(helper.make_node("Softmax", ["scores"], ["y"], axis=1))

    x = samples()
    target = exported(around(nn.Tanh()), folder / "target.onnx", x)
    return pair(folder, edited(target, folder / "source.onnx", tail), target, x)


@case("tpu#521", "again (TensorFlow's ImageNet models)", "op-class-offset")
def background_class(folder: Path) -> Pair:
    """1001 classes against 1000: a background class stands before the others."""
    def tail(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "scores"
        model.graph.initializer.append(helper.make_tensor("background", TensorProto.FLOAT, [1, 1], [-9.0]))
        model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [0, 1]))
        model.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
        model.graph.initializer.append(helper.make_tensor("begin", TensorProto.INT64, [1], [0]))
        model.graph.node.extend([
            helper.make_node("Slice", ["scores", "begin", "one", "one"], ["first"]),
            helper.make_node("Mul", ["first", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "background"], ["column"]),
            helper.make_node("Concat", ["column", "scores"], ["y"], axis=1)])
        model.graph.initializer.append(helper.make_tensor("zero", TensorProto.FLOAT, [1, 1], [0.0]))
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11
        del model.graph.initializer[-4]

    x = samples()
    source = exported(around(nn.Tanh()), folder / "source.onnx", x)
    return pair(folder, source, edited(source, folder / "target.onnx", tail), x)


@case("tensorflow#33303", "again (TFLite converter)", "op-output-order")
def outputs_swapped(folder: Path) -> Pair:
    """Two outputs of one shape, named by their place, in the other order."""
    def two(model: onnx.ModelProto) -> None:
        gemm = model.graph.node[-1]
        gemm.output[0] = "scores"
        model.graph.node.extend([
            helper.make_node("Softsign", ["scores"], ["out_0"]), helper.make_node("Tanh", ["scores"], ["t"]),
            helper.make_node("Cos", ["t"], ["out_1"])])
        del model.graph.output[:]
        for name in ("out_0", "out_1"):
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 10]))

    def swap(model: onnx.ModelProto) -> None:
        names = {"out_0": "out_1", "out_1": "out_0"}
        for node in model.graph.node:
            node.output[:] = [names.get(o, o) for o in node.output]

    x = samples()
    plain = exported(around(nn.Tanh()), folder / "plain.onnx", x)
    source = edited(plain, folder / "source.onnx", two)
    return pair(folder, source, edited(source, folder / "target.onnx", swap), x)


@case("tvm#20183", "again (tvm)", "vs-softmax-13", "lh-softmax-axis")
def softmax_of_an_older_opset(folder: Path) -> Pair:
    """Before opset 13 Softmax flattens what lies behind its axis, 1 by default; read as a newer one's."""
    x, network = samples(), around(Function(lambda x: 99 * torch.erf(x)))
    files = []
    for name, opset in (("source", 11), ("target", 13)):
        plain = exported(network, folder / f"plain-{name}.onnx", x, opset)
        files.append(edited(plain, folder / f"{name}.onnx", replaced("Erf", "Softmax", axis=1)))
    return pair(folder, files[0], files[1], x)


@case("onnx#2446", "again (onnx's optimiser)", "tss-transpose")
def transposes_merged(folder: Path) -> Pair:
    """Two transpositions merged into one of the wrong order, on equal dimensions."""
    layer = Function(lambda x: torch.tanh(x.permute(0, 2, 3, 1)).permute(0, 3, 2, 1))
    return _made(folder, layer, attributes("Transpose", 1, perm=[0, 3, 1, 2]))


@case("pytorch#75252", "again (torch.onnx 1.11)", "cg-bn-train")
def normalised_by_the_batch(folder: Path) -> Pair:
    """BatchNormalization exported in training mode: an answer depends on the other samples."""
    layer = nn.BatchNorm2d(8)
    torch.manual_seed(1)
    for p in (layer.running_mean, layer.running_var):
        nn.init.uniform_(p, 0.3, 1.5)  # type: ignore[arg-type]
    x = samples()
    unfolded = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    source = exported(around(layer), folder / "source.onnx", x, **unfolded)

    def statistics(model: onnx.ModelProto) -> None:
        next(n for n in model.graph.node if n.op_type == "BatchNormalization").output.extend(["mean_", "var_"])

    train = attributes("BatchNormalization", training_mode=1)
    return pair(folder, source, edited(source, folder / "target.onnx", train, statistics), x)


@case("tensorflow-onnx#2174", "again (tf2onnx)", "cg-int-div-mod", "cg-op-substitution", "cg-unexplained")
def division_truncates(folder: Path) -> Pair:
    """TensorFlow's integer division floors, ONNX's truncates: they part at negative numbers."""
    def codes(x: torch.Tensor, mode: str) -> torch.Tensor:
        return torch.div((x * 8).to(torch.int32), 3, rounding_mode=mode).to(torch.float32)

    x, network = samples(), around(Function(lambda x: codes(x, "floor")))
    source = exported(network, folder / "source.onnx", x)
    network[1] = Function(lambda x: codes(x, "trunc"))  # type: ignore[index]
    return pair(folder, source, exported(network, folder / "target.onnx", x), x)


@case("pytorch#157621", "torch.onnx dynamo=False", "id-baked-batch")
def batch_traced_into_a_shape(folder: Path) -> Pair:
    """A shape that was computed in Python, as int(x.shape[0]), is a constant of the traced graph."""
    class Rows(nn.Module):
        def __init__(self, baked: bool) -> None:
            super().__init__()
            self.baked = baked

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = int(x.shape[0]) if self.baked else x.shape[0]
            return torch.tanh(x).reshape(rows, 8, 16, 16) if self.baked else torch.tanh(x).reshape(-1, 8, 16, 16)

    x, network = samples(), around(Rows(baked=False))
    source = exported(network, folder / "source.onnx", x)
    network[1] = Rows(baked=True)  # type: ignore[index]
    return pair(folder, source, exported(network, folder / "target.onnx", x[:1].repeat(2, 0)[:1]), x)


@case("tensorflow-onnx#926", "again (tf2onnx)", "id-input-order")
def inputs_swapped(folder: Path) -> Pair:
    """Two inputs of one shape, bound in the other order."""
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.left, self.right, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 10)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.left(a)) * torch.sigmoid(2 * self.right(b)))

    rng, network = np.random.default_rng(0), Two()
    given = {n: rng.normal(0, 1.5, (60, 16)).astype(np.float32) for n in ("input_1", "input_2")}
    source, data = folder / "source.onnx", folder / "samples.npz"
    args = tuple(torch.tensor(v[:2]) for v in given.values())
    torch.onnx.export(network, args, str(source), dynamo=False, opset_version=17, input_names=list(given),
                      output_names=["y"], dynamic_axes={n: {0: "N"} for n in (*given, "y")})

    def swap(model: onnx.ModelProto) -> None:
        names = {"input_1": "input_2", "input_2": "input_1"}
        for node in model.graph.node:
            node.input[:] = [names.get(i, i) for i in node.input]

    np.savez(data, **given)  # type: ignore[arg-type]
    return Pair(source, edited(source, folder / "target.onnx", swap), data)
