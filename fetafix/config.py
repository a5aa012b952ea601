"""fetafix.yaml as typed records.

The file holds one pair's keys at the top level, or a list of them under `pairs`. Paths are relative to the file. A key
that is not known, given twice, or of the wrong type is an error that names the file, the line, the place in it, and the
nearest key that exists. Preprocessing stays plain data here; `fetafix.inputs` gives it its meaning.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from fetafix.errors import ConfigError, OutputError
from fetafix.files import replacing

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Bound = Annotated[float, msgspec.Meta(ge=0)]
R = TypeVar("R", bound=msgspec.Struct)
LOADER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the configuration's records."""


class Model(Record, frozen=True, kw_only=True):
    """A model: its file, and how it wants to be opened, fed and run.

    model: The file, relative to this one. preprocess: How images become its input: a preset's name (torchvision,
    keras-tf, keras-caffe, keras-torch, unit, raw), "preset,key=value,…", or a mapping with the key preset. arch:
    "module:factory" for a bare state dict. threads: Of its runtime; 0 lets it choose. device: Where it runs: cpu, cuda,
    cuda:1. provider: ONNX Runtime's execution provider. optimise: How far its runtime may optimise the graph; true is
    all, false none. signature: Of a SavedModel or a TFLite file.
    """

    model: str
    preprocess: str | dict[str, Any] | None = None
    arch: str | None = None
    threads: Annotated[int, msgspec.Meta(ge=0)] | None = None
    device: str | None = None
    provider: str | None = None
    optimise: bool | Literal["none", "basic", "extended", "all"] | None = None
    signature: str | None = None


class Tolerance(Record, frozen=True, kw_only=True):
    """What one output may differ by, instead of what the source's noise allows.

    max_abs: The largest difference, in the output's own unit. mean_abs: The mean difference, in the output's own unit.
    max_rel: The largest difference, relative to the source's value. rel_l2: The difference of all values together,
    relative to the source's.
    """

    max_abs: _Bound | None = None
    mean_abs: _Bound | None = None
    max_rel: _Bound | None = None
    rel_l2: _Bound | None = None


class Accept(Record, frozen=True, kw_only=True):
    """A finding that is known and accepted: a pair whose every finding is accepted does not fail the gate.

    code: The fault type's, as `fetafix faults` lists it. reason: Why it is accepted; reports repeat it. target_layer:
    The layer that it is accepted at, in the target's name; without, anywhere. until: The last day on which it is
    accepted, such as 2030-01-31; afterwards the finding counts again. Without, for ever.
    """

    code: str
    reason: str
    target_layer: str | None = None
    until: datetime.date | None = None


class Pair(Record, frozen=True, kw_only=True):
    """A source, a target, and how to compare them. What is left out is left to the command line or the default.

    source: The original: its file, or a mapping with the key model. target: What a conversion made of it: its file, or
    a mapping with the key model. name: What reports call the pair, and what --pair chooses. data: A folder of images,
    .npy, .npz, or "module:function" (with trust); without, inputs are made up. samples: How many to draw (100). seed:
    What draws and makes samples (0). rounds: How many times to draw (1). batch: Samples a run of the models. threads:
    Of each runtime; 0 lets it choose. preprocess: How images become the input of both models: a preset's name
    (torchvision, keras-tf, keras-caffe, keras-torch, unit, raw), "preset,key=value,…", or a mapping with the key
    preset. trust: Code from both model files and from a Python loader may run. gate: What must agree: labels, task (the
    answers of another task) or numeric. task: What the outputs are for, where names and values do not tell:
    classification, segmentation, detection, tokens, embedding, regression or numeric; by output name: a task with its
    limits as text, or a mapping with the key task. max_mismatch: The share of labels, or of other answers, that may
    differ (0). confidence: How sure the verdict about answers must be (0.95). search: How much to look for inputs
    beside the data on which the models disagree. tolerance: By output, what its numbers may differ by. accept: Findings
    that are known and accepted.
    """

    source: str | Model
    target: str | Model
    name: str = ""
    data: str | None = None
    samples: _Count | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    rounds: _Count | None = None
    batch: _Count | None = None
    threads: Annotated[int, msgspec.Meta(ge=0)] | None = None
    preprocess: str | dict[str, Any] | None = None
    trust: bool = False
    gate: Literal["labels", "task", "numeric"] | None = None
    task: str | list[str] | dict[str, str | dict[str, str | float]] | None = None
    max_mismatch: _Share | None = None
    confidence: _Share | None = None
    search: Literal["off", "quick", "deep"] | None = None
    tolerance: dict[str, Tolerance] = {}
    accept: list[Accept] = []

    def models(self) -> tuple[Model, Model]:
        """Source and target in their long form; a preprocessing of the pair holds for both unless one has its own."""
        both = (m if isinstance(m, Model) else Model(model=m) for m in (self.source, self.target))
        source, target = (
            m if m.preprocess is not None else msgspec.structs.replace(m, preprocess=self.preprocess) for m in both
        )
        return source, target


class Pairs(Record, frozen=True, kw_only=True):
    """Several pairs.

    pairs: What to compare; each has a name of its own.
    """

    pairs: Annotated[list[Pair], msgspec.Meta(min_length=1)]


