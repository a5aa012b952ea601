"""Edits of tensors alone, for models whose code cannot be traced: by the name in the state dict."""

from __future__ import annotations

from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.torch.constants import as_native
from fetafix.ir import Graph

_REASON = "the model's code cannot be traced, so only its tensors can be changed"


def set_tensors(module: Any, before: Graph, after: Graph) -> None:
    """Give the module the constants that changed. Raises Unsupported where anything else changed."""
    if len(before.nodes) != len(after.nodes) or before.output_names != after.output_names:
        raise Unsupported(_REASON)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old is new:
            continue
        if old.attrs is not new.attrs or old.outputs != new.outputs or len(old.inputs) != len(new.inputs):
            raise Unsupported(_REASON)
        for was, now in zip(old.inputs, new.inputs, strict=True):
            if was not in before.initializers or now not in after.initializers:
                if was != now:
                    raise Unsupported(_REASON)
            elif not np.array_equal(before.initializers[was], after.initializers[now]):
                _set(own, was, after.initializers[now], len(before.consumers[was]))


def _set(own: dict[str, Any], name: str, value: Any, readers: int) -> None:
    if name not in own:
        raise Unsupported(f"{name} is no tensor of the state dict")
    if readers > 1:
        raise Unsupported(f"{name} is shared by {readers} layers of the user's code")
    own[name].data.copy_(as_native(value, own[name]))
