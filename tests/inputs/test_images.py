"""Decoding of every format and oddity that folders of images hold, and the naming of what cannot be used."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fetafix.errors import InputDataError
from fetafix.inputs import images
from fetafix.inputs.decoding import Decoding
from fetafix.inputs.images import ImageFiles, UnreadableImage, decode, find


def colours(height: int = 6, width: int = 10) -> np.ndarray:
    """Smooth and asymmetric, so that lossy formats stay close and every orientation differs."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([20 + 20 * x, 30 + 30 * y, 200 - 10 * x - 5 * y], axis=2).astype(np.uint8)


def big() -> np.ndarray:
    return np.repeat(np.repeat(colours(), 8, axis=0), 8, axis=1)


@pytest.mark.parametrize(
    ("suffix", "options", "off"),
    [(".png", {}, 0), (".bmp", {}, 0), (".webp", {"lossless": True}, 0), (".webp", {"quality": 95}, 30),
     (".jpg", {"quality": 95, "subsampling": 0}, 8), (".JPEG", {"quality": 95, "progressive": True}, 16)],
)  # fmt: skip
def test_formats(tmp_path: Path, suffix: str, options: dict, off: int) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(big()).save(path, **options)
    found = decode(path)
    assert found.dtype == np.uint8 and found.shape == (48, 80, 3)
    assert np.abs(found.astype(int) - big()).max() <= off


def test_jpeg_is_decoded_in_full(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 101, 3), dtype=np.uint8)).save(path)
    assert np.array_equal(decode(path), np.asarray(Image.open(path)))


# What a viewer does with the stored pixels, by EXIF orientation (TIFF 6.0, tag 274).
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(colours()).save(path, exif=exif, **options)
    assert np.array_equal(decode(path), ORIENTATIONS[orientation](colours()))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "a.jpg"
    Image.fromarray(big()).save(path, exif=exif, quality=95)
    assert np.array_equal(decode(path), np.asarray(Image.open(path))[::-1].swapaxes(0, 1))


def test_an_impossible_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 77
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png"), colours())


def test_gray_and_bilevel(tmp_path: Path) -> None:
    gray = colours()[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray > 100).save(tmp_path / "bits.png")
    assert np.array_equal(decode(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))
    assert np.array_equal(decode(tmp_path / "bits.png")[:, :, 1], np.where(gray > 100, 255, 0))


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    alpha = np.full((6, 10, 1), 3, np.uint8)
    Image.fromarray(np.concatenate([colours(), alpha], axis=2)).save(tmp_path / "rgba.png")
    Image.fromarray(np.concatenate([colours()[:, :, :1], alpha], axis=2)).save(tmp_path / "la.png")
    assert np.array_equal(decode(tmp_path / "rgba.png"), colours())
    assert np.array_equal(decode(tmp_path / "la.png"), np.repeat(colours()[:, :, :1], 3, axis=2))


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(colours()).quantize(40)
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "p.png", transparency=0)
    assert np.array_equal(decode(tmp_path / "p.png"), expected)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.fromarray(big()).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - big()).max() <= 6


def test_16_bit_gray_keeps_its_upper_bits(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 1111, dtype=np.uint16)[:54].reshape(6, 9)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((6, 6, 3), v, np.uint8)) for v in (10, 250)]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert np.abs(decode(tmp_path / f"a{suffix}").astype(int) - 10).max() <= 4


def bomb(path: Path, side: int) -> None:
    """A PNG of a few bytes that claims side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    bomb(tmp_path / "a.png", side)
    good, bad = images.decode_all({0: tmp_path / "a.png"})
    assert not good and "decompression bomb" in bad[0] and "89 megapixels" in bad[0]


def test_damaged_files_are_named_with_the_reason(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "zero.png").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    Image.fromarray(colours()).save(tmp_path / "whole.png")
    png = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(png[:60])
    (tmp_path / "whole.png").unlink()
    files = ImageFiles(find(tmp_path), tmp_path)
    good = files.load(range(len(files)))
    assert [files.name(i) for i in good] == ["good.jpg"]
    reasons = dict(s.split(": ", 1) for s in files.skipped)
    assert set(reasons) == {"cut.jpg", "cut.png", "text.jpg", "zero.png"}
    assert "truncated" in reasons["cut.jpg"] and reasons["zero.png"] == "the file is empty"
    assert "not an image of a known format" in reasons["text.jpg"] and "damaged" in reasons["cut.png"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_never_escapes_as_another_exception(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    for suffix in ("jpeg", "png", "webp", "bmp", "gif"):
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(big()).save(path, suffix, **({} if suffix in ("bmp", "gif") else {"exif": exif}))
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
            at = rng.integers(0, len(damaged), 5)
            damaged[at] = rng.integers(0, 256, 5)
            path.write_bytes(damaged.tobytes())
            try:
                assert decode(path).shape[2] == 3
            except UnreadableImage as error:
                assert str(error)


def test_find_goes_down_and_sorts(tmp_path: Path) -> None:
    for name in ("b/z.PNG", "a/x.Jpg", "a.webp", ".hidden/c.png", "b/._z.png", "labels.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    assert [p.relative_to(tmp_path).as_posix() for p in find(tmp_path)] == ["a.webp", "a/x.Jpg", "b/z.PNG"]


def test_find_looks_inside_where_no_suffix_helps(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "0001", "png")
    (tmp_path / "readme").write_text("hello")
    assert [p.name for p in find(tmp_path)] == ["0001"]


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="found no files"):
        find(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputDataError, match=r"expected images .*\.webp.*found 1 other file"):
        find(tmp_path)


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        Image.fromarray(colours() + np.uint8(i)).save(tmp_path / f"{i}.png")
    decoded: list[str] = []

    def counting(path: Path, how: Decoding) -> np.ndarray:
        decoded.append(path.name)
        return decode(path, how)

    monkeypatch.setattr(images, "decode", counting)
    files = ImageFiles(find(tmp_path), tmp_path)
    ticks: list[tuple[int, int]] = []
    first = files.load([3, 1, 1], lambda done, total: ticks.append((done, total)))
    again = files.load([1, 2, 3])
    assert list(first) == [3, 1] and list(again) == [1, 2, 3]
    assert np.array_equal(again[3], colours() + np.uint8(3))
    assert sorted(decoded) == ["1.png", "2.png", "3.png"] and ticks == [(1, 2), (2, 2)]


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(colours() + np.uint8(i)).save(tmp_path / f"{i}.png")
    files = ImageFiles(find(tmp_path), tmp_path, cache_bytes=colours().nbytes)
    for _ in range(2):
        loaded = files.load(range(3))
        assert [int(loaded[i][0, 0, 0]) for i in range(3)] == [20, 21, 22]
