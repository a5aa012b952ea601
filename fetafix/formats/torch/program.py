"""An opened PyTorch model, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.torch.structure import flatten
from fetafix.report import TensorInfo

_TRAINING_MATTERS = ("BatchNorm", "Dropout", "InstanceNorm", "RReLU")


@dataclass
class Program:
    """A module ready to run.

    call: flat tensors, in the order of `inputs` → whatever the module returns. graph: a GraphModule over flat inputs
    for the lift and for repairs, or None where the code cannot be traced. save: writes the edited GraphModule
    (`structural` says whether more than tensors changed) to a path in the file's own format. tap, layer_names, host:
    what a program that is no torch.fx graph (TorchScript) brings along for the lift and for repairs. tensors_only:
    why nothing else can be changed.
    """

    module: Any
    inputs: list[TensorInfo]
    call: Callable[[Sequence[Any]], Any]
    graph: Any | None = None
    save: Callable[[Any, bool, Path], None] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    tap: Callable[[Sequence[Any], Sequence[str], Sequence[str]], Any] | None = None
    layer_names: Callable[[], dict[str, str]] | None = None
    host: Callable[[Mapping[str, str], Sequence[str], Sequence[Any]], Any] | None = None
    structure: Any = None
    tensors_only: str = ""

    def output_names(self) -> list[str]:
        """The outputs' names as far as they are known without a run."""
        if self.graph is None:
            return ["output"]
        from fetafix.formats.torch.fx import is_node

        output = next(n for n in self.graph.graph.nodes if n.op == "output")
        return list(flatten(output.args[0], is_node)) if self.structure is None else list(self.structure)

    def outputs(self, args: Sequence[Any]) -> dict[str, Any]:
        """Run once; output tensors by name."""
        import torch

        return flatten(self.call(args), lambda v: isinstance(v, torch.Tensor))


def settled(module: Any, details: dict[str, Any]) -> Any:
    """The module in evaluation mode, as a conversion uses it; notes where it was saved otherwise."""
    if any(m.training and any(n in type(m).__name__ for n in _TRAINING_MATTERS) for m in module.modules()):
        details["saved_in_training_mode"] = True
    return module.eval()


def damaged(path: Path, error: BaseException) -> UnreadableModel:
    """The error for a file that PyTorch cannot read."""
    message = str(error).strip().splitlines() or [type(error).__name__]
    return UnreadableModel(f"{path}: PyTorch cannot read it (damaged or truncated?): {message[0][:300]}")
