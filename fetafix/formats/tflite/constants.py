"""Constants of a TFLite operator: found by their old value, set in the file's own encoding.

A layer's bias is stored in steps of input scale × weight scale (the kernels take that for granted, whatever the file
says), so biases are written anew wherever one of the two scales changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import schema as schemas
from fetafix.formats.tflite.grids import native_axis
from fetafix.formats.tflite.program import Program
from fetafix.formats.tflite.tensors import Value, requantised
from fetafix.formats.transfer import Changes, SetConstant
from fetafix.ir import Array, Graph, Node

Action = Callable[[], None]
Turn = Callable[[Array], Array]
_WEIGHTED = {"CONV_2D": (0, 2, 3, 1), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "TRANSPOSE_CONV": (1, 2, 3, 0),
             "FULLY_CONNECTED": (1, 0)}  # fmt: skip
_BIASED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 2}
_QDQ = ("DequantizeLinear", "QuantizeLinear")


class Constants:
    """Sets constants of a program whose ONNX view is `before`."""

    def __init__(self, program: Program, before: Graph) -> None:
        self._program, self._before = program, before

    def actions(self, unit: Sequence[Any], changes: Changes, value: Value) -> list[Action]:
        """What to do for the changed constants of a layer. Raises Unsupported before anything is changed."""
        actions: list[Action] = []
        grouped: dict[str, list[SetConstant]] = {}
        for change in changes.constants:
            if change.node.op in _QDQ:
                grouped.setdefault(change.node.key, []).append(change)
            else:
                actions.append(self._plain(unit, change))
        for group in grouped.values():
            actions.append(self._group(unit, group[0].node, group, value))
        if actions:
            actions.append(lambda: self._rescale_biases(unit))
        return actions

    def _rescale_biases(self, unit: Sequence[Any]) -> None:
        for operator in unit:
            self._rescale_bias(operator)

    def grid(self, node: Node, value: Value, changes: Changes) -> None:
        """Other scales or zero points for an activation, of which both its Q and its DQ tell."""
        group = [c for c in changes.constants if c.node is node]
        self._set_grid(node, value, group)()

    def _group(self, unit: Sequence[Any], node: Node, group: Sequence[SetConstant], value: Value) -> Action:
        codes = self._before.constant(node, 0)
        if codes is None:
            if node.op == "QuantizeLinear":
                return self._set_grid(node, value, group)
            raise Unsupported(f"{node.label}: its scale belongs to another layer")
        new = [self._before.constant(node, i) for i in range(3)]
        for change in group:
            new[change.slot] = change.new
        if new[0] is None or new[1] is None or new[0].shape != codes.shape:
            raise Unsupported(f"{node.label}: codes and scales cannot be computed")
        zero = np.zeros_like(new[0][:1].reshape(-1)) if new[2] is None else new[2]
        axis: Any = node.attrs.get("axis", 1)
        return self._codes(unit, node, codes, (new[0], new[1], zero), int(axis) % max(codes.ndim, 1))

    def _codes(
        self, unit: Sequence[Any], node: Node, old: Array, new: tuple[Array, Array, Array], axis: int
    ) -> Action:
        operator, slot, turn = self._find(unit, old, node, stored=True)
        codes, scale, zero = new
        place = native_axis(turn, old.shape, axis)
        tensor = self._program.origin(int(operator.inputs[slot]))
        held = self._program.quantisation(tensor)
        dtype = schemas.dtype_of(self._program.tensors[tensor])
        real = schemas.real(codes, (np.atleast_1d(scale), np.atleast_1d(zero).astype(np.int64), axis))
        plain = not np.any(zero) or dtype == np.uint8
        fits = held is not None and plain and codes.dtype == dtype and (scale.size == 1 or place == held[2])

        def change() -> None:
            target = self._program.own(operator, slot)
            if fits:
                self._program.store(target, turn(codes))
                self._program.set_quantisation(target, np.atleast_1d(scale), np.atleast_1d(zero), place
                                               if scale.size > 1 else held[2])  # type: ignore[index]  # fmt: skip
            else:
                self._encode(target, turn(real))

        return change

    def _set_grid(self, node: Node, value: Value, group: Sequence[SetConstant]) -> Action:
        held = self._program.quantisation(value.tensor)
        if held is None:
            raise Unsupported(f"{node.label}: the tensor holds plain numbers natively")
        scale, zero = held[0], held[1]
        for change in group:
            if change.new is None or change.slot == 0:
                raise Unsupported(f"{node.label}: no scale is left")
            if change.slot == 1:
                scale = np.atleast_1d(change.new).astype(np.float32)
            else:
                zero = np.atleast_1d(change.new).astype(np.int64)
                if change.old is not None and change.new.dtype != change.old.dtype:
                    raise Unsupported(f"{node.label}: codes of another type")
        if scale.size != 1:
            raise Unsupported(f"{node.label}: TFLite quantises activations as a whole, not by channel")

        def act() -> None:
            self._program.set_quantisation(value.tensor, scale, zero, 0)
            for operator in self._program.users(value.tensor):
                self._rescale_bias(operator)

        return act

    # plain constants ------------------------------------------------------------------------------------------------
    def _plain(self, unit: Sequence[Any], change: SetConstant) -> Action:
        node = change.node
        if node.op == "Clip" or (change.old is not None and change.old.dtype.kind != "f"):
            raise Unsupported(f"{node.label}: input {change.slot} is written with its operator")
        if change.old is None:
            return self._added_bias(unit, change)
        operator, slot, turn = self._find(unit, change.old, node, prefer=change.slot)
        if change.new is None:
            if slot != 2 or self._program.opcode(operator) not in _BIASED:
                raise Unsupported(f"{node.label}: input {change.slot} cannot be left out")
            new = np.zeros_like(change.old)
        elif change.new.shape != change.old.shape or change.new.dtype != change.old.dtype:
            raise Unsupported(f"{node.label}: input {change.slot} gets another shape or type")
        else:
            new = change.new
        target = self._program.origin(int(operator.inputs[slot]))
        if schemas.dtype_of(self._program.tensors[target]) == np.float16:
            _fits_half(new, node)
        return lambda: self._encode(self._program.own(operator, slot), turn(new))

    def _added_bias(self, unit: Sequence[Any], change: SetConstant) -> Action:
        node = change.node
        for operator in unit:
            name = self._program.opcode(operator)
            if name not in _BIASED or change.slot != 2 or change.new is None:
                continue
            slot = 3 if name == "TRANSPOSE_CONV" else 2
            if len(operator.inputs) > slot and operator.inputs[slot] >= 0:
                held = self._program.constant(int(operator.inputs[slot]))
                if held is not None and not held.any() and held.size == change.new.size:
                    new = change.new.reshape(held.shape)
                    return lambda o=operator: self._encode(self._program.own(o, slot), new)  # type: ignore[misc]
        raise Unsupported(f"{node.label}: input {change.slot} has no place in the layer")

    def _find(
        self, unit: Sequence[Any], old: Array, node: Node, prefer: int | None = None, stored: bool = False
    ) -> tuple[Any, int, Turn]:
        """Where a layer holds a constant, and how ONNX's order of axes becomes its own."""
        for operator in unit:
            slots = sorted(range(len(operator.inputs)), key=lambda s: s != prefer)
            for slot in slots:
                tensor = int(operator.inputs[slot])
                if tensor < 0:
                    continue
                source = self._program.origin(tensor)
                held = self._program.stored(source) if stored else self._program.constant(tensor)
                if held is None or held.size != old.size or held.dtype != old.dtype:
                    continue
                for turn in _turns(old.shape, held.shape, _WEIGHTED.get(self._program.opcode(operator))):
                    if np.array_equal(turn(old), held, equal_nan=held.dtype.kind == "f") or _close(turn(old), held):
                        return operator, slot, turn
        raise Unsupported(f"{node.label}: no constant of the layer holds the old value")

    # encoding -------------------------------------------------------------------------------------------------------
    def _encode(self, tensor: int, values: Array) -> None:
        """Real numbers into a constant, on its own grid or, where that is too coarse or too narrow, on a new one."""
        dtype, grid = schemas.dtype_of(self._program.tensors[tensor]), self._program.quantisation(tensor)
        if dtype is None or dtype.kind == "f" or grid is None:
            self._program.store(tensor, values.astype(dtype or values.dtype))
            return
        if dtype.itemsize == 1:
            grid = _suitable(values, grid, dtype)
            self._program.set_quantisation(tensor, *grid)
        self._program.store(tensor, requantised(values, grid, dtype))

    def _rescale_bias(self, operator: Any) -> None:
        """Write a bias of integers in steps of input scale × weight scale, unless it is already."""
        name = self._program.opcode(operator)
        place = 3 if name == "TRANSPOSE_CONV" else 2
        if name not in _BIASED or len(operator.inputs) <= place or operator.inputs[place] < 0:
            return
        source, weight, bias = (int(operator.inputs[i]) for i in (_BIASED[name], 1, place))
        grids = [self._program.quantisation(t) for t in (source, weight, bias)]
        values = self._program.constant(bias)
        if any(g is None for g in grids) or values is None:
            return
        steps = np.atleast_1d(grids[0][0] * grids[1][0]).astype(np.float32)  # type: ignore[index]
        if steps.size == grids[2][0].size and np.allclose(steps, grids[2][0], rtol=1e-5):  # type: ignore[index]
            return
        target = self._program.own(operator, place)
        grid = (steps, np.zeros(steps.size, np.int64), 0)
        self._program.set_quantisation(target, *grid)
        dtype = schemas.dtype_of(self._program.tensors[target])
        assert dtype is not None
        self._program.store(target, requantised(values, grid, dtype))


