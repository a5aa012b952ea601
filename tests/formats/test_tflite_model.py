"""TFLite models in their own runtime: the interface in real numbers, batches, options, signatures, state, refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix.errors import InputDataError, ModelError, RuntimeCrash, UnreadableModel, UntrustedModel, UsageError
from fetafix.formats.base import OpenOptions
from fetafix.ir import Array
from fetafix.parallel import ModelProcess
from tests.formats.tflite_variants import recurrent

ROOT = Path(__file__).resolve().parents[2]
CODED = ("int8", "uint8", "int16x8")


@pytest.fixture(scope="module")
def folder(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("tflite_models")


@pytest.fixture(scope="module")
def samples(folder: Path) -> tuple[Array, Array]:
    """Images, and the scores that Keras gives them."""
    with np.load(folder / "samples.npz") as arrays:
        return arrays["images"], arrays["scores"]


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[ModelProcess]:
    with ModelProcess(path, OpenOptions(threads=1, **options)) as process:
        process.info()
        yield process


def only(outputs: dict[str, Array]) -> Array:
    (value,) = outputs.values()
    return value


@pytest.mark.parametrize(
    ("name", "worst"),
    [("float", 1e-5), ("fp16", 4e-3), ("dynamic", 2e-2), ("int8", 0.08), ("uint8", 0.08), ("int16x8", 0.03)],
)
def test_answers_as_keras_does(folder: Path, samples: tuple[Array, Array], name: str, worst: float) -> None:
    images, scores = samples
    with opened(folder / f"{name}.tflite") as process:
        info = process.info()
        (entry,), (end,) = info.inputs, info.outputs
        assert (entry.dtype, entry.shape) == ("float32", ["batch", 16, 16, 3])
        assert (end.dtype, end.shape) == ("float32", ["batch", 10])
        found = only(process.run({entry.name: images}))
    assert found.dtype == np.float32 and np.abs(found - scores).max() < worst
    assert (found.argmax(1) == scores.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("name", CODED)
def test_codes_are_quantised_and_dequantised_at_the_ends(
    folder: Path, samples: tuple[Array, Array], name: str
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    images = samples[0][:3]
    own = Interpreter(str(folder / f"{name}.tflite"))
    (entry,), (end,) = own.get_input_details(), own.get_output_details()
    own.resize_tensor_input(entry["index"], images.shape)
    own.allocate_tensors()
    scale, zero = entry["quantization"]
    limits = np.iinfo(entry["dtype"])
    codes = np.clip(np.round(images / np.float32(scale)) + zero, limits.min, limits.max).astype(entry["dtype"])
    own.set_tensor(entry["index"], codes)
    own.invoke()
    step, middle = end["quantization"]
    expected = (own.get_tensor(end["index"]).astype(np.float32) - middle) * np.float32(step)
    with opened(folder / f"{name}.tflite") as process:
        info = process.info()
        facts = info.details["quantised_inputs"][info.inputs[0].name]
        assert (facts["scale"], facts["zero_point"]) == (scale, zero) and facts["dtype"] == entry["dtype"].__name__
        assert info.details["quantised_outputs"][info.outputs[0].name]["scale"] == step
        assert facts["range"] == [(limits.min - zero) * scale, (limits.max - zero) * scale]
        np.testing.assert_array_equal(only(process.run({info.inputs[0].name: images})), expected)
        beyond = only(process.run({info.inputs[0].name: images * 1e6}))
        np.testing.assert_array_equal(beyond, only(process.run({info.inputs[0].name: np.sign(images) * 1e9})))


def test_details(folder: Path) -> None:
    with opened(folder / "int8.tflite") as process:
        details = process.info().details
    assert details["runtime"].startswith("ai-edge-litert ") and details["quantised"] and not details["stateful"]
    assert details["operators"]["CONV_2D"] == 3 and details["dtypes"]["int8"] == 5


def test_a_batch_is_what_its_samples_are_and_shapes_may_change(folder: Path, samples: tuple[Array, Array]) -> None:
    images = samples[0][:7]
    with opened(folder / "float.tflite") as process:
        name = process.info().inputs[0].name
        together = only(process.run({name: images}, batch=7))
        alone = only(process.run({name: images}, batch=1))
        again = only(process.run({name: images}, batch=3))
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, again, atol=1e-6)


def test_a_fixed_batch_is_declared_and_kept(folder: Path) -> None:
    with opened(folder / "lstm.tflite") as process:
        (entry,) = process.info().inputs
        assert entry.shape == [1, 8, 4]
        steps = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)
        together = only(process.run({entry.name: steps}))  # fed one by one
        assert together.shape == (3, 3)
        np.testing.assert_array_equal(only(process.run({entry.name: steps[1:2]}))[0], together[1])
        with pytest.raises(RuntimeCrash, match=r"takes \[1, 8, 4\], not \[3, 8, 4\]"):
            process.run({entry.name: steps}, batch=3)
        np.testing.assert_array_equal(only(process.run({entry.name: steps})), together)  # it recovers


def test_several_inputs_and_outputs(folder: Path) -> None:
    with opened(folder / "inputs.tflite") as process:
        info = process.info()
        feeds = {t.name: np.ones((2, int(t.shape[1])), np.float32) for t in info.inputs if t.shape}
        assert sorted(v.shape for v in process.run(feeds).values()) == [(2, 2), (2, 3)]
        with pytest.raises(InputDataError, match="expected inputs"):
            process.run({"left": np.ones((2, 4), np.float32)})


def test_without_optimisation_and_otherwise_threaded(folder: Path, samples: tuple[Array, Array]) -> None:
    images = samples[0][:4]
    with opened(folder / "int8.tflite") as usual, opened(folder / "int8.tflite", optimise=False) as plain:
        name = usual.info().inputs[0].name
        fast, slow = only(usual.run({name: images})), only(plain.run({name: images}))
        other = only(usual.start_run({name: images}, None, True, differently=True).result())
        np.testing.assert_array_equal(other, slow)
        assert 0 < np.abs(fast - slow).max() < 0.05  # other kernels round otherwise, by a few codes
        np.testing.assert_array_equal(only(usual.run({name: images})), fast)


def test_signatures_are_chosen_by_name(folder: Path) -> None:
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), np.float32)
    factor = np.linspace(1, 2, 4, dtype=np.float32)
    with opened(folder / "signatures.tflite", signature="add") as process:
        np.testing.assert_allclose(process.run({"a": a, "b": b})["total"], a + b * factor, rtol=1e-6)
    with opened(folder / "signatures.tflite", signature="scale") as process:
        np.testing.assert_allclose(process.run({"a": a})["scaled"], a * factor + 1, rtol=1e-6)
    with pytest.raises(UsageError, match="no signature 'mul'; the file has add, scale"), \
            opened(folder / "signatures.tflite", signature="mul"):
        pass


def test_what_a_model_keeps_is_reset_before_every_run(folder: Path) -> None:
    with opened(folder / "stateful.tflite") as process:
        assert process.info().details["stateful"]
        name = process.info().inputs[0].name
        ones = np.ones((3, 4), np.float32)
        np.testing.assert_array_equal(only(process.run({name: ones})), np.full((3, 4), 5.0))


def test_variable_tensors_are_reset_too(tmp_path: Path) -> None:
    path = tmp_path / "recurrent.tflite"
    path.write_bytes(recurrent())
    with opened(path) as process:
        assert process.info().details["stateful"]
        ones = np.ones((2, 5, 3), np.float32)
        for _ in range(2):
            np.testing.assert_array_equal(only(process.run({"x": ones})), np.cumsum(ones, axis=1))


def test_the_device_is_the_cpu(folder: Path) -> None:
    with pytest.raises(UsageError, match="runs on the cpu here, not on 'cuda'"), \
            opened(folder / "float.tflite", device="cuda"):
        pass


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("custom", RuntimeCrash, "MatrixInverse"),
        ("flex", ModelError, "FlexMatrixInverse.*Flex"),
        ("flex_file", UntrustedModel, "FlexReadFile touches files"),
    ],
)
def test_operators_that_are_missing_or_dangerous_are_named(
    folder: Path, name: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words), opened(folder / f"{name}.tflite"):
        pass


def test_a_delegate_that_cannot_be_loaded(folder: Path) -> None:
    with pytest.raises(UsageError, match="the delegate 'no_such_delegate' cannot be loaded"), \
            opened(folder / "float.tflite", provider="no_such_delegate"):
        pass


def test_damaged_files_never_reach_further_than_their_worker(folder: Path, tmp_path: Path) -> None:
    """Truncated, with flipped bytes and with lying offsets: each is refused, runs, or ends its own process."""
    whole = (folder / "int8.tflite").read_bytes()
    rng = np.random.default_rng(11)
    endings: set[type[Exception] | None] = set()
    for i in range(12):
        data = bytearray(whole)
        if i % 3 == 0:
            data = data[: int(rng.integers(8, len(data)))]
        else:
            at = rng.integers(8, len(data), 1 + 30 * (i % 3))
            for place in at:
                data[place] = rng.integers(256)
        path = tmp_path / f"{i}.tflite"
        path.write_bytes(data)
        try:
            with opened(path) as process:
                info = process.info()
                feeds = {t.name: np.zeros([1 if d is None or isinstance(d, str) else d for d in t.shape or []], t.dtype)
                         for t in info.inputs}  # fmt: skip
                process.run(feeds, batch=1)
                endings.add(None)
        except ModelError as error:
            assert str(path) in str(error)
            endings.add(type(error))
    assert UnreadableModel in endings


PROBE = """
import sys
from pathlib import Path
import numpy as np
from fetafix import formats
for path in sys.argv[1:]:
    model = formats.open(Path(path))
    model.run({t.name: np.zeros([1 if isinstance(d, str) else d for d in t.shape], t.dtype) for t in model.info.inputs})
print(sorted({m.split(".")[0] for m in sys.modules} & {"tensorflow", "keras", "torch", "tf2onnx", "jax"}))
"""


def test_opening_and_running_loads_no_tensorflow(folder: Path) -> None:
    files = [str(folder / f"{n}.tflite") for n in ("float", "int8", "lstm", "stateful")]
    run = subprocess.run([sys.executable, "-c", PROBE, *files], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
