"""A piece of an ONNX graph as Keras layers, believed only after it was measured.

Values are carried in the layout that Keras has them in: a `Laid` tensor is its ONNX twin transposed by `perm`. A
Transpose therefore costs nothing until a layer wants the other layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fetafix.formats.attempts import evaluated
from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.layers import CONVERT
from fetafix.formats.keras.maker import Maker
from fetafix.ir import Array, Graph

_TOLERANCE = 1e-4


class Piece:
    """A fragment with one output, to be built on Keras tensors, more than once where needed."""

    def __init__(self, fragment: Graph, feeds: Mapping[str, Array]) -> None:
        self._fragment, self._feeds = fragment, feeds
        self._values = evaluated(fragment, feeds)

    def build(self, inputs: Sequence[Laid], label: str = "") -> Laid:
        """The output on these inputs. Raises Unsupported where an operator has no Keras layer."""
        made: dict[str, Laid] = dict(zip((v.name for v in self._fragment.inputs), inputs, strict=True))
        maker = Maker(self._fragment, self._values, made)
        for node in self._fragment.nodes:
            convert = CONVERT.get(node.op) if not node.domain else None
            if convert is None:
                raise Unsupported(f"there is no Keras layer for the operator {node.op}")
            try:
                made[node.outputs[0]] = convert(maker, node)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                raise Unsupported(f"Keras cannot take {node.op} with these settings: {str(error)[:200]}") from error
        return made[self._fragment.output_names[0]]

    def check(self, perms: Sequence[tuple[int, ...]]) -> None:
        """Build the piece alone and compare it with ONNX Runtime on the feeds. Raises Unsupported."""
        import keras

        laid, arrays = [], []
        for value, perm in zip(self._fragment.inputs, perms, strict=True):
            array = np.transpose(self._feeds[value.name], perm)
            laid.append(Laid(keras.Input(batch_shape=(None, *array.shape[1:]), dtype=str(array.dtype)), perm))
            arrays.append(array)
        result = self.build(laid)
        model = keras.Model([x.tensor for x in laid], result.tensor)
        have = np.asarray(model(arrays if len(arrays) > 1 else arrays[0], training=False))
        want = np.transpose(self._values[self._fragment.output_names[0]], result.perm)
        scale = max(float(np.max(np.abs(want), initial=0.0)), 1e-6) if want.dtype.kind == "f" else 1.0
        near = {"rtol": _TOLERANCE, "atol": _TOLERANCE * scale}
        if want.shape != have.shape or not np.allclose(want, have, equal_nan=True, **near):
            ops = ", ".join(dict.fromkeys(n.op for n in self._fragment.nodes))
            raise Unsupported(f"Keras layers for {ops} answer differently from ONNX")
