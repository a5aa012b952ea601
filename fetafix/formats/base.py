"""What every format offers: recognise, open, run natively, lift to ONNX, write edits back.

An `Artifact` lives in a worker process, beside its runtime; the parent holds only records. One module a format family
implements `recognise(path) -> str | None` and `open(path, format, options) -> Artifact`; `fetafix.formats` dispatches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fetafix.ir import Array
from fetafix.report import ModelInfo

if TYPE_CHECKING:  # edits are needed to write a model, not to run one
    from fetafix.edits import Edit


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to open a model.

    trust: code from the file may run. arch: "module:factory" for a bare state dict. threads: intra-op threads, 0 lets
    the runtime choose. optimise: whether the runtime may optimise the graph. level: how far, where somebody asked for
    it ("none", "basic", "extended", "all"; runtimes without levels know none and all): it is then part of the question,
    and `Artifact.differently` leaves it alone. device: where the model runs ("cpu", "cuda", "cuda:1"). provider: ONNX
    Runtime's execution provider ("" for that of the device), or TFLite's delegate. signature: which signature of a
    SavedModel or a TFLite file.
    input_shapes: shapes to use where the format does not tell them, by input name (or "" for the only one).
    """

    trust: bool = False
    arch: str | None = None
    threads: int = 0
    optimise: bool = True
    level: str = ""
    device: str = "cpu"
    provider: str = ""
    signature: str | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def used(self) -> dict[str, int | str]:
        """How the runtime was told to run, without what is the default: for `ModelInfo.details["runtime_options"]`."""
        level = self.level or ("" if self.optimise else "none")
        told: dict[str, int | str | None] = {
            "threads": self.threads, "device": self.device.replace("cpu", ""), "provider": self.provider,
            "optimise": level.replace("all", ""), "signature": self.signature,
        }  # fmt: skip
        return {k: v for k, v in told.items() if v}


@dataclass(frozen=True, slots=True)
class Lifted:
    """An ONNX view of an artifact.

    path: an ONNX file (the artifact itself where that is ONNX). names: node key in that file → the layer's native name,
    for nodes whose ONNX name is not native already. notes: what a user should know about the lift.
    """

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write-back. unsupported: (index of the edit, why it could not be written natively)."""

    path: Path
    unsupported: tuple[tuple[int, str], ...] = ()


class Unsupported(Exception):
    """An edit cannot be expressed natively, for the reason given."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A native layer or operator that was tapped. inputs, outputs: names in `Taps.values`, constants left out."""

    layer: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taps:
    """What a model computed layer by layer in its own runtime.

    layers: in the order in which they ran. values: tensor name → activation, the model's inputs and outputs (by their
    interface names) among them; in real numbers where the stored ones are codes.
    """

    layers: tuple[Tap, ...]
    values: Mapping[str, Array]


class Artifact(Protocol):
    """An opened model in its own runtime.

    It may offer `differently()`, a context manager within which `run` is optimised and threaded otherwise than usual,
    `preferred_batch_bytes`, and `tap(feeds) -> Taps`, for looking inside where the lift does not agree with the model;
    `tap_forced(feeds, forced)` does so with some tensors, by their names in the taps, replaced by other values.
    `relift(folder, example)` lifts by another converter, for where the first lift answers otherwise than the model.
    """

    @property
    def info(self) -> ModelInfo:
        """Path, format, interface, details (sha256 is filled in by the dispatcher)."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises RuntimeCrash with the runtime's message."""
        ...

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """Write an ONNX view into `folder`; `example` is one small batch of valid inputs. Raises LiftError."""
        ...

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Apply edits (in terms of the lifted graph) natively and write the artifact to `out`.

        Edits that cannot be expressed natively are skipped and listed. The artifact in memory stays as it was. Raises
        OutputError where `out` cannot be written; a half-written file is never left behind.
        """
        ...