class Config(Record, frozen=True, kw_only=True):
    """All pairs of a file, with paths that can be opened from anywhere."""

    path: str
    pairs: list[Pair]

    @property
    def names(self) -> list[str]:
        """A name for each pair: its own, or one made of its files' names."""
        found: list[str] = []
        for pair in self.pairs:
            source, target = pair.models()
            made = f"{Path(source.model).name} to {Path(target.model).name}"
            others = sum(n == made or n.startswith(f"{made} (") for n in found)
            found.append(pair.name or (f"{made} ({others + 1})" if others else made))
        return found

    def pair(self, name: str | None = None) -> Pair:
        """The pair of that name, or the only one. Raises ConfigError that lists the names otherwise."""
        chosen = [p for p, n in zip(self.pairs, self.names, strict=True) if name is None or n == name]
        if len(chosen) == 1:
            return chosen[0]
        names = ", ".join(self.names)
        if name is None:
            raise ConfigError(f"{self.path} has {len(self.pairs)} pairs ({names}): choose one with --pair NAME")
        raise ConfigError(f"{self.path} has no pair {name!r}; it has {names}")


def load(path: str | Path) -> Config:
    """Read a configuration file. Raises ConfigError that says what is wrong on which line."""
    path = Path(path)
    data, lines = _read(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping with source and target, or pairs; found {_kind(data)}")
    pairs = _convert(data, path, lines)
    return Config(path=str(path), pairs=[_resolved(p, path.parent) for p in pairs])


def load_as(kind: type[R], path: str | Path) -> R:
    """A YAML file of any other kind as its record. Raises ConfigError that says what is wrong on which line."""
    path = Path(path)
    data, lines = _read(path)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), path, lines, lambda _: list(kind.__struct_fields__)) from error


def _read(path: Path) -> tuple[Any, dict[str, int]]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path} is not UTF-8 text (byte {error.start})") from error
    return _parse(text, path)


def save(pair: Pair, path: str | Path) -> None:
    """Write the configuration of one pair, without what is left to the defaults. Raises OutputError."""
    plain = {k: _plain(v) for k, v in msgspec.structs.asdict(pair).items() if v not in (None, "", False, {}, [])}
    try:
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), "utf-8")
    except OSError as error:
        raise OutputError(f"the configuration {path} cannot be written: {error.strerror}") from error


def _plain(value: Any) -> Any:
    fields = msgspec.to_builtins(value)
    return {k: v for k, v in fields.items() if v is not None} if isinstance(value, Model) else fields


def _convert(data: dict[str, Any], path: Path, lines: dict[str, int]) -> list[Pair]:
    try:
        pairs = msgspec.convert(data, Pairs).pairs if "pairs" in data else [msgspec.convert(data, Pair)]
    except msgspec.ValidationError as error:
        raise _explained(str(error), path, lines, _fields_at) from error
    names = [p.name for p in pairs if p.name]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: {names.count(name)} pairs are called {name!r}")
    return pairs


def _explained(
    message: str, path: Path, lines: dict[str, int], fields_at: Callable[[str], list[str]]
) -> ConfigError:
    """Msgspec's message ("… - at `$.pairs[0].samples`") with the file, the line and the nearest key of that place."""
    what, _, place = message.partition(" - at `")
    place = place.rstrip("`") or "$"
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        key, known = unknown[1], fields_at(place)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        what = f"unknown key {key!r}"
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        place = f"{place}.{key}"
    else:
        missing = re.search(r"missing required field `(.*)`", what)
        what = f"the key {missing[1]!r} is missing" if missing else f"{what[:1].lower()}{what[1:]}"
        hint = ""
    where = f"{path}, line {lines[place]}" if place in lines else str(path)
    inside = place.removeprefix("$").removeprefix(".")
    return ConfigError(": ".join(filter(None, (where, inside, what))) + (f"; {hint}" if hint else ""))


def _fields_at(place: str) -> list[str]:
    last = place.rpartition(".")[2]
    kind: type[msgspec.Struct] = Pair
    if last in ("source", "target"):
        kind = Model
    elif last.startswith("accept["):
        kind = Accept
    elif ".tolerance" in place:
        kind = Tolerance
    return ["pairs", *kind.__struct_fields__] if place == "$" else list(kind.__struct_fields__)


class _Loader(yaml.SafeLoader):
    """Safe loading; numbers like 1e-3 are floats, as YAML 1.2 has it."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def _parse(text: str, path: Path) -> tuple[Any, dict[str, int]]:
    """The data of a YAML text, and the line of every place in it ("$.pairs[0].samples" → 3)."""
    loader = _Loader(text)
    lines: dict[str, int] = {}
    try:
        root = loader.get_single_node()
        if root is None:
            return None, lines
        _walk(root, "$", lines, path)
        return loader.construct_document(root), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    finally:
        loader.dispose()


def _walk(node: yaml.Node, place: str, lines: dict[str, int], path: Path) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, f"{place}[{i}]", lines, path)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                raise ConfigError(f"{path}, line {line}: the key {name!r} was given already on line {seen[name]}")
            seen[name] = line
            lines[f"{place}.{name}"] = line
            _walk(value, f"{place}.{name}", lines, path)


def _kind(data: Any) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"


def _resolved(pair: Pair, folder: Path) -> Pair:
    source, target = (msgspec.structs.replace(m, model=str(folder / m.model)) for m in pair.models())
    data = pair.data
    if data is not None and not (LOADER.fullmatch(data) and not (folder / data).exists()):
        data = str(folder / data)
    return msgspec.structs.replace(pair, source=source, target=target, data=data)
