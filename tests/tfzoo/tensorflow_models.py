"""SavedModels of both generations and frozen graphs: healthy, without what they need, and dangerous ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np


def make(folder: Path) -> None:
    """Write all models into `folder`."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    _module(tf, folder, rng)
    _keras(folder, rng)
    _nested(tf, folder, rng)
    _first_generation(tf, folder, rng)
    _frozen(tf, folder, rng)
    _recurrent(tf, folder, rng)
    _dangerous(tf, folder)
    _broken(folder)


def _module(tf: Any, folder: Path, rng: np.random.Generator) -> None:
    """Two signatures over one variable; no signature at all, with one function and with two."""

    class Scale(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(rng.normal(size=(4, 3)).astype("f"), name="weight")
            self.bias = tf.Variable(rng.normal(size=3).astype("f"), name="bias")

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"y": tf.nn.softmax(tf.matmul(x, self.weight) + self.bias)}

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float64, name="x")])
        def double(self, x: Any) -> Any:
            return {"logits": tf.matmul(tf.cast(x, tf.float32), self.weight), "x2": x * 2}

    both, one = Scale(), Scale()
    tf.saved_model.save(both, str(folder / "signatures"), {"first": both.__call__, "second": both.double})
    tf.saved_model.save(both, str(folder / "no_signature"))
    two = tf.Module()
    two.f, two.g = one.double, tf.function(one.double.python_function, input_signature=one.double.input_signature)
    two.one = one
    tf.saved_model.save(two, str(folder / "two_functions"))


def _cnn(rng: np.random.Generator) -> Any:
    import keras

    layers = keras.layers
    start = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(start)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(max_value=6.0, name="relu6")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.BatchNormalization(name="norm2")(y)
    y = layers.LeakyReLU(negative_slope=0.2, name="leaky")(y)
    x = layers.Add(name="residual")([x, y])
    x = layers.Concatenate(name="join")([x, layers.Conv2D(4, 1, activation="relu", name="point")(x)])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    x = layers.Dense(5, activation="softmax", name="head")(x)
    model = keras.Model(start, x)
    for weight in model.weights:
        shape = weight.shape
        spread = 1.0 if len(shape) < 2 else (2.0 / np.prod(shape[:-1])) ** 0.5
        value = rng.normal(size=shape) * spread
        weight.assign(np.abs(value) + 0.3 if "variance" in weight.name or "gamma" in weight.name else value)
    return model


def _keras(folder: Path, rng: np.random.Generator) -> None:
    _cnn(rng).export(folder / "keras", verbose=False)


def _nested(tf: Any, folder: Path, rng: np.random.Generator) -> None:
    """Functions that call functions, one of them twice."""

    class Outer(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(3, 3, 2, 2)).astype("f") * 0.4)

        @tf.function
        def block(self, x: Any, scale: Any) -> Any:
            return tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "SAME")) * scale

        @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 2), tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"a": self.block(self.block(x, 0.5), 2.0), "b": tf.reduce_mean(x, (1, 2))}

    model = Outer()
    tf.saved_model.save(model, str(folder / "nested"), {"serving_default": model.__call__})


