"""What injecting flips costs: into 100 MB at a bit-error rate, beside one read of as much from a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fetafix.storage.flips import flip, positions
from fetafix.stress.medium import Medium, Part, Target
from fetafix.stress.record import Storage

SIZE, BER, ROUNDS = 100_000_000, 1e-5, 15


def speed(size: int = SIZE, ber: float = BER, rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds, the best of the rounds, taken in turns: "inject" (draw, strike), "undo" (strike again), "read" (a
    file of that size, from the system's cache), and the "ratio" of inject to read. "file": drawing and striking the
    file itself, as a trial does. "flips": how many.
    """
    with tempfile.NamedTemporaryFile(prefix="fetafix-") as file:
        codes = np.random.default_rng(0).integers(0, 2**32, size // 4, dtype=np.uint32)
        file.write(codes.tobytes())
        file.flush()
        path, buffer = Path(file.name), bytearray(size)
        inject, undo, read, struck, count = [], [], [], [], 0
        medium = Medium(Target(path, Storage(scope="file", bits=8 * size), (Part(path, ((0, size),), 8 * size),)))
        for seed in range(rounds):
            where = np.empty(0, np.int64)

            def strike(seed: int = seed) -> None:
                nonlocal where
                where = positions(np.random.default_rng(seed), codes.size * 32, ber)
                flip(codes, where)

            inject.append(_timed(strike))
            undo.append(_timed(lambda where=where: flip(codes, where)))  # type: ignore[misc]
            read.append(_timed(lambda: _read(path, buffer)))
            struck.append(_timed(lambda seed=seed: medium.strike(  # type: ignore[misc]
                positions(np.random.default_rng(seed), 8 * size, ber))))
            medium.heal()
            count = int(where.size)
        with medium:
            pass
    best = {"inject": min(inject), "undo": min(undo), "read": min(read), "file": min(struck)}
    return {**best, "ratio": best["inject"] / best["read"], "flips": float(count)}


def _read(path: Path, into: bytearray) -> None:
    with path.open("rb", buffering=0) as file:
        file.readinto(into)


def _timed(what: Callable[[], None]) -> float:
    start = time.perf_counter()
    what()
    return 1e3 * (time.perf_counter() - start)
