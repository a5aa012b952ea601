"""The zoo: answers are diverse, activations alive, the forms of a network the same function under other names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fetafix.bench import zoo
from fetafix.bench.zoo import Made
from fetafix.errors import UsageError
from fetafix.ir import Array

Make = Callable[[str], Made]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("zoo")
    return lambda name: zoo.make(name, folder)


def feeds(made: Made) -> dict[str, Array]:
    loaded = np.load(made.samples)
    return {made.inputs[0]: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)


def outputs(path: Path, given: dict[str, Array]) -> list[Array]:
    return list(onnxruntime.InferenceSession(str(path)).run(None, given))


@pytest.mark.parametrize("name", zoo.MODELS)
def test_answers_are_diverse_and_activations_alive(make: Make, name: str) -> None:
    made = make(name)
    given = feeds(made)
    assert set(given) == set(made.inputs) and len({len(v) for v in given.values()}) == 1
    model = onnx.load(made.model)
    ends = {v.name for v in model.graph.output}
    inner = [o for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "ConvTranspose")
             for o in n.output[:1] if o not in ends]
    model.graph.output.extend(onnx.ValueInfoProto(name=o) for o in inner)
    values = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    scores = values[made.outputs.index(made.scores)]
    labels = np.unique(scores.argmax(made.label_axis), return_counts=True)
    assert made.task == "regression" or (len(labels[0]) >= 5 and labels[1].max() < 0.5 * labels[1].sum())
    for x in values[len(made.outputs):]:
        assert np.isfinite(x).all() and x.std() > 1e-2
        assert np.abs(x - x[:1]).max() > 1e-2 * np.abs(x).max(), "the same for every sample"


@pytest.mark.parametrize("name", zoo.MODELS)
def test_forms_share_the_function_and_no_inner_name(make: Make, name: str) -> None:
    _check_forms(make(name), {"plain", "folded"})


def test_the_other_exporter_too(tmp_path: Path) -> None:
    first = zoo.make("GRU", tmp_path, forms=("plain",))
    before = first.model.read_bytes()
    assert set(first.forms) == {"plain"}
    _check_forms(zoo.make("GRU", tmp_path, forms=("dynamo",)), {"plain", "dynamo"})
    assert first.model.read_bytes() == before


def _check_forms(made: Made, forms: set[str]) -> None:
    expected = outputs(made.model, feeds(made))
    assert set(made.forms) == forms and made.forms["plain"] == made.model
    seen = [_inner(path) for path in made.forms.values()]
    assert not seen[0] & seen[1]
    for path in made.forms.values():
        for value, right in zip(outputs(path, feeds(made)), expected, strict=True):
            assert np.abs(value - right).max() < 1e-4 * np.abs(right).max()


def _inner(path: Path) -> set[str]:
    model = onnx.load(path)
    names = {t.name for t in model.graph.initializer} | {o for n in model.graph.node for o in n.output}
    return (names | {n.name for n in model.graph.node}) - {v.name for v in model.graph.output}


def test_what_is_made_is_kept_and_found_where_it_was_moved_to(make: Make, tmp_path: Path) -> None:
    made = make("LSTM")
    before = made.model.stat().st_mtime_ns
    assert zoo.make("LSTM", made.model.parent) == made and made.model.stat().st_mtime_ns == before
    moved = tmp_path / "elsewhere"
    made.model.parent.rename(moved)
    try:
        found = zoo.make("LSTM", moved)
        assert found.model == moved / made.model.name and found.samples.exists() and found.forms["plain"] == found.model
    finally:
        moved.rename(made.model.parent)


@pytest.mark.parametrize(("name", "scale"), [("VGG16", "small"), ("LSTM", "huge")])
def test_what_the_zoo_has_not(tmp_path: Path, name: str, scale: str) -> None:
    with pytest.raises(UsageError, match="known: "):
        zoo.make(name, tmp_path / "zoo", scale)  # type: ignore[arg-type]
    assert not (tmp_path / "zoo").exists()
