from __future__ import annotations

import numpy as np
import pytest

from fetafix.errors import InputDataError
from fetafix.judge.binding import Binding, bind, by_content, normalise
from fetafix.judge.layouts import by_content as layout_by_content
from fetafix.judge.layouts import by_shape, inverse, similarity
from fetafix.report import ModelInfo, TensorInfo

RNG = np.random.default_rng(0)


def tensor(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=list(shape))


def ids(name: str, dtype: str = "int64") -> TensorInfo:
    return tensor(name, 1, 8, dtype=dtype)


def model(inputs: list[TensorInfo], outputs: list[TensorInfo] | None = None, path: str = "m.onnx") -> ModelInfo:
    return ModelInfo(path=path, format="onnx", inputs=inputs, outputs=outputs or [tensor("y", "N", 10)])


def only(found: tuple[Binding, ...]) -> Binding:
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("source", "target", "perm"),
    [
        ((1, 3, 224, 224), (1, 3, 224, 224), (0, 1, 2, 3)),
        ((1, 3, 224, 224), (1, 224, 224, 3), (0, 2, 3, 1)),
        ((1, 224, 224, 3), ("N", 3, 224, 224), (0, 3, 1, 2)),
        (("N", 3, "H", "W"), (8, "h", "w", 3), (0, 2, 3, 1)),
        ((1, 3, 240, 320), (1, 3, 320, 240), (0, 1, 3, 2)),
        ((1, 3, 3, 3), (1, 3, 3, 3), (0, 1, 2, 3)),
        ((4, 100), (1, 100), (0, 1)),
        ((1, 50, 8), (1, 8, 50), (0, 2, 1)),
        ((1, 1000), (1, 1001), None),
        ((1, 10), (1, 10, 1, 1), None),
    ],
)
def test_layout_by_shape(source: tuple[int, ...], target: tuple[int, ...], perm: tuple[int, ...] | None) -> None:
    assert by_shape(source, target) == perm


def test_layout_by_content_where_shapes_are_silent() -> None:
    x = RNG.normal(size=(2, 5, 5, 5)).astype(np.float32)
    for perm in [(0, 2, 3, 1), (0, 3, 1, 2)]:
        assert layout_by_content(x, x.transpose(perm)) == (1.0, perm)
        assert np.array_equal(x.transpose(perm).transpose(inverse(perm)), x)


def test_exchanged_height_and_width_are_no_layout() -> None:
    x = RNG.normal(size=(2, 3, 6, 6))
    assert layout_by_content(x, x.transpose(0, 1, 3, 2))[0] < 0.5
    y = RNG.normal(size=(2, 6, 6))
    assert layout_by_content(y, y.transpose(0, 2, 1))[0] < 0.5
    source, target = {"y": RNG.normal(size=(2, 3, 4, 6))}, {}
    target["y"] = source["y"].transpose(0, 1, 3, 2)
    assert not only(by_content(bind(interface(source), interface(target)), source, target).outputs).comparable


def test_similarity_is_about_values() -> None:
    x = RNG.normal(size=(4, 9)) + 100
    assert similarity(x, x) == 1.0
    assert similarity(x, RNG.normal(size=(4, 9)) + 100) < 0.3
    assert similarity(x, x * 3) < 0.5
    assert similarity(np.zeros(4), np.zeros(4)) == 1.0
    assert similarity(np.full(4, np.nan), np.zeros(4)) == 0.0


def test_inputs_by_name_then_similar_name_then_shape() -> None:
    source = model([ids("ids"), ids("mask"), tensor("image", 1, 3, 9, 9)])
    target = model([tensor("x", 1, 9, 9, 3), ids("serving_default_Mask:0"), ids("ids", "int32")])
    found = {b.target: (b.source, b.how, b.perm) for b in bind(source, target).inputs}
    assert found == {
        "x": ("image", "by shape", (0, 2, 3, 1)),
        "serving_default_Mask:0": ("mask", "by similar name", None),
        "ids": ("ids", "by name", None),
    }


def test_equal_shapes_without_names_go_by_order() -> None:
    found = bind(model([tensor("a", 1, 4), tensor("b", 1, 4)]), model([tensor("p", 1, 4), tensor("q", 1, 4)]))
    assert [(b.source, b.target, b.how) for b in found.inputs] == [("a", "p", "by order"), ("b", "q", "by order")]


