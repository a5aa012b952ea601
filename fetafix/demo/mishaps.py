"""Faults that real converters have made, slipped into a module that onnx2torch converted well."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.fx import GraphModule


def forget_bias_in_fold(module: GraphModule) -> None:
    """Fold the first BatchNormalization into its convolution, and forget the convolution's own bias."""
    conv, norm = module.get_submodule("stem/stem/0/Conv"), module.get_submodule("stem/stem/1/BatchNormalization")
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert conv.bias is not None and norm.running_var is not None and norm.running_mean is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias.copy_(norm.bias - norm.running_mean * scale)
    _bypass(module, "stem/stem/1/BatchNormalization")


def lose_dilation(module: GraphModule) -> None:
    """Write a dilated convolution as a plain one with the padding that keeps the shape."""
    conv = module.get_submodule("block1/conv2/Conv")
    assert isinstance(conv, nn.Conv2d)
    conv.dilation, conv.padding = (1, 1), (1, 1)


def leave_out_padding(module: GraphModule) -> None:
    """Average over the image's pixels alone where the source counts the padding in: ONNX's default, not torch's."""
    pool = module.get_submodule("pool1/AveragePool")
    assert isinstance(pool, nn.AvgPool2d)
    pool.count_include_pad = not pool.count_include_pad


def drop_activation(module: GraphModule) -> None:
    """Lose an activation, as a fusion does that recognises only plain ReLU."""
    _bypass(module, "block2/act1/Clip")


MISHAPS: tuple[tuple[str, str, Callable[[GraphModule], None]], ...] = (
    ("weights and biases", "a BatchNormalization is folded into its Conv without the Conv's bias", forget_bias_in_fold),
    ("layer hyper-parameters", "a Conv loses its dilation", lose_dilation),
    ("layer hyper-parameters", "an AveragePool no longer counts the padding", leave_out_padding),
    ("computation graph", "an activation is dropped", drop_activation),
)


def _bypass(module: GraphModule, name: str) -> None:
    """Take a submodule out; its readers read what it read."""
    for node in module.graph.nodes:
        if node.op == "call_module" and node.target == name:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()
