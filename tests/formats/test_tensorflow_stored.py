"""Where SavedModels and GraphDefs hold their weights: what is read is what TensorFlow reads, and struck files run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix.errors import UnreadableModel
from fetafix.formats import stored
from fetafix.formats.tensorflow import bundle, env
from fetafix.parallel import ModelProcess
from fetafix.storage.holding import Held

Zoo = Callable[[str], Path]


def weights(path: Path) -> dict[tuple[int, ...], Held]:
    return {h.shape: h for h in stored.held(path) if h.role == "weight"}


@pytest.mark.parametrize("model", ["keras", "lstm", "first_generation", "first_resource", "nested"])
def test_entries_of_a_checkpoint_are_those_that_tensorflow_finds(tfzoo: Zoo, model: str) -> None:
    prefix = tfzoo("tensorflow_models") / model / "variables" / "variables"
    reader = env.load().train.load_checkpoint(str(prefix))
    found = bundle.entries(prefix)
    assert sorted(found) == sorted(reader.get_variable_to_shape_map())
    for key, shape in reader.get_variable_to_shape_map().items():
        entry = found[key]
        assert list(entry.shape) == shape and entry.whole
        value = reader.get_tensor(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in "fi":
            with entry.path.open("rb") as file:
                file.seek(entry.offset)
                assert file.read(entry.size) == value.tobytes()


def test_a_long_table_has_many_blocks(tmp_path: Path) -> None:
    tf = env.load()
    value, names = np.arange(6, dtype=np.float32), [f"layer_{i:05d}/kernel" for i in range(9000)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.raw_ops.SaveV2(prefix=str(tmp_path / "v"), tensor_names=names,
                                      shape_and_slices=[""] * len(names), tensors=[tf.constant(value)] * len(names)))
    found = bundle.entries(tmp_path / "v")
    assert len({e.block for e in found.values()}) > 1 and sorted(found) == names
    shard, struck = found[names[0]].path, [found[names[i]] for i in (5, 8900)]
    data = bytearray(shard.read_bytes())
    for entry in struck:
        data[entry.offset] ^= 255
    shard.write_bytes(data)
    with pytest.raises(Exception, match="Checksum"):
        tf.train.load_checkpoint(str(tmp_path / "v")).get_tensor(struck[1].key)
    bundle.renew(shard, np.array([e.offset for e in struck[::-1]]))
    reader = tf.train.load_checkpoint(str(tmp_path / "v"))
    different = [k for k in names if reader.get_tensor(k).tobytes() != value.tobytes()]
    assert different == [e.key for e in struck]


@pytest.mark.parametrize(("model", "expected"), [
    ("keras", {(3, 3, 3, 8): 3, (3, 3, 8, 1): 2, (1, 1, 8, 4): 3, (108, 16): 1, (16, 5): 1}),
    ("frozen.pb", {(3, 3, 3, 8): 3, (3, 3, 8, 1): 2, (1, 1, 8, 4): 3, (108, 16): 1, (16, 5): 1}),
    ("two_outputs.pb", {(3, 3, 3, 6): 3, (24, 7): 1}),
    ("first_generation", {(3, 3, 2, 4): 3}),
    ("first_resource", {(3, 3, 2, 4): 3}),
    ("no_signature", {(4, 3): 1}),
    ("lstm", {(3, 16): None, (4, 16): None, (4, 2): 1}),
])
def test_weights_and_their_output_channels(tfzoo: Zoo, model: str, expected: dict[Any, Any]) -> None:
    found = stored.held(tfzoo("tensorflow_models") / model)
    assert {h.shape: h.axis for h in found if h.role == "weight"} == expected
    assert len({h.name for h in found}) == len(found)
    assert any(h.role == "constant" and len(h.shape) == 1 for h in found)


def test_a_second_copy_that_keras_saves_is_left_out(tfzoo: Zoo) -> None:
    """The checkpoint holds each variable twice; running the signature reads one of them."""
    path = tfzoo("tensorflow_models") / "keras"
    whole = sum(e.size for e in bundle.entries(path / "variables" / "variables").values() if len(e.shape) > 1)
    assert whole == 2 * sum(h.nbytes for h in weights(path).values())


def test_a_patched_savedmodel_runs(tfzoo: Zoo, tmp_path: Path) -> None:
    source, samples = tfzoo("convert") / "saved", np.load(tfzoo("convert") / "samples.npy")[:4]
    copy = stored.copy(source, tmp_path / "copies")
    head = [h for h in stored.held(copy) if h.shape in ((8, 6), (6,))]
    assert sorted(h.role for h in head) == ["constant", "weight"]
    stored.patch_all(head[0].path, [(h, stored.read(h) * np.float32(2)) for h in head])
    with ModelProcess(source) as process:
        feeds = {process.info().inputs[0].name: samples}
        expected = next(iter(process.run(feeds).values())) * 2
        process.reopen(copy)
        np.testing.assert_array_equal(next(iter(process.run(feeds).values())), expected)


def test_a_savedmodel_may_be_named_by_its_file(tfzoo: Zoo, tmp_path: Path) -> None:
    source = tfzoo("tensorflow_models") / "nested"
    copy = stored.copy(source / "saved_model.pb", tmp_path / "copies")
    assert copy.is_file() and [h.name for h in stored.held(copy)] == [h.name for h in stored.held(source)]
    assert all(h.path.is_relative_to(tmp_path) for h in stored.held(copy))


def test_a_patched_graphdef_holds_what_was_written(tfzoo: Zoo, tmp_path: Path) -> None:
    from tensorflow.core.framework import graph_pb2

    tf = env.load()
    copy = tmp_path / "copy.pb"
    shutil.copyfile(tfzoo("tensorflow_models") / "frozen.pb", copy)
    held = {h.name: h for h in stored.held(copy)}
    graph = graph_pb2.GraphDef.FromString(copy.read_bytes())
    constants = {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in graph.node if n.op == "Const"}
    for name, tensor in held.items():
        np.testing.assert_array_equal(stored.read(tensor), constants[name])
    kernel = weights(copy)[108, 16]
    stored.patch(copy, kernel, stored.read(kernel) * np.float32(3))
    graph = graph_pb2.GraphDef.FromString(copy.read_bytes())
    for node in graph.node:
        if node.op == "Const":
            factor = 3 if node.name == kernel.name else 1
            np.testing.assert_array_equal(tf.make_ndarray(node.attr["value"].tensor), constants[node.name] * factor)


def test_constants_are_those_of_the_graph_that_is_served(tmp_path: Path) -> None:
    tf = env.load().compat.v1
    builder = tf.saved_model.Builder(str(tmp_path / "model"))
    for tags, value in ((["train", "serve"], 5), (["serve"], 7)):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [None, 4])
            weight = tf.get_variable("w", initializer=np.ones((4, 3), np.float32))
            y = tf.matmul(tf.matmul(x, weight), tf.constant(np.eye(3, dtype=np.float32) + value, name="c"))
            signatures = {"serving_default": tf.saved_model.predict_signature_def({"x": x}, {"y": y})}
            if value == 5:
                session.run(tf.global_variables_initializer())
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()
    found = {h.name: h for h in stored.held(tmp_path / "model")}
    assert {n: (h.role, h.axis) for n, h in found.items()} == {"c": ("weight", 1), "w": ("weight", 1)}
    np.testing.assert_array_equal(stored.read(found["c"]), np.eye(3) + 7)


@pytest.mark.parametrize("keep", [0, 30, 200, -1])
def test_a_damaged_table_is_said(tfzoo: Zoo, tmp_path: Path, keep: int) -> None:
    shutil.copytree(tfzoo("tensorflow_models") / "nested", tmp_path / "model")
    index = tmp_path / "model" / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:keep] or b"\0")
    with pytest.raises(UnreadableModel, match=r"variables\.index: expected the table of a TensorFlow checkpoint"):
        stored.held(tmp_path / "model")
