"""Bring an edited TFLite subgraph as close to its original as can be, so that little of the file has to change.

A new operator that takes the place of an old one of the same kind becomes the old one with other options: the tensors,
their names and indices stay, and nothing but an option is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import schema as schemas
from fetafix.formats.tflite.program import Program


def finish(program: Program) -> None:
    """Sort operators, merge, drop what no output needs, take unused new tensors away."""
    graph = program.graph
    graph.operators = _sorted(graph.operators)
    while _merge_one(program):
        pass
    alive = program.alive()
    graph.operators = [o for o in _sorted(graph.operators) if id(o) in alive]
    _restore_order(program)
    _trim(program)
    program.commit()


def signature_outputs(signature: Any, old: Sequence[int], new: Sequence[int], tensors: Sequence[Any]) -> None:
    """Let a signature's outputs follow those of its subgraph: by place, dropped or added at the end."""
    names = {int(m.tensorIndex): m for m in signature.outputs}
    kept: list[Any] = []
    for place, tensor in enumerate(new):
        entry = names.get(old[place]) if place < len(old) else None
        if len(new) != len(old) and tensor in names:
            entry = names[tensor]
        if entry is None or any(e is entry for e in kept):
            entry = schemas.schema().TensorMapT()
            entry.name = tensors[tensor].name or f"output_{place}".encode()
        entry.tensorIndex = tensor
        kept.append(entry)
    places = {id(m): i for i, m in enumerate(signature.outputs)}
    signature.outputs = sorted(kept, key=lambda m: places.get(id(m), len(places)))


def _merge_one(program: Program) -> bool:
    needed = program.needed()
    dead = [o for o in program.graph.operators if id(o) not in needed and id(o) not in program.fields]
    for new in program.graph.operators:
        if id(new) not in program.fields or id(new) not in needed:
            continue
        for old in dead:
            if _replaces(program, new, old):
                _merge(program, new, old)
                return True
    return False


def _replaces(program: Program, new: Any, old: Any) -> bool:
    if program.opcode(new) != program.opcode(old) or len(new.inputs) != len(old.inputs):
        return False
    if type(new.builtinOptions) is not type(old.builtinOptions) and old.builtinOptions is not None:
        return False
    pairs = zip((int(t) for t in new.inputs), (int(t) for t in old.inputs), strict=True)
    return len(new.outputs) == len(old.outputs) == 1 and all(
        a == b or (a >= 0 and b >= 0 and program.constant(a) is not None and program.constant(b) is not None)
        for a, b in pairs
    )


def _merge(program: Program, new: Any, old: Any) -> None:
    """The old operator takes over what the new one computes."""
    graph, tensors = program.graph, program.tensors
    _merge_constants(program, new, old)
    rank = max((len(program.shape(int(t))) for t in new.inputs if t >= 0), default=0)
    fields: Mapping[str, Any] = program.fields[id(new)]
    if fields and old.builtinOptions is None:
        old.builtinOptions, old.builtinOptionsType = new.builtinOptions, new.builtinOptionsType
    for field, value in fields.items():
        was = getattr(old.builtinOptions, field)
        if field == "newShape":
            shape = tensors[int(new.outputs[0])].shape
            value = None if was is None else shape if was is not None and len(was) != len(shape) else was
        if field == "axis" and rank and (was - value) % rank == 0:
            continue
        setattr(old.builtinOptions, field, value)
    version = program.model.operatorCodes[new.opcodeIndex].version
    if program.model.operatorCodes[old.opcodeIndex].version < version:
        old.opcodeIndex = new.opcodeIndex
    made, kept = int(new.outputs[0]), int(old.outputs[0])
    _take_over(program, made, kept)
    graph.operators = [o for o in graph.operators if o is not old]
    graph.operators[next(i for i, o in enumerate(graph.operators) if o is new)] = old
    graph.operators = _sorted(graph.operators)


