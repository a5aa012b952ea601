"""Outputs that are kept, so that a model that was run once is not run again."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from fetafix import probing
from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.parallel import ModelProcess

Outputs = dict[str, Array]
_BYTES = 1 << 29


class Kept:
    """Outputs by position, up to a bound of memory; beyond it nothing more is kept."""

    def __init__(self) -> None:
        self._rows: dict[int, Outputs] = {}
        self._bytes = 0

    def add(self, positions: Sequence[int], outputs: Outputs) -> None:
        """Keep these outputs while there is room."""
        self._bytes += sum(v.nbytes for v in outputs.values())
        if self._bytes <= _BYTES:
            for i, position in enumerate(positions):
                self._rows[position] = {n: v[i] for n, v in outputs.items()}

    def has(self, positions: Sequence[int]) -> bool:
        """Whether all of them are here."""
        return bool(positions) and all(p in self._rows for p in positions)

    def get(self, positions: Sequence[int]) -> Outputs:
        """The outputs of these positions, stacked."""
        rows = [self._rows[p] for p in positions]
        return {n: np.stack([r[n] for r in rows]) for n in rows[0]}

    def run(
        self, process: ModelProcess, samples: SampleSet, positions: Sequence[int], chunk: int, batch: int | None
    ) -> Generator[Outputs]:
        """Outputs of the samples at some positions, chunk by chunk: those kept, or those of a run that starts now."""
        if self.has(positions):
            return (self.get(positions[i : i + chunk]) for i in range(0, len(positions), chunk))
        chosen = samples if len(positions) == len(samples) else samples.take(positions)
        running = process.run_chunks(probing.sources(chosen), batch, samples.stackable, chunk)

        def each() -> Generator[Outputs]:
            try:
                for start, end, outputs in running:
                    rows = probing.by_sample(outputs, samples)
                    self.add(positions[start:end], rows)
                    yield rows
            finally:
                running.close()

        return each()
