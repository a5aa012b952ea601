"""Made-up images with the statistics of natural ones: uint8 RGB.

Three properties that photographs share and that white noise or constants lack: an amplitude spectrum that falls as 1/f
with more energy along some orientation (Field 1987), piecewise smooth surfaces that occlude each other (the dead leaves
model; Lee, Mumford, Huang 2001), and colour channels that are strongly correlated. Brightness and contrast vary between
images, so that ranges, means and clipping are exercised as by a folder of photographs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fetafix.ir import Array


def image(rng: np.random.Generator, height: int, width: int, channels: int = 3) -> Array:
    """One image, uint8 (height, width, channels) with 1, 3 or 4 channels; never constant from 2 × 2 pixels on."""
    leaves = _leaves(rng, height, width)
    texture = np.stack([_one_over_f(rng, height, width) for _ in range(3)], axis=2)
    luma = leaves[:, :, :1] + rng.uniform(0.25, 0.8) * texture[:, :, :1]
    chroma = 0.35 * leaves[:, :, 1:] + rng.uniform(0.1, 0.35) * texture[:, :, 1:]
    # Opponent colours (red–green, blue–yellow) on top of luminance keep the channels correlated.
    red_green, blue_yellow = chroma[:, :, :1], chroma[:, :, 1:]
    opponent = luma + red_green, luma - 0.6 * red_green + 0.2 * blue_yellow, luma - 0.7 * blue_yellow
    rgb = _standard(np.concatenate(opponent, axis=2)) * rng.uniform(28, 68) + rng.uniform(75, 180)
    if channels == 1:
        rgb = rgb @ np.asarray([[0.299], [0.587], [0.114]], np.float32)
    elif channels == 4:
        rgb = np.concatenate([rgb, 160 + 40 * texture[:, :, 2:]], axis=2)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def field(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A smooth field over all axes: a few waves and a little noise, float32, about mean 0 and standard deviation 1."""
    values = 0.2 * rng.standard_normal(shape, np.float32)
    for _ in range(3):
        phase = np.full((), rng.uniform(0, 2 * np.pi), np.float32)
        for size in shape:
            step = np.float32(rng.uniform(-6, 6) / max(size, 2))
            phase = phase[..., None] + np.arange(size, dtype=np.float32) * step
        values += np.float32(rng.uniform(0.4, 1.0)) * np.sin(phase)
    return values.astype(np.float32)


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Array, Array]:
    """Radius and angle of every frequency of a real 2-D transform, the radius of the mean set to 1 cycle."""
    fy, fx = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None, :] * width
    radius = np.hypot(fy / height, fx / width) * max(height, width)
    radius[0, 0] = 1.0
    return radius.astype(np.float32), np.arctan2(fy, fx + 0 * fy).astype(np.float32)


def _one_over_f(rng: np.random.Generator, height: int, width: int) -> Array:
    """Noise with amplitude 1/f^a, a around 1.1, stronger along one orientation: float32 (height, width)."""
    radius, angle = _frequencies(height, width)
    noise = rng.standard_normal((2, *radius.shape), np.float32)
    amplitude = radius ** np.float32(-rng.uniform(0.9, 1.3))
    amplitude *= 1 + np.float32(rng.uniform(0, 1)) * np.cos(2 * (angle - np.float32(rng.uniform(0, np.pi))))
    spectrum = (noise[0] + 1j * noise[1]) * amplitude
    spectrum[0, 0] = 0
    return _standard(np.fft.irfft2(spectrum, s=(height, width)))


def _leaves(rng: np.random.Generator, height: int, width: int) -> Array:
    """Occluding ellipses and boxes of power-law sizes: float32 (height, width, 3), luminance and two chroma values."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = rng.standard_normal(3)
    largest = max(height, width) / 2
    for _ in range(28):
        # Radii with density ~ r^-2 between 5% and 100% of the largest; the small ones come last and stay visible.
        radius = largest / (1 + 19 * rng.random())
        ry, rx = radius * rng.uniform(0.5, 1.5), radius * rng.uniform(0.5, 1.5)
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        top, bottom = int(max(cy - ry, 0)), int(min(cy + ry, height)) + 1
        left, right = int(max(cx - rx, 0)), int(min(cx + rx, width)) + 1
        patch = canvas[top:bottom, left:right]
        y, x = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        if rng.random() < 0.5:
            inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        else:
            inside = np.ones(patch.shape[:2], bool)
        shade = (y - cy) / ry * rng.normal(0, 0.2) + (x - cx) / rx * rng.normal(0, 0.2)
        patch[inside] = (rng.standard_normal(3) + shade[:, :, None])[inside]
    return canvas


def _standard(values: Array) -> Array:
    """Mean 0 and standard deviation 1 over everything."""
    spread = float(values.std())
    done: Array = ((values - values.mean()) / (spread if spread > 0 else 1.0)).astype(np.float32)
    return done