def _take_over(program: Program, made: int, kept: int) -> None:
    """Whatever reads the new tensor reads the old one again."""
    old, new = program.tensors[kept], program.tensors[made]
    if program.shape(kept) != program.shape(made):
        old.shape, old.shapeSignature = new.shape, new.shapeSignature
    if program.quantisation(made) is not None and not _same_grid(program, made, kept):
        old.quantization = new.quantization
    if made in [int(t) for t in program.graph.outputs]:
        old.name = new.name
    for operator in program.graph.operators:
        if made in operator.inputs:
            operator.inputs = np.where(np.asarray(operator.inputs) == made, kept, operator.inputs).astype(np.int32)
    program.exits = [kept if t == made else t for t in program.exits]
    outputs = np.asarray(program.graph.outputs)
    if made in outputs:
        program.graph.outputs = np.where(outputs == made, kept, outputs).astype(np.int32)
        for signature in program.model.signatureDefs or []:
            for entry in signature.outputs or []:
                entry.tensorIndex = kept if entry.tensorIndex == made else entry.tensorIndex


def _same_grid(program: Program, a: int, b: int) -> bool:
    one, other = program.quantisation(a), program.quantisation(b)
    return one is not None and other is not None and bool(
        np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and one[2] == other[2]
    )


def _merge_constants(program: Program, new: Any, old: Any) -> None:
    for slot, (a, b) in enumerate(zip([int(t) for t in new.inputs], [int(t) for t in old.inputs], strict=True)):
        if a == b:
            continue
        grid = program.quantisation(program.origin(b))
        array = program.constant(a)
        held = program.stored(b)
        if grid is None and array is not None and held is not None and held.dtype == array.dtype:
            program.store(program.own(old, slot), array)
            continue
        inputs = np.array(old.inputs, np.int32)
        inputs[slot] = a
        old.inputs = inputs


def _sorted(operators: Sequence[Any]) -> list[Any]:
    """Producers first, otherwise as they are. Raises Unsupported on a cycle."""
    makers = {int(t): i for i, o in enumerate(operators) for t in o.outputs}
    order: list[Any] = []
    state = [0] * len(operators)

    for start in range(len(operators)):
        stack = [start]
        while stack:
            i = stack[-1]
            waiting = [] if state[i] == 2 else [
                makers[int(t)] for t in operators[i].inputs if int(t) in makers and state[makers[int(t)]] != 2
            ]  # fmt: skip
            if not waiting:
                stack.pop()
                if state[i] != 2:
                    order.append(operators[i])
                state[i] = 2
            elif state[i] == 1 and any(state[w] == 1 for w in waiting):
                raise Unsupported("the edits make a cycle")
            else:
                state[i] = 1
                stack += reversed(waiting)
    return order


def _restore_order(program: Program) -> None:
    """The original order where it still is one."""
    place = {id(o): i for i, o in enumerate(program.old_operators)}
    if all(id(o) in place for o in program.graph.operators):
        made: set[int] = set()
        ordered = sorted(program.graph.operators, key=lambda o: place[id(o)])
        every = {int(t) for o in ordered for t in o.outputs}
        for operator in ordered:
            if any(int(t) in every and int(t) not in made for t in operator.inputs):
                return
            made |= {int(t) for t in operator.outputs}
        program.graph.operators = ordered


def _trim(program: Program) -> None:
    """New tensors that nothing uses after all go; those behind them move up."""
    graph = program.graph
    used = {int(t) for o in graph.operators for t in (*o.inputs, *o.outputs)} | {int(t) for t in graph.outputs}
    kept = [i for i in range(program.original, len(program.tensors)) if i in used]
    places = {old: program.original + n for n, old in enumerate(kept)}
    graph.tensors[program.original :] = [program.tensors[i] for i in kept]
    if all(a == b for a, b in places.items()):
        return
    for operator in graph.operators:
        operator.inputs = np.array([places.get(int(t), int(t)) for t in operator.inputs], np.int32)
        operator.outputs = np.array([places.get(int(t), int(t)) for t in operator.outputs], np.int32)
    program.exits = [places.get(t, t) for t in program.exits]
    graph.outputs = np.array([places.get(int(t), int(t)) for t in graph.outputs], np.int32)
    for signature in program.model.signatureDefs or []:
        for entry in signature.outputs or []:
            entry.tensorIndex = places.get(int(entry.tensorIndex), entry.tensorIndex)
