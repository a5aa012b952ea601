"""Keras tensors and the layout in which they hold an ONNX tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Perm = tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Laid:
    """A Keras tensor that is its ONNX twin transposed by `perm`."""

    tensor: Any
    perm: Perm

    def turned(self, perm: Perm) -> Laid:
        """The same value in another layout."""
        import keras

        turn = tuple(self.perm.index(p) for p in perm)
        if turn == tuple(range(len(turn))):
            return self
        if turn[0] == 0:
            return Laid(keras.layers.Permute(turn[1:])(self.tensor), perm)
        return Laid(keras.ops.transpose(self.tensor, turn), perm)

    @property
    def plain(self) -> Laid:
        """In ONNX's layout."""
        return self.turned(tuple(range(len(self.perm))))

    @property
    def last(self) -> Laid:
        """With the channels (ONNX's axis 1) last."""
        return self.turned(channels_last(len(self.perm)))


def channels_last(rank: int) -> Perm:
    """From ONNX's layout to that of Keras."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))