def _first_generation(tf: Any, folder: Path, rng: np.random.Generator) -> None:
    """A SavedModel of TensorFlow 1: sessions, variables by name, a SignatureDef."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        for resource, name in ((False, "first_generation"), (True, "first_resource")):
            with v1.variable_scope(name, use_resource=resource):
                x = v1.placeholder(tf.float32, (None, 8, 8, 2), name="x")
                kernel = v1.get_variable("kernel", initializer=rng.normal(size=(3, 3, 2, 4)).astype("f") * 0.3)
                bias = v1.get_variable("bias", initializer=rng.normal(size=4).astype("f"))
                y = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias), name="y")
                z = tf.reduce_mean(y, (1, 2), name="z")
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(folder / name), {"x": x}, {"features": y, "mean": z})


def _frozen(tf: Any, folder: Path, rng: np.random.Generator) -> None:
    """Frozen graphs: a network, one with a fused BatchNormalization and leftovers, one of two outputs."""
    from tests.tfzoo.freezing import frozen

    model = _cnn(rng)
    made = frozen(lambda image: model(image, training=False), (None, 12, 12, 3))
    (folder / "frozen.pb").write_bytes(made)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 10, 10, 3), name="x")
        y = tf.nn.conv2d(x, rng.normal(size=(3, 3, 3, 6)).astype("f") * 0.3, 2, "VALID", name="conv")
        gamma, variance = rng.uniform(0.5, 1.5, (2, 6)).astype("f")
        beta, mean = rng.normal(size=(2, 6)).astype("f")
        y = tf.compat.v1.nn.fused_batch_norm(y, gamma, beta, mean, variance, 1e-3, is_training=False, name="norm")[0]
        y = tf.nn.relu6(y, name="act")
        y = tf.nn.avg_pool2d(y, 2, 2, "SAME", name="pool")
        tf.reduce_mean(y, (1, 2), name="mean")
        flat = tf.reshape(y, (-1, 24), name="flat")
        tf.nn.softmax(tf.matmul(flat, rng.normal(size=(24, 7)).astype("f"), name="fc"), name="probs")
        tf.no_op("leftover")
        tf.debugging.assert_greater(tf.shape(x)[0], 0, name="check")
    (folder / "two_outputs.pb").write_bytes(graph.as_graph_def().SerializeToString())


def _recurrent(tf: Any, folder: Path, rng: np.random.Generator) -> None:
    """An LSTM, which is a loop over a function that reads variables."""
    import keras

    start = keras.Input((5, 3), name="sequence")
    model = keras.Model(start, keras.layers.Dense(2)(keras.layers.LSTM(4)(start)))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    model.export(folder / "lstm", verbose=False)


def _dangerous(tf: Any, folder: Path) -> None:
    """Graphs that write a file, in plain sight, inside a branch of a function, and while being loaded."""

    class Writes(tf.Module):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            super().__init__()
            self.path = str(path)

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            if tf.reduce_sum(x) > -1e9:
                tf.io.write_file(self.path, "written")
            return {"y": x + 1.0}

    model = Writes(folder / "evidence")
    tf.saved_model.save(model, str(folder / "writes"), {"serving_default": model.__call__})
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 2), name="x")
        y = tf.compat.v1.py_func(lambda a: a, [x], tf.float32, name="python")
        tf.identity(y, name="y")
    (folder / "python.pb").write_bytes(graph.as_graph_def().SerializeToString())
    graph_def = tf.compat.v1.GraphDef()
    graph_def.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    graph_def.node.add(name="y", op="MyCompanysOperator", input=["x"])
    (folder / "custom.pb").write_bytes(graph_def.SerializeToString())


def _broken(folder: Path) -> None:
    """Files cut off, variables gone, a graph in text form, an empty folder."""
    good = folder / "signatures"
    for name in ("truncated", "no_variables", "no_data", "short_data"):
        shutil.copytree(good, folder / name)
    graph = folder / "truncated" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-200])
    shutil.rmtree(folder / "no_variables" / "variables")
    next((folder / "no_data" / "variables").glob("*.data-*")).unlink()
    data = next((folder / "short_data" / "variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:20])
    (folder / "empty").mkdir()
    (folder / "text").mkdir()
    (folder / "text" / "saved_model.pbtxt").write_text("saved_model_schema_version: 1\nmeta_graphs {\n}\n")
    (folder / "graph.pbtxt").write_text('node {\n  name: "x"\n  op: "Placeholder"\n}\n')
    (folder / "part").mkdir()
    (folder / "part" / "keras_metadata.pb").write_bytes(b"\x0a\x00")
    (folder / "cut.pb").write_bytes((folder / "frozen.pb").read_bytes()[:-1000])
