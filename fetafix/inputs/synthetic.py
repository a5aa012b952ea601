"""Made-up samples that suit a signature, for when the user has no data: weaker evidence, and named so.

Sample i depends on the seed, i and the input's name, not on how many samples are asked for. By input:
- images (`signature.image_input`): pixels with natural statistics (`natural`), as real images before preprocessing;
- integers: ids from 0 up to the input's bound (a vocabulary; a cautious 16 where the caller knows none), positions,
  segment ids, lengths; masks (by name, in any dtype) are ones with zeros at the end, the same end in all of a sample;
- other floats: smooth fields plus noise, of varying scale and offset, some sparse, some of one sign; never constant.

Dimensions that are left open get `sizes[symbol]`, else 224 for the sides of an image, else 16; the same symbol always
the same size, and the symbol of the batch axis 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs import natural
from fetafix.inputs.pairing import single_feeds
from fetafix.inputs.preprocess import threads
from fetafix.inputs.recipe import Preprocess
from fetafix.inputs.samples import Drawn, Pixels, Progress, Rows, SampleSet
from fetafix.inputs.signature import DEFAULT_SIDE, dims_of, dtype_of, image_input, is_batched, item_dims
from fetafix.ir import Array
from fetafix.report import TensorInfo

DEFAULT_BOUND = 16
DEFAULT_SIZE = 16
_UNLIMITED = 1 << 20


@dataclass(frozen=True)
class SyntheticSource:
    """Seeded samples for any signature. bounds: input name → ids are below this number."""

    seed: int = 0
    bounds: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    kind: str = "synthetic"
    skipped: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Says that these samples are made up."""
        return f"synthetic (weaker evidence): made up to suit the inputs, seed {self.seed}"

    def __len__(self) -> int:
        return _UNLIMITED

    def usable(self, indices: Sequence[int], progress: Progress | None = None) -> list[int]:
        """All of them."""
        return list(indices)

    def draw(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], pixels: bool = False,
        progress: Progress | None = None, aliases: Mapping[str, str] | None = None,
    ) -> Drawn:  # fmt: skip
        """Pixels for image inputs, rows for all others."""
        known = {**_batch_symbols(specs), **self.sizes}
        parts = {s.name: self._part(s, indices, known, progress) for s in specs}
        return Drawn(tuple(indices), parts)

    def feeds(
        self, indices: Sequence[int], specs: Sequence[TensorInfo], preprocess: Preprocess | None = None,
        progress: Progress | None = None,
    ) -> SampleSet:  # fmt: skip
        """The samples as one model with these inputs takes them."""
        return single_feeds(self, indices, specs, preprocess, progress)

    def _part(
        self, spec: TensorInfo, indices: Sequence[int], known: Mapping[str, int], progress: Progress | None
    ) -> Pixels | Rows:
        image = image_input(spec) if spec.shape is not None else None
        if image is None:
            items = [self._item(spec, i, known) for i in indices]
            return Rows(np.stack(items), f"synthetic {spec.name!r}")
        sides = image.height or DEFAULT_SIDE, image.width or DEFAULT_SIDE
        made: list[Array] = []
        with ThreadPoolExecutor(threads()) as pool:
            for done in pool.map(lambda i: natural.image(self._rng(i, spec.name), *sides, image.channels), indices):
                made.append(done)
                if progress:
                    progress(len(made), len(indices))
        return Pixels(tuple(made), tuple(f"synthetic image {i}" for i in indices))

    def _rng(self, index: int, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, index, zlib.crc32(name.encode())])

    def _item(self, spec: TensorInfo, index: int, known: Mapping[str, int]) -> Array:
        item = item_dims(spec)
        if item is None:
            raise InputDataError(
                f"input {spec.name!r} declares no shape in either model, so no samples can be made up for it; give "
                "--data, or the input's shape"
            )
        shape = tuple(d if isinstance(d, int) else known.get(d or "", DEFAULT_SIZE) for d in item)
        fill = float(self._rng(index, "valid length").uniform(0.4, 1.0))
        return values(self._rng(index, spec.name), spec, shape, fill, self.bounds.get(spec.name))


def values(
    rng: np.random.Generator, spec: TensorInfo, shape: tuple[int, ...], fill: float, bound: int | None = None
) -> Array:
    """One item for an input that takes no images: `shape`, in the dtype of `spec`.

    fill: the share of a sequence that is not padding. bound: ids are below this number.
    """
    dtype, name = dtype_of(spec), spec.name.lower()
    length = shape[-1] if shape else DEFAULT_SIZE
    valid = max(1, round(fill * length))
    if "mask" in name:
        return np.broadcast_to(np.arange(length) < valid, shape).astype(dtype) if shape else np.ones((), dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind not in "iu":
        return _floats(rng, shape).astype(dtype)
    if "type" in name or "segment" in name:
        return np.broadcast_to(np.arange(length) >= rng.integers(1, length + 1), shape).astype(dtype)
    if "position" in name or name.endswith("pos_ids"):
        return np.broadcast_to(np.minimum(np.arange(length), (bound or length) - 1), shape).astype(dtype)
    if "len" in name:
        return np.full(shape, max(1, round(fill * (bound or DEFAULT_SIZE))), dtype)
    top = min(bound or DEFAULT_BOUND, int(np.iinfo(dtype).max) + 1)
    ids = rng.integers(0, top, shape)
    if ids.size > 1 and top > 1 and np.ptp(ids) == 0:
        ids.flat[0] = (ids.flat[0] + 1) % top
    return np.asarray(ids, dtype)


def _floats(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A smooth field with its own scale; one in five sparse, one in five non-negative, one in five shifted."""
    scale = np.exp(rng.uniform(np.log(0.25), np.log(3.0)))
    base = natural.field(rng, shape)
    style = rng.integers(5)
    if style == 0 and base.size > 8:
        kept = rng.random(shape) < 0.3
        kept.flat[:2] = True
        base = base * kept
    elif style == 1:
        base = np.abs(base)
    elif style == 2:
        base = base + rng.normal()
    return np.asarray(scale * base, np.float32)


def _batch_symbols(specs: Sequence[TensorInfo]) -> dict[str, int]:
    """The symbols of leading batch axes: 1 wherever else they appear, as in an input [batch] of lengths."""
    leads = ((dims_of(s) or (None,))[0] for s in specs if is_batched(s))
    return {d: 1 for d in leads if isinstance(d, str)}
