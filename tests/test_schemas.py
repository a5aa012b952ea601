"""The JSON Schemas: valid themselves, made of the records, and of one mind with what reads the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from fetafix import config, pair_options, schemas
from fetafix.errors import ConfigError
from fetafix.gate import record
from fetafix.inputs.recipe import PRESETS
from fetafix.report import to_json
from tests.render.gates import GATES
from tests.render.reports import REPORTS

EXAMPLE = Path(schemas.__file__).parent.parent / "configs" / "example.yaml"


def validator(kind: schemas.Kind) -> Any:
    made = schemas.schema(kind)
    return jsonschema.validators.validator_for(made)(made, format_checker=jsonschema.FormatChecker())


def plain(text: str) -> Any:
    """YAML as editors see it: a date is a text."""
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.yaml_implicit_resolvers = {
        k: [(tag, rule) for tag, rule in v if not tag.endswith("timestamp")]
        for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    return yaml.load(text, loader)


def errors(data: Any) -> list[str]:
    return [e.message for e in validator("config").iter_errors(data)]


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_they_are_json_schemas(kind: schemas.Kind) -> None:
    made = schemas.schema(kind)
    jsonschema.validators.validator_for(made, default=None).check_schema(made)  # type: ignore[arg-type]
    assert json.loads(schemas.text(kind)) == made


def test_the_package_has_the_one_for_editors() -> None:
    assert schemas.FILE.read_text("utf-8") == schemas.text("config"), "make schema"


def test_the_example_is_accepted() -> None:
    assert errors(plain(EXAMPLE.read_text("utf-8"))) == []


def test_every_key_of_the_configuration_is_described() -> None:
    for name, made in schemas.schema("config")["$defs"].items():
        undescribed = [k for k, v in made["properties"].items() if not v.get("description")]
        assert undescribed == [] or name == "Preprocess"  # whose steps the README describes
        assert made["additionalProperties"] is False and not made["description"].endswith(":")


PAIR = {"source": "a.onnx", "target": "b.pt"}


@pytest.mark.parametrize(("data", "place", "said"), [
    ({**PAIR, "targt": 1}, "targt", "unexpected"),
    ({"pairs": [{**PAIR, "smples": 3}]}, "smples", "unexpected"),
    ({"pairs": [PAIR], "gate": "labels"}, "gate", "unexpected"),
    ({"pairs": []}, "", "non-empty"), ({"source": "a.onnx"}, "target", "required"),
    ({**PAIR, "samples": 0}, "", "valid under any"), ({**PAIR, "gate": "label"}, "", "valid under any"),
    ({**PAIR, "source": {"model": "a", "arhc": "x:y"}}, "arhc", "valid under any"),
    ({**PAIR, "tolerance": {"y": {"max_ab": 1}}}, "max_ab", "unexpected"),
    ({**PAIR, "accept": [{"code": "x"}]}, "reason", "required"),
    ({**PAIR, "accept": [{"code": "x", "reason": "y", "until": "soon"}]}, "soon", "valid under any"),
    ({**PAIR, "max_mismatch": 2}, "", "valid under any"), ({**PAIR, "trust": "yes"}, "", "boolean"),
])
def test_both_refuse_the_same(data: dict[str, Any], place: str, said: str, tmp_path: Path) -> None:
    found = errors(data)
    assert len(found) == 1 and place in found[0] and (said in found[0] or "should be" in found[0])
    path = tmp_path / "fetafix.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    with pytest.raises(ConfigError):
        config.load(path)


@pytest.mark.parametrize("data", [
    PAIR, {"pairs": [PAIR]}, {**PAIR, "preprocess": {"preset": "raw", "scale": "1/255", "size": [4, 5]}, "data": None},
    {**PAIR, "preprocess": {"resize": "squash", "size": 8, "crop_size": None, "antialias": False, "std": 2}},
    {**PAIR, "preprocess": "torchvision,color=bgr"},
    {**PAIR, "source": {"model": "a", "optimise": False}, "task": {"mask": {"task": "segmentation", "miou": 0.9}}},
    {**PAIR, "task": ["a=classification"], "tolerance": {"y": {"max_abs": 0.1}}},
    {**PAIR, "accept": [{"code": "x", "reason": "y", "until": "2030-01-31"}]},
])
def test_both_accept_the_same(data: dict[str, Any], tmp_path: Path) -> None:
    assert errors(data) == []
    path = tmp_path / "fetafix.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    config.load(path)


@pytest.mark.parametrize("given", [{"preset": "torchvison"}, {"preset": "raw", "colour": "rgb"}, {"size": [1, "a", 3]}])
def test_preprocessing_is_checked_too(given: dict[str, Any], tmp_path: Path) -> None:
    data = {**PAIR, "preprocess": given}
    assert len(errors(data)) == 1
    path = tmp_path / "fetafix.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    with pytest.raises(ConfigError):
        pair_options.check(config.load(path).pair(), str(path))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_may_be_written_out(preset: str) -> None:
    assert errors({**PAIR, "preprocess": json.loads(json.dumps(PRESETS[preset].as_dict()))}) == []
    assert errors({**PAIR, "preprocess": {"preset": preset}}) == []


@pytest.mark.parametrize("name", REPORTS)
def test_reports_are_accepted(name: str) -> None:
    validator("report").validate(json.loads(to_json(REPORTS[name])))


@pytest.mark.parametrize("name", ["gate", "gate_passes"])
def test_reports_of_gates_are_accepted(name: str) -> None:
    told = json.loads(record.to_json(GATES[name]))
    validator("gate").validate(told)
    told["pairs"][0]["status"] = "fine"
    assert not validator("gate").is_valid(told)


def test_docstrings_become_descriptions() -> None:
    class Made(msgspec.Struct):
        """A thing, of which much is said: see below.

        one, two: Numbers; small: always. three: A text
        over two lines, with other: in it.
        """

        one: int
        two: int
        three: str

    assert schemas.described(Made) == ("A thing, of which much is said: see below.", {
        "one": "Numbers; small: always.", "two": "Numbers; small: always.",
        "three": "A text over two lines, with other: in it."})
