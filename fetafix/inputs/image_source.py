"""Images as a data source: for models with one input that takes images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fetafix.errors import InputDataError
from fetafix.inputs.decoding import USUAL, Decoding
from fetafix.inputs.images import ImageFiles
from fetafix.inputs.pairing import single_feeds
from fetafix.inputs.recipe import Preprocess
from fetafix.inputs.samples import Drawn, Pixels, Progress, SampleSet
from fetafix.inputs.signature import describe_shape, dims_of, image_input
from fetafix.ir import Array
from fetafix.report import TensorInfo


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """Images that a loader returned, with the interface of `ImageFiles`."""

    pixels: Pixels
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels.images)

    def name(self, index: int) -> str:
        """What messages call the image."""
        return self.pixels.names[index]

    def load(
        self, indices: Sequence[int], progress: Progress | None = None, how: Decoding = USUAL
    ) -> dict[int, Array]:  # fmt: skip
        """The pixels of the indices; they were decoded by somebody else."""
        return {i: self.pixels.images[i] for i in dict.fromkeys(indices)}


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images, those in files decoded when drawn, once."""

    files: ImageFiles | ImagesInMemory
    origin: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    kind: str = "images"

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files found unusable so far, as "name: reason"."""
        return self.files.skipped

    def __len__(self) -> int:
        return len(self.files)

    def usable(self, indices: Sequence[int], progress: Progress | None = None) -> list[int]:
        """Those of the indices whose file is an intact image; the pixels are kept for `draw`."""
        return list(self.files.load(indices, progress))

    def draw(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], pixels: bool = False,
        progress: Progress | None = None, aliases: Mapping[str, str] | None = None,
    ) -> Drawn:  # fmt: skip
        """The pixels, for the one input that takes images. Raises InputDataError where none can be read."""
        spec = _only_image_input(specs, self.origin)
        images = self.files.load(indices, progress)
        if not images:
            raise InputDataError(f"{self.origin}: no image could be read; {'; '.join(self.skipped[:5])}")
        part = Pixels(tuple(images.values()), tuple(map(self.files.name, images)), partial(self._again, tuple(images)))
        return Drawn(tuple(images), {spec.name: part})

    def _again(self, indices: Sequence[int], how: Decoding) -> tuple[Array, ...]:
        return tuple(self.files.load(indices, how=how).values())

    def feeds(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], preprocess: Preprocess | None = None,
        progress: Progress | None = None,
    ) -> SampleSet:  # fmt: skip
        """The images as one model takes them."""
        return single_feeds(self, indices, specs, preprocess, progress)


def _only_image_input(specs: Sequence[TensorInfo], origin: str) -> TensorInfo:
    if len(specs) == 1 and image_input(specs[0]):
        return specs[0]
    inputs = ", ".join(f"{s.name} {describe_shape(dims_of(s))} {s.dtype}" for s in specs)
    raise InputDataError(
        f"{origin}: images feed a model with one input that takes images (rank 4; 1, 3 or 4 channels), found inputs "
        f"{inputs}; give one array per input as .npz"
    )