def test_names_without_decoration() -> None:
    assert normalise("serving_default_input_1:0") == normalise("Input.1")
    assert normalise("x") != normalise("y")


def test_another_resolution_is_bound_and_left_to_each_models_own_data() -> None:
    found = only(bind(model([tensor("a", 1, 3, 224, 224)]), model([tensor("b", 1, 256, 256, 3)])).inputs)
    assert (found.perm, found.comparable) == ((0, 2, 3, 1), False)


@pytest.mark.parametrize(
    "inputs",
    [
        [tensor("x", 1, 16)],
        [tensor("x", 1, 3, 8, 8), tensor("more", 1, 4)],
        [tensor("x", 1, 3, 8, 8, dtype="string")],
        [],
    ],
)
def test_inputs_that_do_not_fit_are_an_error_that_shows_both(inputs: list[TensorInfo]) -> None:
    with pytest.raises(InputDataError) as caught:
        bind(model([tensor("pixels", 1, 3, 8, 8)], path="src.onnx"), model(inputs, path="dst.pt"))
    message = str(caught.value)
    assert "src.onnx" in message and "dst.pt" in message and "pixels float32[1, 3, 8, 8]" in message
    assert caught.value.exit_code == 2


def test_unused_source_inputs_are_told() -> None:
    found = bind(model([tensor("x", 1, 4), tensor("training", 1, 7)]), model([tensor("x", 1, 4)]))
    assert found.unused == ("training",)


def values(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def interface(outputs: dict[str, np.ndarray]) -> ModelInfo:
    return model([tensor("x", 1, 4)], [tensor(k, "N", *v.shape[1:]) for k, v in outputs.items()])


def test_outputs_by_content_across_order_names_and_layout() -> None:
    source = values(a=(4, 6), b=(4, 6), c=(4, 2, 3, 3))
    target = {"o0": source["c"].transpose(0, 2, 3, 1), "o1": source["b"], "o2": source["a"], **values(o3=(4, 6))}
    found = by_content(bind(interface(source), interface(target)), source, target)
    assert found.output_names == {"o2": "a", "o1": "b", "o0": "c"}
    assert found.extra == ("o3",) and not found.missing and not found.crossed
    for b in found.outputs:
        assert np.array_equal(b.to_source(target[b.target], source[b.source].shape), source[b.source])
        assert b.comparable
    assert {b.source: b.how for b in found.outputs}["a"] == "by content"


def test_swapped_names_are_evidence_not_rebound() -> None:
    source = values(boxes=(4, 6), scores=(4, 6))
    target = {"boxes": source["scores"], "scores": source["boxes"]}
    found = by_content(bind(interface(source), interface(target)), source, target)
    assert found.output_names == {"boxes": "boxes", "scores": "scores"}
    assert found.crossed == (("boxes", "boxes", "scores"), ("scores", "scores", "boxes"))


def test_a_wrong_output_is_not_called_crossed() -> None:
    source = values(boxes=(4, 6), scores=(4, 6))
    target = {"boxes": source["boxes"] * 7, "scores": source["scores"]}
    assert not by_content(bind(interface(source), interface(target)), source, target).crossed


def test_zero_outputs_keep_their_order() -> None:
    source = {"h": np.zeros((2, 4)), "c": np.zeros((2, 4))}
    target = {"o0": np.zeros((2, 4)), "o1": np.zeros((2, 4))}
    found = by_content(bind(interface(source), interface(target)), source, target)
    assert found.output_names == {"o0": "h", "o1": "c"}


@pytest.mark.parametrize("shape", [(4, 10, 1, 1), (4, 1, 10), (4, 5, 2)])
def test_outputs_told_apart_by_ones_or_flattening(shape: tuple[int, ...]) -> None:
    source = values(y=(4, 10))
    target = {"z": source["y"].reshape(shape)}
    found = only(by_content(bind(interface(source), interface(target)), source, target).outputs)
    assert found.comparable and found.reshaped
    assert np.array_equal(found.to_source(target["z"], (4, 10)), source["y"])


def test_another_number_of_classes_is_bound_but_not_comparable() -> None:
    source, target = values(y=(4, 1000)), values(y=(4, 1001))
    found = only(by_content(bind(interface(source), interface(target)), source, target).outputs)
    assert not found.comparable


def test_missing_outputs() -> None:
    source, target = values(a=(4, 6), b=(4, 3)), values(a=(4, 6))
    found = by_content(bind(interface(source), interface(target)), source, target)
    assert found.missing == ("b",)
