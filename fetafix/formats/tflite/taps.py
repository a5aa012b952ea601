"""What a TFLite model computes operator by operator, in LiteRT itself.

A copy of the file names every activation an output; or the interpreter keeps all activations, which in some versions
changes results, and serves only with the plain kernels, for XNNPACK keeps its own to itself. Whichever is used, the
outputs of the tapped run must equal those of an untapped one bit by bit, or it does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from fetafix.errors import LiftError, RuntimeCrash
from fetafix.formats.base import Tap, Taps
from fetafix.formats.tflite import codes as tflite_codes
from fetafix.formats.tflite import copy as tflite_copy
from fetafix.formats.tflite import names as tflite_names
from fetafix.formats.tflite.file import parse
from fetafix.formats.tflite.ports import Port, Ports
from fetafix.formats.tflite.records import Operator, Tensor, TfliteFile
from fetafix.formats.tflite.runtime import Runner, Settings
from fetafix.ir import Array

Outputs = dict[str, Array]
_NO_NUMBERS = ("string", "resource", "variant")


def tap(file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array]) -> Taps:
    """The activations for one batch of feeds, in real numbers.

    Raises LiftError where no way to tap leaves the outputs as they are.
    """
    values, _ = _looked_at(file, ports, settings, feeds)
    return Taps(tuple(layers(file, ports)), values)


def tap_forced(
    file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array], forced: Mapping[str, Array]
) -> Taps:
    """The activations where some tensors hold other values than the model computes, by the names that `tap` gives.

    Codes are found for values where the tensor is quantised. Raises LiftError as `tap`, and for tensors that are none.
    """
    _, chosen = _looked_at(file, ports, settings, feeds)
    indices = {name: t.index for t in computed(file, ports) for name in (tensor_names(ports)[t.index],)}
    unknown = [n for n in forced if n not in indices]
    if unknown:
        raise LiftError(f"{file.path}: there is no tensor {unknown[0]!r} that it computes")
    content = tflite_copy.with_outputs(
        file, ports.graph.index, [t.index for t in computed(file, ports)], [indices[n] for n in forced]
    )
    copy = parse(content, file.path)
    fed = copy.main.inputs[-len(forced) :] if forced else ()
    tensors = (copy.main.tensors[i] for i in fed)
    more = tuple(Port(n, t, tflite_codes.interface(t)) for n, t in zip(forced, tensors, strict=True))
    moved = replace(ports, graph=copy.main, signature=None, inputs=(*ports.inputs, *more))
    runner = Runner(copy, moved, chosen, content)
    outputs = runner({**feeds, **forced})
    values = _fetched(runner, file, replace(ports, graph=copy.main))
    return Taps(tuple(layers(file, ports)), {**values, **outputs, **forced})


def _looked_at(
    file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array]
) -> tuple[Outputs, Settings]:
    """The activations, and the settings with which they can be looked at."""
    plain = replace(settings, threads=1, optimise=False)
    failures = []
    for way, chosen in ((as_outputs, settings), (kept, plain), (as_outputs, plain)):
        try:
            values = _proven(way, file, ports, chosen, feeds)
        except (RuntimeCrash, LiftError) as error:
            failures.append(str(error).removeprefix(f"{file.path}: "))
            continue
        return values, chosen
    raise LiftError(f"{file.path}: its operators cannot be looked at: {'; '.join(dict.fromkeys(failures))}")


Way = Callable[[TfliteFile, Ports, Settings, Mapping[str, Array]], Outputs]


def _proven(way: Way, file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array]) -> Outputs:
    """The values that a way of tapping gives, if it leaves the outputs as they are."""
    untapped = Runner(file, ports, settings)(feeds)
    values = way(file, ports, settings, feeds)
    for name, expected in untapped.items():
        if name not in values or not np.array_equal(values[name], expected, equal_nan=True):
            raise LiftError(f"{way.__name__.replace('_', ' ')}, activations change output {name!r}")
    return values


def kept(file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array]) -> Outputs:
    """All activations, from an interpreter that keeps them."""
    runner = Runner(file, ports, replace(settings, keep=True))
    outputs = runner(feeds)
    return {**_fetched(runner, file, ports), **outputs}


def as_outputs(file: TfliteFile, ports: Ports, settings: Settings, feeds: Mapping[str, Array]) -> Outputs:
    """All activations, from a copy of the file in which they are outputs. Raises LiftError where none can be made."""
    wanted = [t.index for t in computed(file, ports)]
    content = tflite_copy.with_outputs(file, ports.graph.index, wanted)
    copy = parse(content, file.path)
    moved = replace(ports, graph=copy.main, signature=None)
    runner = Runner(copy, moved, settings, content)
    outputs = runner(feeds)
    return {**_fetched(runner, copy, moved), **outputs}


def _fetched(runner: Runner, file: TfliteFile, ports: Ports) -> Outputs:
    """Every computed tensor by its name, dequantised, and the inputs."""
    names = tensor_names(ports)
    found = {}
    for tensor in (*(p.tensor for p in ports.inputs), *computed(file, ports)):
        value = runner.tensor(tensor.index)
        if value is not None:
            found[names[tensor.index]] = real(value, tensor)
    return found


def real(value: Array, tensor: Tensor) -> Array:
    """A tensor's values in real numbers."""
    q = tensor.quantisation
    return value if q is None or tensor.dtype not in tflite_codes.CODES else tflite_codes.dequantise(value, q)


def tensor_names(ports: Ports) -> dict[int, str]:
    """Tensor index → name: that of the interface where it has one, else its own, made unique."""
    changed = tflite_copy.renamed(ports.graph)
    names = {t.index: changed.get(t.index, t.name) for t in ports.graph.tensors}
    return names | {p.tensor.index: p.name for p in (*ports.outputs, *ports.inputs)}


def layers(file: TfliteFile, ports: Ports) -> Iterator[Tap]:
    """The operators that compute something from the inputs, in their order."""
    names, live = tensor_names(ports), {t.index for t in computed(file, ports)}
    fed = live | {p.tensor.index for p in ports.inputs}
    for operator in ports.graph.operators:
        outputs = tuple(names[i] for i in operator.outputs if i in live)
        if outputs:
            first = ports.graph.tensors[operator.outputs[0]].name
            inputs = tuple(names[i] for i in operator.inputs if i in fed)
            yield Tap(tflite_names.layer(first, operator.op, operator.index), operator.op, inputs, outputs)


def computed(file: TfliteFile, ports: Ports) -> list[Tensor]:
    """The tensors that depend on the inputs (or on state), in the order in which they are made."""
    graph = ports.graph
    fixed = {t.index for t in graph.tensors if file.buffers[t.buffer].size and not t.variable}
    found = []
    for operator in graph.operators:
        if _constant(operator, fixed):
            fixed |= set(operator.outputs)
        else:
            found += [graph.tensors[i] for i in operator.outputs if i >= 0]
    return [t for t in found if t.dtype not in _NO_NUMBERS]


def _constant(operator: Operator, fixed: set[int]) -> bool:
    """Whether it only unpacks constants, as the DEQUANTIZE of a float16 weight does."""
    inputs = [i for i in operator.inputs if i >= 0]
    return bool(inputs) and all(i in fixed for i in inputs)
