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
_LOADER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the configuration's records."""


class Model(Record, frozen=True, kw_only=True):
    """A model: its file, and how it wants to be opened, fed and run.

    arch: "module:factory" for a bare state dict. threads, device, provider, optimise, signature: of its runtime;
    optimise is a level, or true for all and false for none.
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
    """Bounds for one output, in its own unit (max_abs, mean_abs) or relative; they replace the noise floor's."""

    max_abs: _Bound | None = None
    mean_abs: _Bound | None = None
    max_rel: _Bound | None = None
    rel_l2: _Bound | None = None


class Accept(Record, frozen=True, kw_only=True):
    """A finding that is known and accepted, why, and until when."""

    code: str
    reason: str
    target_layer: str | None = None
    until: datetime.date | None = None


class Pair(Record, frozen=True, kw_only=True):
    """A source, a target, and how to compare them. What is None here is left to the command line or the default.

    trust: code from both model files and from a Python loader may run. task: what the outputs are for, as `--task`
    says it; by output name: the text behind the "=", or a mapping with the key task and limits.
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


class _Pairs(Record, frozen=True, kw_only=True):
    pairs: Annotated[list[Pair], msgspec.Meta(min_length=1)]


class Config(Record, frozen=True, kw_only=True):
    """All pairs of a file, with paths that can be opened from anywhere."""

    path: str
    pairs: list[Pair]

    def pair(self, name: str | None = None) -> Pair:
        """The pair of that name, or the only one. Raises ConfigError that lists the names otherwise."""
        chosen = [p for p in self.pairs if name is None or p.name == name]
        if len(chosen) == 1:
            return chosen[0]
        names = ", ".join(p.name or "(unnamed)" for p in self.pairs)
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
        pairs = msgspec.convert(data, _Pairs).pairs if "pairs" in data else [msgspec.convert(data, Pair)]
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
    if data is not None and not (_LOADER.fullmatch(data) and not (folder / data).exists()):
        data = str(folder / data)
    return msgspec.structs.replace(pair, source=source, target=target, data=data)
