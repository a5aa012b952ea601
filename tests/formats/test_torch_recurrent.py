"""Weights of recurrent layers written into PyTorch files: the reloaded file answers as torch does with them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fetafix.edits import Edit, SetInput
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import env as torch_env
from fetafix.formats.torch import model as pytorch
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.gates import order_of, rearranged
from fetafix.graph.proto import load_graph

torch_env.prepare()
X = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)
ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}  # ONNX's blocks in torch's order


class Two(nn.Module):
    """A layer both ways, then one forward, and a head."""

    def __init__(self, op: str) -> None:
        super().__init__()
        self.both: nn.RNNBase = getattr(nn, op)(3, 4, batch_first=True, bidirectional=True)
        self.forth: nn.RNNBase = getattr(nn, op)(8, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.forth(self.both(x)[0])[0])
        return made


def model(op: str) -> Two:
    torch.manual_seed(3)
    return Two(op).eval().requires_grad_(False)


def save(network: Two, folder: Path, kind: str) -> Path:
    path, example = folder / ("model.pt2" if kind == "torch-export" else "model.pt"), torch.from_numpy(X)
    if kind == "torchscript":
        torch.jit.trace(network, example, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]
    else:
        torch.export.save(torch.export.export(network, (example,)), path)
    return path


def permuted(network: Two, layer: str, op: str) -> np.ndarray:
    """What torch answers with the gate blocks of one layer read in the other order."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        for weight in changed.get_submodule(layer).parameters():
            blocks = weight.reshape(len(ORDERS[op]), -1, *weight.shape[1:])
            weight.copy_(blocks[list(_seen(op))].reshape(weight.shape))
        made: Tensor = changed(torch.from_numpy(X))
    return made.numpy()


def _seen(op: str) -> tuple[int, ...]:
    """The order of torch's blocks after ONNX's were put into ORDERS: to ONNX's order, permuted, and back."""
    order = np.asarray(ORDERS[op])
    onnx_of_torch = np.argsort(order)
    return tuple(int(i) for i in onnx_of_torch[order][order])


# Exporting a program takes seconds, so .pt2 is tested once.
CASES = [("torchscript", op, layer) for op in ORDERS for layer in ("both", "forth")] + [("torch-export", "GRU", "both")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "op", "layer"), CASES)
def test_gates_are_written_into_each_of_a_layers_tensors(kind: str, op: str, layer: str, tmp_path: Path) -> None:
    network = model(op)
    path = save(network, tmp_path, kind)
    artifact = pytorch.open(path, kind, OpenOptions(threads=1))
    name = artifact.info.inputs[0].name
    lifted = artifact.lift(tmp_path, {name: X})
    view = canonical(load_graph(lifted.path), Evaluator())
    node = [n for n in view.nodes if n.op == op][layer == "forth"]
    edits: list[Edit] = []
    for slot in (1, 2, 3):
        value = view.constant(node, slot)
        assert value is not None
        edits.append(SetInput(node.key, slot, rearranged(value, slot, len(ORDERS[op]), ORDERS[op])))
    written = artifact.write(edits, tmp_path / f"out{path.suffix}", lifted.path)
    assert written.unsupported == ()
    made = pytorch.open(written.path, kind, OpenOptions(threads=1)).run({name: X})
    np.testing.assert_allclose(next(iter(made.values())), permuted(network, layer, op), atol=1e-6)
    assert np.abs(permuted(network, layer, op) - network(torch.from_numpy(X)).numpy()).max() > 1e-3


@pytest.mark.filterwarnings("ignore")
def test_a_missing_bias_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = save(model("GRU"), tmp_path, "torchscript")
    artifact = pytorch.open(path, "torchscript", OpenOptions(threads=1))
    lifted = artifact.lift(tmp_path, {artifact.info.inputs[0].name: X})
    node = next(n for n in load_graph(lifted.path).nodes if n.op == "GRU")
    written = artifact.write([SetInput(node.key, 3, None)], tmp_path / "out.pt", lifted.path)
    assert "all their weights and biases" in written.unsupported[0][1]


def test_the_order_of_blocks_is_found_again() -> None:
    value = np.random.default_rng(1).standard_normal((2, 20, 3)).astype(np.float32)
    assert order_of(rearranged(value, 1, 4, (0, 2, 3, 1)), value, 4, 1e-6) == (0, 2, 3, 1)
    assert order_of(value + 1, value, 4, 1e-6) is None