def _suitable(values: Array, grid: tuple[Array, Array, int], dtype: np.dtype[Any]) -> tuple[Array, Array, int]:
    """The grid itself where the values lie well on it; else new scales, by tensor or channel as before."""
    scale, zero, axis = grid
    others = tuple(i for i in range(values.ndim) if i != axis) if scale.size > 1 else None
    limits = np.iinfo(dtype)
    reach = np.atleast_1d(np.max(np.abs(values), axis=others)).astype(np.float32)
    offset = zero if dtype == np.uint8 else np.zeros_like(zero)
    room = np.minimum(limits.max - offset, offset - limits.min if dtype == np.uint8 else limits.max)
    room = np.maximum(room, 1).astype(np.float32)
    made = schemas.real(requantised(values, grid, dtype), grid)
    off = np.atleast_1d(np.max(np.abs(made - values), axis=others))
    fine = np.maximum(reach / room, np.finfo(np.float32).tiny)
    bad = (off > 0.51 * scale) | ((off > 1e-6 * reach) & (scale > 4 * fine) & (reach > 0))
    return np.where(bad, fine, scale).astype(np.float32), zero, axis


def _fits_half(values: Array, node: Node) -> None:
    if np.isfinite(values).all() and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise Unsupported(f"{node.label}: the file stores float16, which does not reach {np.abs(values).max():.3g}")


def _close(a: Array, b: Array) -> bool:
    return a.dtype.kind == "f" and bool(np.allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True))


def _turns(shape: tuple[int, ...], native: tuple[int, ...], usual: tuple[int, ...] | None) -> Iterator[Turn]:
    rank = len(shape)
    orders = permutations(range(rank)) if rank <= 5 else iter([tuple(range(rank))])
    first = [usual] if usual is not None and len(usual) == rank else []
    for order in (*first, *(o for o in orders if o != usual)):
        long = [shape[i] for i in order if shape[i] != 1]
        if long == [n for n in native if n != 1]:
            yield lambda a, order=order: np.ascontiguousarray(a.transpose(order).reshape(native))  # type: ignore[misc]
