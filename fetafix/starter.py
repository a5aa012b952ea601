"""A first fetafix.yaml for two models: what they are, what probably has to agree, and every other key to choose from.

Both models are opened and run on a few samples, as `check` does; what that tells is written as keys, what can only be
guessed as comments.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fetafix.inputs.recipe import Preprocess
from fetafix.inputs.signature import image_input
from fetafix.judge.tasks.base import Assignment
from fetafix.judge.tasks.registry import NUMERIC
from fetafix.options import Options
from fetafix.report import ModelInfo, TensorInfo
from fetafix.session import Session

_FEW = 8
_COLUMN = 36
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")


@dataclass(frozen=True)
class Found:
    """What two models are. outputs: the source's that are judged. tasks: what is known of them. gate: what must agree.

    images: the source's inputs that take images.
    """

    source: ModelInfo
    target: ModelInfo
    outputs: Sequence[str]
    tasks: Sequence[Assignment]
    gate: str
    images: Sequence[TensorInfo]


def look(source: str, target: str, options: Options) -> Found:
    """Open both models and run them on a few samples. Raises ModelError, UsageError and InputDataError."""
    with Session(source, target, replace(options, samples=min(options.samples, _FEW))) as session:
        bound = [b.source for b in session.bindings.outputs]
        images = [i for i in session.source_info.inputs if image_input(i, Preprocess()) is not None]
        return Found(session.source_info, session.target_info, bound, session.tasks, session.gate, images)


def text(found: Found, options: Options, place: Path, schema: str) -> str:
    """The file's text. place: where it will be; paths in it are relative to that. schema: what editors are told."""
    lines = [f"# yaml-language-server: $schema={schema}", *_head(found), "", "pairs:", *_pair(found, options, place)]
    return "\n".join(lines) + "\n"


def _head(found: Found) -> Iterator[str]:
    yield "# What fetafix compares, and how. `fetafix gate` takes every pair, `fetafix check -c FILE` one of them."
    yield "# Paths are relative to this file. Keys behind a # are off: take the # away to use them. The first line"
    yield "# tells editors which keys there are; `fetafix schema -o FILE` writes that file elsewhere."
    for role, model in (("source", found.source), ("target", found.target)):
        yield f"#\n# The {role}: {_line(model.format)}"
        for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
            yield from (f"#   {kind:<6} {_tensor(t)}" for t in tensors)


def _pair(found: Found, options: Options, place: Path) -> Iterator[str]:
    names = dict.fromkeys(Path(m.path).stem for m in (found.source, found.target))
    yield f"  - name: {_scalar('-to-'.join(names))}"
    yield from _model("source", found.source, options.source_arch, place)
    yield from _model("target", found.target, options.target_arch, place)
    yield from ([_key("trust: true", "code from the model files may run")] if options.trust else [])
    yield from _data(found, options, place)
    yield _key(f"samples: {options.samples}", "how many to draw")
    yield _key(f"seed: {options.seed}", "what draws and makes them")
    yield _key(f"gate: {found.gate}", _why(found))
    yield from _rest(found)


def _model(role: str, model: ModelInfo, arch: str | None, place: Path) -> Iterator[str]:
    path = _scalar(_relative(model.path, place))
    yield f"    {role}: {path}" if arch is None else f"    {role}: {{model: {path}, arch: {_scalar(arch)}}}"


def _data(found: Found, options: Options, place: Path) -> Iterator[str]:
    what = "a folder of images, .npy or .npz" if found.images else "an .npz with the inputs by name, or .npy"
    if options.data is None:
        example = "images/" if found.images else "inputs.npz"
        yield _off(f"data: {example}", f"{what}; without, inputs are made up")
    else:
        data = str(options.data)
        yield _key(f"data: {_scalar(_relative(data, place) if Path(data).exists() else data)}", what)
    if found.images:
        first, *others = presets(found)
        names = _line(", ".join(i.name for i in found.images))
        yield _off(f"preprocess: {first}", f"how images become {names}: {', '.join(others)}, or steps of your own")


def presets(found: Found) -> list[str]:
    """Presets of preprocessing that may suit, the likeliest first: by the source's framework and its input's dtype."""
    if found.images[0].dtype in ("uint8", "int8"):
        return ["raw", "unit"]
    made_by = f"{found.source.format} {found.source.details.get('producer', '')}".lower()
    if any(word in made_by for word in ("keras", "tensorflow", "saved", "graphdef", "tf", "tflite")):
        return ["keras-tf", "keras-caffe", "keras-torch", "unit", "raw"]
    return ["torchvision", "keras-torch", "unit", "raw"]


def _why(found: Found) -> str:
    """Why the gate is what it is."""
    sure = [t for t in found.tasks if t.sure]
    known = f"{_line(', '.join(sure[0].outputs))}: {sure[0].comparator.name}" if sure else "no sure sign of a task"
    return f"what must agree: labels, task (other answers) or numeric; {known}"


def _rest(found: Found) -> Iterator[str]:
    known = {o: t for t in found.tasks for o in t.outputs}
    yield _off("task:", "what outputs are for: classification, segmentation, detection, tokens, embedding, …")
    for output in found.outputs:
        task = known.get(output)
        sure = "" if task is None else "# as it is taken to be" if task.sure else "# a guess"
        name = NUMERIC if task is None else task.comparator.name
        yield f"    #   {f'{_scalar(output)}: {name}':<{_COLUMN - 4}}{sure}".rstrip()
    yield _off("max_mismatch: 0.01", "the share of answers that may differ")
    yield _off("search: quick", "for inputs beside the data on which the models disagree; or off, deep")
    yield _off("tolerance:", "by output, instead of what the source's own noise allows")
    yield from (f"    #   {_scalar(o)}: {{max_abs: 1.0e-3}}" for o in found.outputs)
    yield _off("accept:", "findings that are known and do not fail the gate, until a day")
    yield "    #   - {code: lh-dilation, target_layer: layer, reason: why, until: 2030-12-31}"


def _key(key: str, comment: str) -> str:
    return f"    {key:<{_COLUMN}}# {comment}"


def _off(key: str, comment: str) -> str:
    return f"    # {key:<{_COLUMN - 2}}# {comment}"


def _relative(path: str, place: Path) -> str:
    return Path(os.path.relpath(path, place.parent)).as_posix()


def _scalar(value: str) -> str:
    """A text as YAML: plain where it cannot be taken for anything else."""
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())


def _tensor(tensor: TensorInfo) -> str:
    shape = "any shape" if tensor.shape is None else "×".join("?" if d is None else str(d) for d in tensor.shape)
    return _line(f"{tensor.name} {tensor.dtype} {shape}")


def _line(value: str) -> str:
    """On one line, which a comment must be."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())
