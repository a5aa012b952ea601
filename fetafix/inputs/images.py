"""Folders of images: found by suffix, believed by content, decoded once to RGB uint8 (height, width, 3).

`fetafix.inputs.decoding` tells what decoding does where loaders differ, and what else a preprocessing may ask for. Gray
is repeated; CMYK becomes RGB without colour management. Of an animation the first frame counts. JPEGs are decoded in
full, never in draft mode, which changes pixels.

A file that is no image, is damaged or is too large is skipped and named with the reason.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fetafix.errors import InputDataError
from fetafix.inputs import decoding
from fetafix.inputs.decoding import USUAL, Decoding
from fetafix.inputs.preprocess import threads
from fetafix.inputs.samples import Progress
from fetafix.ir import Array

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
_MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte as RGB


class UnreadableImage(Exception):
    """One image that cannot be used; the message is the reason."""


def find(folder: Path) -> list[Path]:
    """All files below `folder` that are named like images, hidden ones aside, in the order of their paths.

    Where no name looks like an image, files that begin like one are taken. Raises InputDataError where there is none.
    """
    files = list(_files(folder))
    named = [f for f in files if f.suffix.lower() in SUFFIXES]
    found = named or [f for f in files if is_image(f)]
    if not found:
        has = f"{len(files)} other file(s)" if files else "no files"
        raise InputDataError(
            f"{folder}: expected images ({', '.join(sorted(SUFFIXES))}), found {has}; "
            "give a folder of images, .npy, .npz, or nothing for synthetic inputs"
        )
    return sorted(found, key=lambda f: f.relative_to(folder).as_posix())


def is_image(path: Path) -> bool:
    """Whether a file begins like one of the formats that are read."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")
    return head.startswith(starts) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def decode(path: Path, how: Decoding = USUAL) -> Array:
    """One image as RGB uint8 (height, width, 3). Raises UnreadableImage with the reason."""
    from PIL import Image, UnidentifiedImageError

    broken = (
        OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, AttributeError, MemoryError,
        struct.error, zlib.error,
    )  # fmt: skip
    try:
        if path.stat().st_size == 0:
            raise UnreadableImage("the file is empty")
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UnreadableImage(_bomb(f"it claims {image.width} × {image.height} pixels"))
            return decoding.rgb(image, how)
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"not an image of a known format ({', '.join(_FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(_bomb(str(error))) from error
    except broken as error:
        raise UnreadableImage(f"damaged: {str(error) or type(error).__name__}") from error


def decode_all(
    paths: Mapping[int, Path], progress: Progress | None = None, how: Decoding = USUAL
) -> tuple[dict[int, Array], dict[int, str]]:
    """Decode in threads. Returns (images, reasons why others cannot be used), both by the keys of `paths`.

    `progress(done, total)` is called from the calling thread after every image.
    """
    images: dict[int, Array] = {}
    bad: dict[int, str] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(threads()) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of size; the size is checked in decode
        tried = pool.map(partial(_try, how=how), paths.values())
        for done, (key, result) in enumerate(zip(paths, tried, strict=True), 1):
            if isinstance(result, UnreadableImage):
                bad[key] = str(result)
            else:
                images[key] = result
            if progress:
                progress(done, len(paths))
    return images, bad


class ImageFiles:
    """Image files, each decoded at most once while they fit into `cache_bytes` of decoded pixels."""

    def __init__(self, paths: Sequence[Path], root: Path, cache_bytes: int = 256 << 20) -> None:
        self.paths = tuple(paths)
        self._root = root
        self._room = cache_bytes
        self._kept: dict[tuple[int, Decoding], Array] = {}
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files found to be unusable so far, as "name: reason", in the order of their paths."""
        return tuple(f"{self.name(i)}: {self._bad[i]}" for i in sorted(self._bad))

    def name(self, index: int) -> str:
        """The file's path below the folder."""
        path = self.paths[index]
        return path.relative_to(self._root).as_posix() if path != self._root else path.name

    def load(
        self, indices: Iterable[int], progress: Progress | None = None, how: Decoding = USUAL
    ) -> dict[int, Array]:  # fmt: skip
        """The pixels of those of the indices that can be read, in the order given."""
        order = [i for i in dict.fromkeys(indices) if i not in self._bad]
        fresh, bad = decode_all({i: self.paths[i] for i in order if (i, how) not in self._kept}, progress, how)
        self._bad.update(bad)
        images = {i: fresh[i] if i in fresh else self._kept[i, how] for i in order if i not in bad}
        for i, pixels in fresh.items():
            if pixels.nbytes <= self._room:
                self._kept[i, how] = pixels
                self._room -= pixels.nbytes
        return images


def rgb(image: object) -> Array:
    """A PIL image as RGB uint8 (height, width, 3), its EXIF orientation applied."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise InputDataError(f"expected an image, found {type(image).__name__}")
    return decoding.rgb(image)


def _try(path: Path, how: Decoding) -> Array | UnreadableImage:
    try:
        return decode(path, how)
    except UnreadableImage as error:
        return error


def _bomb(claim: str) -> str:
    return f"refused as a possible decompression bomb: {claim}; the limit is {_MAX_PIXELS / 1e6:.0f} megapixels"


def _files(folder: Path) -> Iterator[Path]:
    for root, dirs, names in os.walk(folder):
        dirs[:] = [d for d in dirs if not d.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))
