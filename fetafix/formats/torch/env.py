"""Make PyTorch usable and quiet before anything else touches it.

torchvision registers kernels for `nms` and fails at import where its compiled operators are missing (no CPU build);
onnx2torch imports it. Declaring the schemas first lets the import succeed: the operators then exist without a kernel.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from fetafix.formats.importing import quickly

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def prepare(threads: int = 0) -> None:
    """Declare torchvision's operators if nobody can, switch gradients off, set the intra-op threads (0: leave them)."""
    with quickly():
        import torch

    if not hasattr(torch.ops.torchvision, "nms") and not _load_compiled_operators():
        for name, schema in _SCHEMAS.items():
            torch.library.define(f"torchvision::{name}", schema)
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore", module=r"torch\.onnx.*")
    warnings.filterwarnings("ignore", module=r"onnx2torch.*")
    if threads > 0:
        torch.set_num_threads(threads)


def _load_compiled_operators() -> bool:
    """Whether torchvision's own library can be loaded here; it then declares the operators itself."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for library in sorted(Path(place).glob("_C*.so")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:  # built for a runtime (CUDA) that this machine lacks
                continue
            return hasattr(torch.ops.torchvision, "nms")
    return False
